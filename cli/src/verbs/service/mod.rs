//! Verbs about services.

mod create;
mod edit;
pub(super) mod explain;
mod export;
mod inspect;
mod logs;
mod ls;
mod pause;
mod ps;
mod resume;
mod revisions;
mod rm;
mod rollback;
mod scale;
mod stats;
mod update;
mod wait;

super::verbs! {
    Create(Box<create::Args>) => create,
    Ls(ls::Args) => ls,
    Inspect(inspect::Args) => inspect,
    Explain(explain::Args) => explain,
    Ps(ps::Args) => ps,
    Export(export::Args) => export,
    Update(Box<update::Args>) => update,
    Edit(edit::Args) => edit,
    Scale(scale::Args) => scale,
    #[command(alias = "log")]
    Logs(logs::Args) => logs,
    Stats(stats::Args) => stats,
    Rollback(rollback::Args) => rollback,
    Revisions(revisions::Args) => revisions,
    Pause(pause::Args) => pause,
    Resume(resume::Args) => resume,
    Wait(wait::Args) => wait,
    #[command(alias = "remove")]
    Rm(rm::Args) => rm,
}
