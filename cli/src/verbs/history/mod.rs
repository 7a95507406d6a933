//! Verbs about the past.

mod archive;
mod diff;
mod tag;
mod tags;
mod untag;
mod verify;

super::verbs! {
    Archive(archive::Args) => archive,
    Diff(diff::Args) => diff,
    Tag(tag::Args) => tag,
    Tags(tags::Args) => tags,
    Untag(untag::Args) => untag,
    Verify(verify::Args) => verify,
}
