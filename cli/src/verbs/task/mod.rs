//! Verbs about tasks.

mod inspect;
mod ls;
mod rm;

super::verbs! {
    Ls(ls::Args) => ls,
    Inspect(inspect::Args) => inspect,
    #[command(alias = "remove")]
    Rm(rm::Args) => rm,
}
