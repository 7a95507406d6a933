//! Verbs about nodes.

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

use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// Refers to the node that answers, as in Docker.
const SELF: &str = "self";

/// Replaces `self` by the id of the node that answers.
async fn named<M: Manager>(references: &[String], session: &mut Session<'_, M>) -> Result<Vec<String>, Failure> {
    let mut named = references.to_vec();
    if named.iter().any(|of| of == SELF) {
        let own = session.manager.version().await?.node_id;
        named.iter_mut().filter(|of| *of == SELF).for_each(|of| of.clone_from(&own));
    }
    Ok(named)
}

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
