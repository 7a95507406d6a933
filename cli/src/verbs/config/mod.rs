//! Verbs about configs.

mod create;
mod inspect;
mod ls;
mod rm;

super::verbs! {
    Create(create::Args) => create,
    Ls(ls::Args) => ls,
    Inspect(inspect::Args) => inspect,
    #[command(alias = "remove")]
    Rm(rm::Args) => rm,
}
