//! Verbs about tasks.

mod explain;
mod inspect;
mod ls;
mod rm;

super::verbs! {
    Ls(ls::Args) => ls,
    Inspect(inspect::Args) => inspect,
    Explain(explain::Args) => explain,
    #[command(alias = "remove")]
    Rm(rm::Args) => rm,
}
