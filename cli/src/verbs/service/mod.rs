//! Verbs about services.

mod create;
mod explain;
mod inspect;
mod logs;
mod ls;
mod pause;
mod resume;
mod revisions;
mod rm;
mod rollback;
mod scale;
mod update;
mod wait;

super::verbs! {
    Create(Box<create::Args>) => create,
    Ls(ls::Args) => ls,
    Inspect(inspect::Args) => inspect,
    Explain(explain::Args) => explain,
    Update(Box<update::Args>) => update,
    Scale(scale::Args) => scale,
    #[command(alias = "log")]
    Logs(logs::Args) => logs,
    Rollback(rollback::Args) => rollback,
    Revisions(revisions::Args) => revisions,
    Pause(pause::Args) => pause,
    Resume(resume::Args) => resume,
    Wait(wait::Args) => wait,
    #[command(alias = "remove")]
    Rm(rm::Args) => rm,
}
