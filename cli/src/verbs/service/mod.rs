//! Verbs about services.

mod create;
mod inspect;
mod ls;
mod rm;
mod scale;
mod update;

super::verbs! {
    Create(Box<create::Args>) => create,
    Ls(ls::Args) => ls,
    Inspect(inspect::Args) => inspect,
    Update(Box<update::Args>) => update,
    Scale(scale::Args) => scale,
    #[command(alias = "remove")]
    Rm(rm::Args) => rm,
}
