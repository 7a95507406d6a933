//! Verbs about the machines of the cluster.

mod activate;
mod change;
mod demote;
mod drain;
mod inspect;
mod leave;
mod ls;
mod pause;
mod promote;
mod ps;
mod rm;
mod update;

super::verbs! {
    Ls(ls::Args) => ls,
    Inspect(inspect::Args) => inspect,
    Ps(ps::Args) => ps,
    Update(update::Args) => update,
    Activate(activate::Args) => activate,
    Pause(pause::Args) => pause,
    Drain(drain::Args) => drain,
    Promote(promote::Args) => promote,
    Demote(demote::Args) => demote,
    Leave(leave::Args) => leave,
    #[command(alias = "remove")]
    Rm(rm::Args) => rm,
}
