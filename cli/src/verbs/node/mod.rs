//! Verbs about the machines of the cluster.

mod activate;
mod change;
mod drain;
mod inspect;
mod ls;
mod pause;
mod rm;
mod update;

super::verbs! {
    Ls(ls::Args) => ls,
    Inspect(inspect::Args) => inspect,
    Update(update::Args) => update,
    Activate(activate::Args) => activate,
    Pause(pause::Args) => pause,
    Drain(drain::Args) => drain,
    #[command(alias = "remove")]
    Rm(rm::Args) => rm,
}
