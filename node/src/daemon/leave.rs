//! `swarmd leave`: removes a node whose daemon is not running from its cluster.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wire::v1::{Refusal, RefusalKind};

use crate::daemon::config::STATE_DIR;
use crate::daemon::failure::{Failure, code};
use crate::daemon::start_settings::StartSettings;
use crate::daemon::state_dir::StateDir;
use crate::daemon::{joining, leaving, run, unlock};
use crate::security::{CertificateStore, Credentials, Subject};
use crate::{agent, clock};

/// How long the demotion of a manager may take before it can leave.
const DEMOTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Delay before a manager that is being demoted asks again.
const PAUSE: Duration = Duration::from_millis(500);

/// The arguments of `swarmd leave`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The node's state directory.
    #[arg(short = 'd', long, default_value = STATE_DIR)]
    pub state_dir: PathBuf,
    /// Leave without the managers' consent, even if none of them answers; containers that cannot be removed stay.
    #[arg(short, long)]
    pub force: bool,
    /// File with the cluster's unlock key, if the manager's keys are locked.
    #[arg(long, value_name = "PATH")]
    pub unlock_key_file: Option<PathBuf>,
}

/// Removes a node whose daemon is not running from its cluster, removes its tasks, and empties its state directory.
///
/// # Errors
/// When it is not a member, the managers do not let it leave, or something of it cannot be removed.
pub async fn leave(args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    let dir = args.state_dir.as_path();
    // Opening would create a missing directory.
    if !dir.is_dir() || !leaving::has_note(dir)? && matches!(CertificateStore::new(dir).subject(), Ok(None)) {
        return Err(no_member(dir));
    }
    let state_dir = StateDir::open_unused(dir, "`swarmctl node leave` asks it to leave; or stop it first")?;
    if let Some(file) = &args.unlock_key_file {
        state_dir.keys().set(Some(unlock::read_key(file)?));
    }
    let certificates = CertificateStore::new(dir).locked_by(Arc::clone(state_dir.keys()));
    let subject = certificates.subject();
    if !leaving::has_note(dir)? {
        let consent = match &subject {
            Ok(Some(_)) => ask(&state_dir, &certificates).await,
            Ok(None) => Err(no_member(dir)),
            Err(error) => Err(Failure::new(error, "leave with --force: the certificate is then not used")),
        };
        match consent {
            Ok(()) => {}
            Err(failure) if args.force => tell(out, &format!("leaving by force: {}", failure.sentence))?,
            Err(failure) => return Err(failure),
        }
        leaving::write_note(dir)?;
    }
    match sweep(&state_dir, subject.ok().flatten()).await {
        Err(failure) if args.force => tell(out, &failure.sentence)?,
        swept => swept?,
    }
    leaving::empty(dir)?;
    tell(out, &format!("the node has left its cluster; with a join token, {} can join again", dir.display()))
}

fn tell(out: &mut impl Write, line: &str) -> Result<(), Failure> {
    let written = writeln!(out, "{}", events::escape::line(line));
    written.map_err(|error| Failure::new(format!("cannot write the result: {error}"), ""))
}

fn no_member(dir: &Path) -> Failure {
    let sentence = format!("{} is not the state directory of a member of a cluster", dir.display());
    let hint = "give that of the node with --state-dir";
    Failure::new(sentence, hint).with_code(code::USAGE)
}

/// Asks the managers that the node knows until it has left.
async fn ask(state_dir: &StateDir, certificates: &CertificateStore) -> Result<(), Failure> {
    let credentials = Credentials::new(certificates.load(clock::now())?).map_err(|error| Failure::new(error, ""))?;
    let (credentials, managers, started) = (Arc::new(credentials), managers(state_dir)?, Instant::now());
    while !leaving::ask(&credentials, &managers, Some("`swarmd leave` at the node"))
        .await
        .map_err(|refusal| failure(*refusal))?
    {
        if started.elapsed() > DEMOTION_TIMEOUT {
            let sentence = "timed out waiting for the other managers to remove this one";
            return Err(Failure::new(
                sentence,
                "`swarmctl raft` on one of them shows why; then try again, or leave with --force",
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

fn failure(Refusal { sentence, hint, kind, .. }: Refusal) -> Failure {
    let code = match RefusalKind::try_from(kind) {
        Ok(RefusalKind::Unavailable) => code::UNREACHABLE,
        Ok(_) | Err(_) => code::NOT_ALLOWED,
    };
    Failure::new(sentence, hint.unwrap_or_default()).with_code(code)
}

/// The managers in the store of the node's agent, or in the note of a pending join.
fn managers(state_dir: &StateDir) -> Result<Vec<String>, Failure> {
    let dir = state_dir.path();
    let mut managers = agent::known_managers(dir, state_dir.keys()).map_err(agent::unusable_store)?;
    managers.extend(joining::read_note(dir)?.unwrap_or_default());
    managers.extend(run::Managers::load(state_dir, None).ok().map(|known| known.first));
    managers.dedup();
    Ok(managers)
}

/// Removes the tasks of the node with the executor of its last start.
async fn sweep(state_dir: &StateDir, subject: Option<Subject>) -> Result<(), Failure> {
    // Without a certificate it is unknown which containers belong to the node.
    let Some(subject) = subject else { return Ok(()) };
    let settings = StartSettings::load(state_dir.path())?.unwrap_or_default();
    leaving::sweep(run::executor(&settings, state_dir.path(), false)?.as_ref(), subject).await
}
