//! Verbs about tasks.

mod attach;
mod cp;
mod exec;
pub(super) mod explain;
mod history;
mod inspect;
mod logs;
mod ls;
mod rm;
mod stats;

super::verbs! {
    Ls(ls::Args) => ls,
    Inspect(inspect::Args) => inspect,
    Explain(explain::Args) => explain,
    #[command(alias = "log")]
    Logs(logs::Args) => logs,
    Stats(stats::Args) => stats,
    Exec(exec::Args) => exec,
    Attach(attach::Args) => attach,
    Cp(cp::Args) => cp,
    History(history::Args) => history,
    #[command(alias = "remove")]
    Rm(rm::Args) => rm,
}
