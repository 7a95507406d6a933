//! Verbs about the cluster itself.

mod inspect;
mod ls;
mod update;

super::verbs! {
    Ls(ls::Args) => ls,
    Inspect(inspect::Args) => inspect,
    Update(update::Args) => update,
}
