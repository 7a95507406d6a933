//! Unlocks a manager whose keys are locked: with the unlock key from a file, or by waiting for an operator at its control
//! socket.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use wire::v1::lock_server::{Lock, LockServer};
use wire::v1::{Refusal, RefusalKind, UnlockReply, UnlockRequest};
use zeroize::Zeroizing;

use crate::daemon::failure::{Failure, code};
use crate::daemon::serve;
use crate::daemon::single_call::SingleCallLayer;
use crate::daemon::state_dir::{self, StateDir};
use crate::security::seal::{self, DataKeys, SealError};
use crate::security::{CertificateStore, KeyLock, Limits, UnlockKey, incoming_local};

/// Maximum bytes of the file: a key has 52.
const FILE_BYTES_MAX: u64 = 4 * 1024;
/// Mode bits that let users other than the owner read a file.
const READABLE_BY_OTHERS: u32 = 0o044;
/// The only call that a locked manager serves.
const UNLOCK: &str = "/swarmlog.wire.v1.Lock/Unlock";

/// Unlocks the keys of a state directory, if they are locked. Returns `false` if the process is stopped before.
///
/// # Errors
/// When the unlock key is wrong, or the control socket cannot be used.
pub async fn unlock(
    dir: &StateDir,
    key_file: Option<&Path>,
    socket: &Path,
    shutdown: &CancellationToken,
) -> Result<bool, Failure> {
    let locked = LockedKeys::of(dir);
    if !locked.are_there()? {
        return Ok(true);
    }
    if let Some(file) = key_file {
        locked.open(read_key(file)?).map_err(|why| {
            Failure::new(format!("{}: {why}", file.display()), WRONG_KEY_HINT).with_code(code::NOT_ALLOWED)
        })?;
        return Ok(true);
    }
    tracing::warn!("this manager is locked: it does nothing until it is unlocked with `swarmctl cluster unlock`");
    serve_locked(locked, socket, shutdown).await?;
    Ok(!shutdown.is_cancelled())
}

const WRONG_KEY_HINT: &str = "`swarmctl cluster unlock-key` on a manager that runs shows the present key";

/// Reads the unlock key from a file that no other user can read.
///
/// # Errors
/// When it cannot be read, others can read it, or it contains no key.
pub fn read_key(path: &Path) -> Result<UnlockKey, Failure> {
    let cannot = |why: String| {
        let hint = "name a file that holds nothing but the key, with mode 600, and that the user of swarmd may read";
        Failure::new(format!("the unlock key file {} cannot be used: {why}", path.display()), hint)
            .with_code(code::USAGE)
    };
    let file = File::open(path).map_err(|error| cannot(error.to_string()))?;
    if file.metadata().map_err(|error| cannot(error.to_string()))?.mode() & READABLE_BY_OTHERS != 0 {
        return Err(cannot("other users can read it".to_owned()));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| cannot(error.to_string()))?;
    text.parse().map_err(|error: crate::security::ParseUnlockKeyError| cannot(error.to_string()))
}

/// The possibly locked keys of a state directory: those of the log, and that of the node, which is the only one while a manager
/// has no log yet.
struct LockedKeys {
    log: PathBuf,
    node: CertificateStore,
    lock: Arc<KeyLock>,
}

impl LockedKeys {
    fn of(dir: &StateDir) -> Self {
        let log = state_dir::log(dir.path()).join(seal::LOG_KEY);
        Self { log, node: CertificateStore::new(dir.path()), lock: Arc::clone(dir.keys()) }
    }

    fn are_there(&self) -> Result<bool, Failure> {
        Ok(seal::is_wrapped(&self.log) || self.node.is_locked()?)
    }

    /// Unlocks the keys with this unlock key, and stores it if it is correct. The log's keys decide: the process may have been
    /// stopped before the node's key was rewrapped as well.
    fn open(&self, key: UnlockKey) -> Result<(), String> {
        let opens = match seal::is_wrapped(&self.log) {
            true => match DataKeys::load(&self.log, false, Some(&key)) {
                Ok(_) => true,
                Err(SealError::Locked(_)) => false,
                Err(error) => return Err(error.to_string()),
            },
            false => self.node.opens_with(&key).map_err(|error| error.to_string())?,
        };
        if !opens {
            return Err("this is not the unlock key of this manager".to_owned());
        }
        self.lock.set(Some(key));
        Ok(())
    }
}

/// Serves the only call of a locked manager until it is made with the correct key.
async fn serve_locked(keys: LockedKeys, socket: &Path, shutdown: &CancellationToken) -> Result<(), Failure> {
    let (listener, file) = serve::bind_control(socket).await?;
    let unlocked = shutdown.child_token();
    let api = LockServer::new(Locked { keys, unlocked: unlocked.clone() });
    let incoming = incoming_local(listener, Limits::of_descriptors(LOCKED_DESCRIPTORS), Arc::default());
    let server =
        serve::control_server().layer(SingleCallLayer { path: UNLOCK, refusal: Arc::new(locked) }).add_service(api);
    let served = server.serve_with_incoming_shutdown(incoming, unlocked.cancelled_owned()).await;
    drop(file);
    served.map_err(|error| Failure::new(format!("the control socket failed: {error}"), "start swarmd again"))
}

/// The response of a locked manager to every other call.
fn locked() -> Refusal {
    let sentence = "this manager is locked: it was restarted, and its keys need the cluster's unlock key".to_owned();
    let hint = "unlock it with `swarmctl cluster unlock`, or start swarmd with --unlock-key-file";
    Refusal {
        kind: RefusalKind::Unavailable.into(),
        subject: "manager".to_owned(),
        sentence,
        hint: Some(hint.to_owned()),
    }
}

/// File descriptors of a locked manager, which only a few operators call.
const LOCKED_DESCRIPTORS: usize = 256;

/// The service of a locked manager.
struct Locked {
    keys: LockedKeys,
    unlocked: CancellationToken,
}

#[tonic::async_trait]
impl Lock for Locked {
    async fn unlock(&self, request: Request<UnlockRequest>) -> Result<Response<UnlockReply>, Status> {
        let wrong = |why: String| refusal(RefusalKind::Forbidden, "unlock key", why, WRONG_KEY_HINT);
        let key: UnlockKey = request
            .get_ref()
            .unlock_key
            .parse()
            .map_err(|error: crate::security::ParseUnlockKeyError| wrong(error.to_string()))?;
        self.keys.open(key).map_err(wrong)?;
        tracing::info!("this manager was unlocked");
        self.unlocked.cancel();
        Ok(Response::new(UnlockReply {}))
    }
}

/// The service of a manager whose keys are not locked.
pub struct NotLocked;

#[tonic::async_trait]
impl Lock for NotLocked {
    async fn unlock(&self, _: Request<UnlockRequest>) -> Result<Response<UnlockReply>, Status> {
        let hint = "nothing needs to be done";
        Err(refusal(RefusalKind::Conflict, "manager", "this manager is not locked".to_owned(), hint))
    }
}

fn refusal(kind: RefusalKind, subject: &str, sentence: String, hint: &str) -> Status {
    Refusal { kind: kind.into(), subject: subject.to_owned(), sentence, hint: Some(hint.to_owned()) }.into()
}
