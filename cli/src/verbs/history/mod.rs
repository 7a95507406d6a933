//! Verbs about the past.

mod diff;
mod tag;
mod tags;
mod untag;

super::verbs! {
    Diff(diff::Args) => diff,
    Tag(tag::Args) => tag,
    Tags(tags::Args) => tags,
    Untag(untag::Args) => untag,
}
