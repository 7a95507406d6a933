//! Verbs about the past.

mod diff;

super::verbs! {
    Diff(diff::Args) => diff,
}
