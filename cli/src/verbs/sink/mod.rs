//! Verbs about sinks.

mod create;
mod inspect;
mod ls;
mod pause;
mod resume;
mod rm;

super::verbs! {
    Create(Box<create::Args>) => create,
    Ls(ls::Args) => ls,
    Inspect(inspect::Args) => inspect,
    Pause(pause::Args) => pause,
    Resume(resume::Args) => resume,
    #[command(alias = "remove")]
    Rm(rm::Args) => rm,
}
