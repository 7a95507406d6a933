//! `swarmd restore`: creates the state directory of a manager from a backup.
//!
//! The log is built in a temporary place and moved once it is complete and durable: an interrupted restore leaves nothing that a
//! start would take for a log. Memory is bounded by a page of history, whatever the size of the backup, and by the restored
//! state.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use commands::{Actor, Rejection};
use events::redaction::{self, Unannounced};
use events::{ClusterId, Id, NodeId, Role, SecretText, Timestamp, VolatilePayload, codec};

use super::record::{End, Head, Record};
use super::sealed::Opener;
use super::{BackupError, PASSPHRASE_BYTES_MIN};
use crate::clock;
use crate::control::command::new_join_token;
use crate::daemon::autolock;
use crate::daemon::failure::{Failure, code};
use crate::daemon::leaving;
use crate::daemon::state_dir::{self, StateDir};
use crate::daemon::state_dir_kind::{Leftover, StateDirKind};
use crate::log::{CheckpointHead, FrameLink, HardState, Install, LogError, LogStore, Membership, Permits, RocksStore};
use crate::manager::{alone, core};
use crate::security::{CertificateStore, UnlockKey};

/// The temporary directory in which the log is built.
const UNFINISHED: &str = "raft.restoring";
/// The actor in history for the requests of a restore: any user who can write the state directory.
const OPERATOR: &str = "swarmd restore";
/// How often progress is shown.
const SHOWN_EVERY: Duration = Duration::from_secs(2);

/// Arguments of `swarmd restore`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The backup.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The state directory to create; it must be empty.
    #[arg(short = 'd', long, default_value = crate::daemon::config::STATE_DIR)]
    pub state_dir: PathBuf,
    /// File with the passphrase of the backup.
    #[arg(long, value_name = "PATH")]
    pub passphrase_file: PathBuf,
    /// Restore it as another cluster with a new id, for a copy beside the original. Nodes of the original cannot join.
    #[arg(long)]
    pub new_cluster_id: bool,
    /// Create new join tokens; those in the backup are no longer valid.
    #[arg(long)]
    pub rotate_tokens: bool,
}

/// The result of a restore.
struct Restored {
    head: Head,
    end: End,
    node: NodeId,
    /// Whether its keys are wrapped with the cluster's unlock key.
    locked: bool,
}

/// Creates a manager's state directory from a backup, and reports progress.
///
/// # Errors
/// When the file is not a complete backup, the passphrase is wrong, or the directory is not empty.
pub async fn restore(args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    clock::require_sane()?;
    let passphrase = passphrase(&args.passphrase_file)?;
    let state_dir = StateDir::open(&args.state_dir)?;
    require_empty(&state_dir)?;
    let unfinished = state_dir.path().join(UNFINISHED);
    discard(&unfinished)?;
    let built = build(args, &passphrase, &unfinished, out).await;
    let restored = match built {
        Ok(restored) => restored,
        Err(failure) => {
            discard(&unfinished)?;
            return Err(failure);
        }
    };
    put_in_place(&unfinished, &state_dir::log(state_dir.path()))?;
    leaving::remove_note(state_dir.path())?;
    let Restored { head, end, node, locked } = restored;
    let dir = state_dir.path().display();
    let unlock =
        "its keys are wrapped with the unlock key that the cluster had: give that to `swarmctl cluster unlock`\n";
    let summary = format!(
        "restored frame {} of cluster {}: {} frames and {} secrets, as manager {} ({node})\n\
         start it with `swarmd --state-dir {dir}` and the flags of that manager, such as its addresses\n{}",
        head.index,
        head.cluster,
        end.frames,
        end.secrets,
        head.hostname,
        if locked { unlock } else { "" },
    );
    out.write_all(summary.as_bytes()).map_err(|error| Failure::new(format!("cannot write the result: {error}"), ""))
}

/// The passphrase in a file, without the trailing newline.
fn passphrase(path: &Path) -> Result<SecretText, Failure> {
    let passphrase = File::open(path).and_then(wire::read_passphrase).map_err(|error| {
        let sentence = format!("the passphrase cannot be read: {}: {error}", path.display());
        let hint = "set --passphrase-file to a readable file that contains only the passphrase";
        Failure::new(sentence, hint).with_code(code::USAGE)
    })?;
    if passphrase.0.len() < PASSPHRASE_BYTES_MIN {
        let sentence = format!("{} holds no passphrase of at least {PASSPHRASE_BYTES_MIN} bytes", path.display());
        return Err(Failure::new(sentence, "give the passphrase of the backup").with_code(code::USAGE));
    }
    Ok(passphrase)
}

