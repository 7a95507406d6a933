//! Verbs about the past.

mod archive;
mod diff;
mod redact;
mod tag;
mod tags;
mod untag;
mod verify;

super::verbs! {
    Archive(archive::Args) => archive,
    Diff(diff::Args) => diff,
    Redact(redact::Args) => redact,
    Tag(tag::Args) => tag,
    Tags(tags::Args) => tags,
    Untag(untag::Args) => untag,
    Verify(verify::Args) => verify,
}
