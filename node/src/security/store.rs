//! Stores a node's identity on disk: `certificates/` in the state directory.
//!
//! Key and certificate are two files, and a crash may occur between writing them. So the new certificate is first written under
//! a temporary name, then the key replaces the old one (from here on the new pair is valid), then the certificate. When
//! loading, a certificate that does not match the key is replaced by the temporary one if that matches. Calls block on disk
//! I/O.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use events::{CommandId, Role, Timestamp};
use zeroize::Zeroizing;

use super::subject::Subject;
use super::{
    CertificateError, Identity, IdentityError, KeyError, KeyLock, PrivateKey, TrustedRoots, UnlockKey, certificate, key,
};

const DIRECTORY: &str = "certificates";
const ROOT_CERTIFICATE: &str = "swarm-root-ca.crt";
pub(super) const NODE_CERTIFICATE: &str = "swarm-node.crt";
const NODE_KEY: &str = "swarm-node.key";
/// The PEM label of a key wrapped with the unlock key.
const WRAPPED_LABEL: &str = "SWARMLOG WRAPPED KEY";
/// The file of a pending join, so that it can be repeated if the response is lost.
const PENDING_JOIN: &str = "join.pending";

/// The certificates of one node on disk.
#[derive(Debug, Clone)]
pub struct CertificateStore {
    directory: PathBuf,
    /// Wraps the key.
    lock: Arc<KeyLock>,
    /// Held while files are replaced: a renewal and a change of the unlock key may coincide.
    writing: Arc<Mutex<()>>,
}

/// An unanswered join request: when repeated, it creates only one node, even after a restart.
#[derive(Debug)]
pub struct PendingJoin {
    /// The id of the command.
    pub id: CommandId,
    /// The key that the certificate is requested for.
    pub key: PrivateKey,
}

/// One durable change of the directory.
type Step<'a> = Box<dyn Fn() -> Result<(), IdentityError> + 'a>;