fn require_empty(state_dir: &StateDir) -> Result<(), Failure> {
    let certificates = CertificateStore::new(state_dir.path());
    let whose = match StateDirKind::of(state_dir.path(), &certificates, clock::now())? {
        StateDirKind::Free | StateDirKind::Leftover(Leftover::Left) => return Ok(()),
        StateDirKind::Leftover(Leftover::Join | Leftover::Leaving | Leftover::AllBut(_)) => "is left of a node",
        StateDirKind::Worker => "belongs to a worker",
        StateDirKind::Joining => "belongs to a manager that was joining a cluster",
        StateDirKind::Manager => "belongs to a manager",
    };
    let sentence = format!("nothing is restored: the state directory {} {whose}", state_dir.path().display());
    let hint = "give an empty directory with --state-dir; or stop swarmd, move this one away, and restore then";
    Err(Failure::new(sentence, hint).with_code(code::USAGE))
}

fn discard(unfinished: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(state_dir::unusable(unfinished, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// From here on it is the directory's log.
fn put_in_place(unfinished: &Path, log: &Path) -> Result<(), Failure> {
    let moved = std::fs::rename(unfinished, log).and_then(|()| match log.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    });
    moved.map_err(|error| state_dir::unusable(log, &error))
}

async fn build(args: &Args, passphrase: &SecretText, dir: &Path, out: &mut impl Write) -> Result<Restored, Failure> {
    let refused = |error: BackupError| refuse(&args.file, &error);
    let file = File::open(&args.file).map_err(|error| refused(error.into()))?;
    let mut opener = Opener::open(BufReader::new(file), passphrase).map_err(refused)?;
    let Some(Record::Head(head)) = next(&mut opener).map_err(refused)? else {
        return Err(refused(BackupError::Content("it does not begin with whose it is".to_owned())));
    };
    let node = head.node.parse().map_err(|_| refused(BackupError::Content("it names no manager".to_owned())))?;
    let at = Timestamp::from_unix_ns(head.log_time);
    show(
        out,
        &format!("backup of cluster {} at frame {}, {at}, by swarmd {}", head.cluster, head.index, head.version),
    )?;
    create(dir)?;
    let store = RocksStore::open(dir)?;
    let keys = store.key_file(dir);
    let store: Arc<dyn LogStore> = Arc::new(store);
    let end = fill(&*store, &head, &mut opener, out).map_err(|error| error.into_failure(&args.file))?;
    show(out, "folding the history")?;
    fold(&*store, head.term)?;
    let cluster = args.new_cluster_id.then(|| ClusterId::from_bits(rand::random()));
    let unlock_key = begin(store, args.rotate_tokens, cluster).await?;
    if let Some(key) = &unlock_key {
        keys.rewrap(None, Some(key)).map_err(LogError::from)?;
    }
    Ok(Restored { head, end, node, locked: unlock_key.is_some() })
}

/// Folds the restored history, and stores the state as a checkpoint, so that no start has to fold it again. A backup contains no
/// checkpoint, since all of its history must be verified, which includes folding it.
fn fold(store: &dyn LogStore, term: u64) -> Result<(), Failure> {
    let folded = core::fold(store, &store.load()?)?;
    let Some(end) = folded.end() else { return Ok(()) };
    let head = CheckpointHead { index: end.index, term, frame_hash: end.hash };
    Ok(store.save_checkpoint(head, &mut projections::snapshot::chunks(&folded.cluster))?)
}

fn create(dir: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let created = std::fs::DirBuilder::new().mode(0o700).create(dir);
    created.map_err(|error| state_dir::unusable(dir, &error))
}

fn show(out: &mut impl Write, line: &str) -> Result<(), Failure> {
    let line = events::escape::line(line);
    writeln!(out, "{line}").map_err(|error| Failure::new(format!("cannot write progress: {error}"), ""))
}

/// Why a log cannot be filled.
#[derive(Debug, thiserror::Error)]
enum FillError {
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("{0}")]
    Told(Failure),
}

impl FillError {
    fn into_failure(self, file: &Path) -> Failure {
        match self {
            Self::Backup(error) => refuse(file, &error),
            Self::Log(error) => error.into(),
            Self::Told(failure) => failure,
        }
    }
}

fn next<R: std::io::Read>(opener: &mut Opener<R>) -> Result<Option<Record>, BackupError> {
    opener.chunk()?.map(|content| Record::decode(&content)).transpose()
}

/// The redactions in the history of a backup.
#[derive(Default)]
struct Redactions {
    permits: Permits,
    unannounced: Unannounced,
}

impl Redactions {
    fn read(&mut self, page: &[(u64, Bytes)]) -> Result<(), BackupError> {
        for (index, stored) in page {
            let unreadable = |error| BackupError::Content(format!("frame {index} cannot be read: {error}"));
            let frame = codec::decode_frame(stored).map_err(unreadable)?;
            self.unannounced.take(&frame, stored);
            for (redacted, sha256) in redaction::announced(&frame) {
                self.permits.entry(redacted).or_default().push(sha256);
            }
        }
        Ok(())
    }
}

/// Writes the history and the secrets of a backup into an empty log, which starts from them once they are complete.
fn fill<R: std::io::Read>(
    store: &dyn LogStore,
    head: &Head,
    opener: &mut Opener<R>,
    out: &mut impl Write,
) -> Result<End, FillError> {
    let content = |sentence: &str| FillError::Backup(BackupError::Content(sentence.to_owned()));
    store.load()?;
    store.initialize(&Membership::joining(head.raft_id))?;
    let (mut secrets, mut frames, mut shown): (Vec<VolatilePayload>, u64, Instant) = (Vec::new(), 0, Instant::now());
    let mut redactions = Redactions::default();
    let end = loop {
        match next(opener)? {
            Some(Record::History(page)) if secrets.is_empty() => {
                frames += page.frames.len() as u64;
                let page: Vec<(u64, Bytes)> =
                    page.frames.into_iter().map(|frame| (frame.index, frame.stored)).collect();
                redactions.read(&page)?;
                let index = page.last().map_or(0, |(index, _)| *index);
                store.write(vec![store.stage_fetched(page)?])?;
                if shown.elapsed() >= SHOWN_EVERY {
                    shown = Instant::now();
                    show(out, &format!("frame {index} of {}", head.index)).map_err(FillError::Told)?;
                }
            }
            Some(Record::Secrets(page)) => secrets.extend(page.payloads),
            Some(Record::End(end)) => break end,
            Some(Record::Head(_) | Record::History(_)) | None => return Err(content("its parts are out of order")),
        }
    };
    opener.chunk()?;
    let last = store.fetched().map_or(0, |FrameLink { index, .. }| index);
    if (end.frames, end.secrets, last) != (frames, secrets.len() as u64, head.index) {
        return Err(content("it contains less than its header states"));
    }
    if let Some(index) = redactions.unannounced.indexes().next() {
        return Err(content(&format!("a value was erased from frame {index}, and no frame after it announces that")));
    }
    let Head { index, term, .. } = *head;
    let hard_state = HardState { term, vote: 0, commit: index };
    let install = Install { index, term, secrets, permits: redactions.permits };
    store.write(vec![store.stage_install(install, Vec::new(), Some(hard_state))?])?;
    // Its own raft id is new: messages to the old one are not meant for it.
    let raft_id = alone::draw_raft_id(&mut rand::random, |drawn| drawn == head.raft_id);
    store.reset_to_single_voter(raft_id, head.raft_id)?;
    Ok(end)
}

/// Lets the restored manager record in history that it continues alone, and applies the requested changes. Returns the cluster's
/// unlock key, if managers are locked.
async fn begin(
    store: Arc<dyn LogStore>,
    rotates_tokens: bool,
    cluster: Option<ClusterId>,
) -> Result<Option<UnlockKey>, Failure> {
    let core = core::start_restored(store, cluster)?;
    let done = async {
        core.wait_for_own_membership().await?;
        let roles: &[Role] = if rotates_tokens { &[Role::Worker, Role::Manager] } else { &[] };
        for role in roles {
            let rejected = |rejection: Rejection| Failure::new(rejection.sentence, rejection.hint);
            let rotate = new_join_token(&core.handle.state().cluster, *role).map_err(rejected)?;
            core.submit_as(Actor::Operator(OPERATOR.to_owned()), rotate).await?;
        }
        Ok(autolock::wanted(&core.handle.state()))
    };
    let done = done.await;
    core.end().await?;
    done
}

fn refuse(file: &Path, error: &BackupError) -> Failure {
    let hint = match error {
        BackupError::Passphrase => "give the passphrase of the backup",
        BackupError::NotABackup => "name a file that `swarmctl cluster backup` wrote",
        BackupError::Newer(_) => "use the swarmd of the version that wrote it, or a newer one",
        BackupError::Damaged(_) | BackupError::CutShort(_) | BackupError::TooLong(_) | BackupError::Content(_) => {
            "nothing was restored: use another copy of the file, or an older backup"
        }
        BackupError::Read(_) => "name a file that you may read",
        BackupError::Crypto(_) => "report this as a bug",
    };
    Failure::new(format!("{} cannot be restored: {error}", file.display()), hint).with_code(code::USAGE)
}
