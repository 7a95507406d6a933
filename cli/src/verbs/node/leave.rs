//! `swarmctl node leave`.

use std::time::Duration;

use wire::v1::LeaveClusterRequest;

use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::session::Session;

/// How long to wait until a manager is demoted.
const DEMOTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Delay before a manager that is being demoted is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// Remove the node at this control socket from its cluster
///
/// Its tasks are removed, and started on other nodes; run `swarmctl node drain` first to stop them gracefully. The state
/// directory is emptied, and swarmd exits. A manager is demoted first, and refuses if the remaining managers would have no
/// quorum. If swarmd is not running on the node, use `swarmd leave`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave even if the managers refuse or none of them answers; if the last manager leaves, the cluster is gone
    #[arg(short, long)]
    force: bool,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session
        .refuse_trial("the node itself asks the managers; try `swarmctl node drain` or `swarmctl node rm` instead")?;
    let started = session.env.clock.now();
    let mut demoted = false;
    loop {
        let request = LeaveClusterRequest { force: args.force, reason: session.globals.reason.clone() };
        match session.manager.leave(request).await {
            Ok(reply) if reply.left => {
                return session.line("the node has left; its swarmd removes its tasks and exits");
            }
            Ok(_) if !demoted => {
                session.note("this manager is demoted first")?;
                demoted = true;
            }
            Ok(_) => {}
            // The control socket is closed with the manager, and opened again by the worker.
            Err(failure) if demoted && matches!(failure.kind, Kind::Unreachable | Kind::Stopped) => {}
            Err(failure) => return Err(failure),
        }
        if session.env.clock.now().since(started) > DEMOTION_TIMEOUT {
            let failure = Failure::new(Kind::TimedOut, "timed out demoting this manager");
            return Err(failure.hint("`swarmctl raft` shows why; ask again, or leave with --force"));
        }
        session.env.clock.sleep(PAUSE).await;
    }
}