impl CertificateStore {
    /// The certificates under this state directory; nothing is read or written yet.
    pub fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join(DIRECTORY), lock: Arc::default(), writing: Arc::default() }
    }

    /// Uses this lock to wrap the key.
    #[must_use]
    pub fn locked_by(self, lock: Arc<KeyLock>) -> Self {
        Self { lock, ..self }
    }

    /// Loads the node's identity, verified at `now`.
    pub fn load(&self, now: Timestamp) -> Result<Identity, IdentityError> {
        let roots = self.load_roots()?.ok_or(IdentityError::Missing("root certificate"))?;
        let key = self.read(NODE_KEY)?.ok_or(IdentityError::Missing("key"))?;
        let key = PrivateKey::from_pem(&opened(key, self.lock.key().as_ref())?).map_err(IdentityError::Key)?;
        let identity = |file: &str| match self.read(file)? {
            Some(pem) => Identity::new(roots.clone(), &pem, &key, now),
            None => Err(IdentityError::Missing("certificate")),
        };
        match identity(NODE_CERTIFICATE) {
            Err(unfit @ (IdentityError::KeyMismatch | IdentityError::Missing(_))) => {
                let identity = match identity(&temporary(NODE_CERTIFICATE)) {
                    Err(IdentityError::KeyMismatch | IdentityError::Missing(_)) => return Err(unfit),
                    other => other?,
                };
                self.put_in_place(NODE_CERTIFICATE)?;
                Ok(identity)
            }
            other => other,
        }
    }

    /// Whether the node's key is wrapped with an unlock key.
    pub fn is_locked(&self) -> Result<bool, IdentityError> {
        Ok(matches!(self.read(NODE_KEY)?.map(|key| opened(key, None)), Some(Err(IdentityError::Locked))))
    }

    /// Whether this unlock key unwraps the node's key.
    pub fn opens_with(&self, lock: &UnlockKey) -> Result<bool, IdentityError> {
        match self.read(NODE_KEY)?.map(|key| opened(key, Some(lock))) {
            Some(Err(IdentityError::Locked)) => Ok(false),
            Some(Err(error)) => Err(error),
            Some(Ok(_)) | None => Ok(true),
        }
    }

    /// The role in the node's certificate; `None` without a certificate. Read-only, so it can be used while a node is running.
    pub fn role(&self) -> Result<Option<Role>, IdentityError> {
        Ok(self.subject()?.map(|subject| subject.role))
    }

    /// The subject of the node's certificate; otherwise as [`role`](Self::role).
    pub fn subject(&self) -> Result<Option<Subject>, IdentityError> {
        let damaged = |source| IdentityError::Certificate { file: NODE_CERTIFICATE, source };
        let Some(pem) = self.read(NODE_CERTIFICATE)? else { return Ok(None) };
        let chain = certificate::all_in(&pem).map_err(damaged)?;
        let own = chain.first().ok_or(damaged(CertificateError::Count(0)))?;
        Subject::of(own).map(Some).map_err(damaged)
    }

    /// The pending join; `None` if there is none or its file is damaged.
    pub fn load_pending_join(&self) -> Result<Option<PendingJoin>, IdentityError> {
        let Some(text) = self.read(PENDING_JOIN)? else { return Ok(None) };
        let parts =
            text.split_once('\n').and_then(|(id, key)| Some((id.parse().ok()?, PrivateKey::from_pem(key).ok()?)));
        Ok(parts.map(|(id, key)| PendingJoin { id, key }))
    }

    /// Stores a pending join. Called before its first attempt.
    pub fn save_pending_join(&self, join: &PendingJoin) -> Result<(), IdentityError> {
        let text = Zeroizing::new(format!("{}\n{}", join.id, *join.key.to_pem()));
        self.write_beside(PENDING_JOIN, text.as_bytes(), 0o600)?;
        self.put_in_place(PENDING_JOIN)
    }

    /// Removes a join that was answered; the next one is a new one.
    pub fn forget_pending_join(&self) -> Result<(), IdentityError> {
        let path = self.directory.join(PENDING_JOIN);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&path, error)),
            Ok(()) | Err(_) => {}
        }
        // Removes the directory of a node that was not admitted; otherwise it is not empty, and stays.
        let _ = fs::remove_dir(&self.directory);
        Ok(())
    }

    /// The root certificates that the node trusts, if it has any.
    pub fn load_roots(&self) -> Result<Option<TrustedRoots>, IdentityError> {
        let damaged = |source| IdentityError::Certificate { file: ROOT_CERTIFICATE, source };
        self.read(ROOT_CERTIFICATE)?.map(|pem| TrustedRoots::from_pem(&pem).map_err(damaged)).transpose()
    }

    /// Stores the root certificates. Must precede the [`save`](Self::save) of a certificate that needs them.
    pub fn save_roots(&self, roots: &TrustedRoots) -> Result<(), IdentityError> {
        self.write_beside(ROOT_CERTIFICATE, roots.to_pem().as_bytes(), 0o644)?;
        self.put_in_place(ROOT_CERTIFICATE)
    }

    /// Stores a new certificate and its key; after a crash either the old pair or the new one is loaded.
    pub fn save(&self, cert_pem: &str, key: &PrivateKey) -> Result<(), IdentityError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.save_steps(cert_pem, key).iter().try_for_each(|step| step())
    }

    /// Wraps the key, which `before` wraps, with the current key of the lock.
    pub fn rewrap(&self, before: Option<&UnlockKey>) -> Result<(), IdentityError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stored) = self.read(NODE_KEY)? else { return Ok(()) };
        let key = match opened(stored.clone(), before) {
            // It was already rewrapped, and the process was stopped before the remaining steps.
            Err(IdentityError::Locked) => return opened(stored, self.lock.key().as_ref()).map(drop),
            key => key?,
        };
        self.write_beside(NODE_KEY, self.wrapped(key)?.as_bytes(), 0o600)?;
        self.put_in_place(NODE_KEY)
    }

    /// A key in its stored form.
    fn wrapped(&self, key_pem: Zeroizing<String>) -> Result<Zeroizing<String>, IdentityError> {
        let Some(lock) = self.lock.key() else { return Ok(key_pem) };
        let wrapped = lock.wrap(NODE_KEY.as_bytes(), key_pem.as_bytes()).map_err(IdentityError::Wrap)?;
        Ok(Zeroizing::new(key::pem(WRAPPED_LABEL, &wrapped)))
    }

    /// The steps of [`save`](Self::save), in order. A crash may occur between any two of them.
    fn save_steps<'a>(&'a self, cert_pem: &'a str, key: &'a PrivateKey) -> [Step<'a>; 4] {
        [
            Box::new(|| self.write_beside(NODE_CERTIFICATE, cert_pem.as_bytes(), 0o644)),
            Box::new(|| self.write_beside(NODE_KEY, self.wrapped(key.to_pem())?.as_bytes(), 0o600)),
            Box::new(|| self.put_in_place(NODE_KEY)),
            Box::new(|| self.put_in_place(NODE_CERTIFICATE)),
        ]
    }

    fn read(&self, file: &str) -> Result<Option<Zeroizing<String>>, IdentityError> {
        let path = self.directory.join(file);
        match fs::read(&path) {
            // Invalid UTF-8 is damage like any other, which the parser of the content reports.
            Ok(bytes) => Ok(Some(Zeroizing::new(String::from_utf8_lossy(&Zeroizing::new(bytes)).into_owned()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(failed(&path, source)),
        }
    }

    /// Writes and syncs the content under the file's temporary name.
    fn write_beside(&self, file: &str, content: &[u8], mode: u32) -> Result<(), IdentityError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        made.map_err(|source| failed(&self.directory, source))?;
        let path = self.directory.join(temporary(file));
        let write = || {
            // A leftover of an earlier attempt is removed first: the mode only applies to a newly created file.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let mut to = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
            to.write_all(content)?;
            to.sync_all()?;
            self.sync_directory()
        };
        write().map_err(|source| failed(&path, source))
    }

    /// Renames the temporary file, durably.
    fn put_in_place(&self, file: &str) -> Result<(), IdentityError> {
        let path = self.directory.join(file);
        let renamed = fs::rename(self.directory.join(temporary(file)), &path).and_then(|()| self.sync_directory());
        renamed.map_err(|source| failed(&path, source))
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

/// Unwraps a stored key.
fn opened(stored: Zeroizing<String>, lock: Option<&UnlockKey>) -> Result<Zeroizing<String>, IdentityError> {
    let first = format!("-----BEGIN {WRAPPED_LABEL}-----");
    let Some(rest) = stored.strip_prefix(&first) else { return Ok(stored) };
    let digits: String = rest.lines().take_while(|line| !line.starts_with('-')).collect();
    let wrapped = STANDARD.decode(digits).map_err(|_| IdentityError::Key(KeyError::Malformed))?;
    let lock = lock.ok_or(IdentityError::Locked)?;
    let key = lock.unwrap(NODE_KEY.as_bytes(), &wrapped).map_err(IdentityError::Wrap)?;
    let key = key.ok_or(IdentityError::Locked)?;
    Ok(Zeroizing::new(String::from_utf8_lossy(&key).into_owned()))
}

fn temporary(file: &str) -> String {
    format!(".{file}.new")
}

fn failed(path: &Path, source: io::Error) -> IdentityError {
    IdentityError::File { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{DAY, NOW, subject};
    use super::super::{Authority, CertificateRequest, NODE_EXPIRY_DEFAULT};
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Disk {
        authority: Authority,
        state_dir: tempfile::TempDir,
        store: CertificateStore,
    }

    impl Disk {
        fn new() -> Self {
            let state_dir = tempfile::tempdir().expect("a directory");
            let store = CertificateStore::new(state_dir.path());
            let authority = Authority::generate(NOW).expect("an authority");
            store.save_roots(&authority.root().clone().into()).expect("saved");
            Self { authority, state_dir, store }
        }

        fn pair(&self, node: u128) -> (String, PrivateKey) {
            let request = CertificateRequest::new().expect("a request");
            let member = subject(node, Role::Worker);
            let issued =
                self.authority.sign(&request.csr_pem, member, NOW, NODE_EXPIRY_DEFAULT).expect("a certificate");
            (issued.cert_pem, request.key)
        }

        fn path(&self, file: &str) -> PathBuf {
            self.state_dir.path().join(DIRECTORY).join(file)
        }

        fn loaded(&self) -> Result<u128, IdentityError> {
            self.store.load(NOW).map(|identity| events::Id::bits(identity.subject().node))
        }
    }

    #[test]
    fn what_is_saved_is_loaded_and_the_key_is_private() {
        let disk = Disk::new();
        assert!(matches!(disk.loaded(), Err(IdentityError::Missing("key"))));
        let (certificate, key) = disk.pair(1);
        disk.store.save(&certificate, &key).expect("saved");
        assert_eq!(disk.loaded().expect("an identity"), 1);
        let mode = |file| fs::metadata(disk.path(file)).expect("a file").permissions().mode() & 0o777;
        assert_eq!((mode(NODE_KEY), mode("")), (0o600, 0o700));
        let mut names: Vec<_> =
            fs::read_dir(disk.path("")).expect("files").map(|file| file.expect("a file").file_name()).collect();
        names.sort();
        assert_eq!(names, [NODE_CERTIFICATE, NODE_KEY, ROOT_CERTIFICATE], "nothing temporary is left");
        assert!(matches!(disk.store.load(NOW + DAY * 91), Err(IdentityError::Expired { .. })));
    }

    #[test]
    fn a_join_under_way_is_kept_until_it_is_forgotten() {
        let disk = Disk::new();
        assert!(disk.store.load_pending_join().expect("nothing").is_none());
        let join = PendingJoin { id: events::Id::from_bits(9), key: PrivateKey::generate().expect("a key") };
        disk.store.save_pending_join(&join).expect("saved");
        let again = disk.store.load_pending_join().expect("read").expect("a join");
        assert_eq!((again.id, again.key.to_pem()), (join.id, join.key.to_pem()));
        let path = disk.path(PENDING_JOIN);
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        let whole = fs::read(&path).expect("a file");
        for damaged in [&b""[..], b"\xff\n", &whole[..whole.len() / 2]] {
            fs::write(&path, damaged).expect("damaged");
            assert!(disk.store.load_pending_join().expect("read").is_none(), "a damaged one is started again");
        }
        disk.store.forget_pending_join().expect("forgotten");
        disk.store.forget_pending_join().expect("forgotten already");
        assert!(!path.exists());
    }

    #[test]
    fn a_crash_at_any_step_leaves_the_old_pair_or_the_new_one() {
        for (steps, expected) in [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2)] {
            let disk = Disk::new();
            let (old, old_key) = disk.pair(1);
            disk.store.save(&old, &old_key).expect("saved");
            let (new, new_key) = disk.pair(2);
            for step in &disk.store.save_steps(&new, &new_key)[..steps] {
                step().expect("done");
            }
            assert_eq!(disk.loaded().expect("an identity"), expected, "after {steps} steps");
            let certificate = fs::read_to_string(disk.path(NODE_CERTIFICATE)).expect("a file");
            assert_eq!(certificate == new, expected == 2, "after {steps} steps and a load");
            disk.store.save(&new, &new_key).expect("the rest does not hinder the next attempt");
            assert_eq!(disk.loaded().expect("an identity"), 2);
        }
    }

    #[test]
    fn a_crash_during_the_first_save_is_finished_or_forgotten() {
        for steps in 0..=4 {
            let disk = Disk::new();
            let (certificate, key) = disk.pair(1);
            for step in &disk.store.save_steps(&certificate, &key)[..steps] {
                step().expect("done");
            }
            match disk.loaded() {
                Ok(node) => assert!(node == 1 && steps >= 3, "after {steps} steps"),
                Err(IdentityError::Missing(_)) => assert!(steps < 3, "after {steps} steps"),
                Err(error) => panic!("after {steps} steps: {error}"),
            }
        }
    }

    #[test]
    fn a_torn_certificate_that_never_counted_does_no_harm() {
        let disk = Disk::new();
        let (old, old_key) = disk.pair(1);
        disk.store.save(&old, &old_key).expect("saved");
        fs::write(disk.path(&temporary(NODE_CERTIFICATE)), &old.as_bytes()[..100]).expect("a torn file");
        assert_eq!(disk.loaded().expect("an identity"), 1);
    }

    #[test]
    fn damaged_files_are_named() {
        let disk = Disk::new();
        let (certificate, key) = disk.pair(1);
        for file in [ROOT_CERTIFICATE, NODE_CERTIFICATE, NODE_KEY] {
            for content in [Some(&b""[..]), Some(b"\xff\xfe"), None] {
                disk.store.save_roots(&disk.authority.root().clone().into()).expect("saved");
                disk.store.save(&certificate, &key).expect("saved");
                let whole = fs::read(disk.path(file)).expect("a file");
                fs::write(disk.path(file), content.unwrap_or(&whole[..whole.len() / 2])).expect("damaged");
                let error = disk.loaded().expect_err("damage");
                assert!(error.to_string().starts_with(&format!("{file} is not usable: ")), "{error}");
            }
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_noticed() {
        let disk = Disk::new();
        let (certificate, key) = disk.pair(1);
        disk.store.save(&certificate, &key).expect("saved");
        fs::write(disk.path(NODE_KEY), disk.pair(2).1.to_pem().as_bytes()).expect("another key");
        assert!(matches!(disk.loaded(), Err(IdentityError::KeyMismatch)));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let state_dir = tempfile::tempdir().expect("a directory");
        let file = state_dir.path().join("file");
        fs::write(&file, "").expect("a file");
        let error = CertificateStore::new(&file)
            .save_roots(&Disk::new().authority.root().clone().into())
            .expect_err("no directory");
        assert!(error.to_string().starts_with(&format!("{}/certificates: ", file.display())), "{error}");
    }
}
