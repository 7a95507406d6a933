//! Sealing at rest: values are encrypted and authenticated with AES-256-GCM under a data key of this node. The log seals every
//! value, the agent every record. A key is stored in its own file beside the sealed data (mode 0600); on a manager it is
//! wrapped with the cluster's unlock key, if there is one. A worker must start unattended, so its key is not wrapped.
//!
//! There may be several data keys: a new one is created whenever the unlock key changes, since the old ones may be known from
//! an old copy of the disk. New values are sealed with the newest key; old ones are opened with the key that sealed them, until
//! all of them are resealed and only the newest key is left.
//!
//! A value is bound to its place, so values cannot be swapped. Replacing a whole value by an older one at the same place must
//! be detected by its owner: the log has its hash chain.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use bytes::Bytes;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::UnlockKey;

/// Bytes of a data key.
const KEY_BYTES: usize = 32;
/// First byte of a key file whose keys follow unencrypted, the newest first.
const PLAIN_KEY: u8 = 1;
/// First byte of a key file whose keys follow, wrapped with an unlock key.
const WRAPPED_KEY: u8 = 2;
/// The file of a log's data keys, in the directory of the log.
pub const LOG_KEY: &str = "log.key";
/// Maximum number of data keys. Opening an old value may try each, and operators change unlock keys a few times a year.
const KEYS_MAX: usize = 64;
/// The context that wrapped data keys are bound to.
const PLACE: &[u8] = b"swarmlog data keys";
const TAG_BYTES: usize = 16;

/// Why a value or key cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is no key file, and none may be created.
    #[error("the data key {path} is missing", path = .0.display())]
    KeyMissing(PathBuf),
    /// The key file does not contain a valid key.
    #[error("the data key {path} is damaged: {reason}", path = .path.display())]
    KeyDamaged {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: &'static str,
    },
    /// The key file is wrapped, and the required unlock key is not available.
    #[error("the data key {path} is locked, and needs the cluster's unlock key", path = .0.display())]
    Locked(PathBuf),
    /// Reading or writing the key file failed.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    File {
        /// The attempted operation.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The operating system provides no random bytes, or the cipher failed.
    #[error("cannot {0}: the cryptographic library refused")]
    Crypto(&'static str),
}

/// Seals values with the newest data key, and opens those sealed with any of them.
pub struct Seal {
    /// The newest first; never empty.
    keys: ArcSwap<Vec<LessSafeKey>>,
    nonces: Mutex<Nonces>,
    /// Read-locked while a value is sealed and written, write-locked while the newest key is replaced.
    newest: RwLock<()>,
}

/// The library zeroes the memory of a cipher when it frees it.
impl ZeroizeOnDrop for Seal {}

impl Seal {
    /// A seal with this data key.
    ///
    /// # Errors
    /// When the operating system provides no random bytes.
    pub fn new(data_key: &[u8; KEY_BYTES]) -> Result<Self, SealError> {
        Self::with(&DataKeys(Zeroizing::new(vec![*data_key])))
    }

    /// A seal with these data keys.
    ///
    /// # Errors
    /// When the operating system provides no random bytes.
    pub fn with(keys: &DataKeys) -> Result<Self, SealError> {
        Ok(Self {
            keys: ArcSwap::from_pointee(keys.ciphers()?),
            nonces: Mutex::new(Nonces::draw()?),
            newest: RwLock::default(),
        })
    }

    /// Seals with the first of these keys from now on, and opens with all of them.
    fn adopt(&self, keys: &DataKeys) -> Result<(), SealError> {
        let ciphers = Arc::new(keys.ciphers()?);
        let _alone = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        self.keys.store(ciphers);
        Ok(())
    }

    /// While the guard is held, the newest key is not replaced: values sealed and written meanwhile are on disk before anyone
    /// scans for values of older keys.
    pub fn hold(&self) -> RwLockReadGuard<'_, ()> {
        self.newest.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same value sealed with the newest key; `None` if it already is, or no key opens it.
    ///
    /// # Errors
    /// When the operating system provides no random bytes.
    pub fn reseal(&self, place: &[u8], sealed: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
        let keys = self.keys.load();
        for (age, key) in keys.iter().enumerate() {
            let Some(opened) = open_with(key, place, sealed.to_vec()) else { continue };
            let again = if age == 0 { None } else { Some(self.seal(place, &[], &opened)?) };
            wipe(opened);
            return Ok(again);
        }
        Ok(None)
    }

    /// Seals `head` followed by `body` for its place.
    ///
    /// # Errors
    /// When the operating system provides no random bytes.
    pub fn seal(&self, place: &[u8], head: &[u8], body: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce = self.nonces.lock().unwrap_or_else(PoisonError::into_inner).issue()?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + head.len() + body.len() + TAG_BYTES);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(head);
        sealed.extend_from_slice(body);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let keys = self.keys.load();
        let newest = keys.first().ok_or(SealError::Crypto("seal a value"))?;
        let tag = newest.seal_in_place_separate_tag(nonce, Aad::from(place), &mut sealed[NONCE_LEN..]);
        sealed.extend_from_slice(tag.map_err(|_| SealError::Crypto("seal a value"))?.as_ref());
        Ok(sealed)
    }

    /// Opens a value sealed for this place; `None` if it is damaged, from another place, or sealed with another key.
    pub fn open(&self, place: &[u8], sealed: Vec<u8>) -> Option<Bytes> {
        let keys = self.keys.load();
        let (last, newer) = keys.split_last()?;
        // A failed attempt destroys the buffer, so each attempt but the last gets a copy.
        newer.iter().find_map(|key| open_with(key, place, sealed.clone())).or_else(|| open_with(last, place, sealed))
    }
}

fn open_with(key: &LessSafeKey, place: &[u8], mut sealed: Vec<u8>) -> Option<Bytes> {
    let (nonce, ciphertext) = sealed.split_first_chunk_mut::<NONCE_LEN>()?;
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let plain_bytes = key.open_in_place(nonce, Aad::from(place), ciphertext).ok()?.len();
    sealed.truncate(NONCE_LEN + plain_bytes);
    Some(Bytes::from(sealed).slice(NONCE_LEN..))
}

/// The data keys of one owner, the newest first.
pub struct DataKeys(Zeroizing<Vec<[u8; KEY_BYTES]>>);

impl DataKeys {
    /// Creates the set from these keys; the first one seals.
    pub fn of(keys: Zeroizing<Vec<[u8; KEY_BYTES]>>) -> Self {
        Self(keys)
    }

    fn ciphers(&self) -> Result<Vec<LessSafeKey>, SealError> {
        let cipher = |key: &[u8; KEY_BYTES]| UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new);
        self.0.iter().map(cipher).collect::<Result<_, _>>().map_err(|_| SealError::Crypto("set up the cipher"))
    }

    /// Adds a new key as the newest; unchanged if the maximum is reached.
    fn with_new(&self) -> Result<Self, SealError> {
        let mut keys = Zeroizing::new(Vec::with_capacity(self.0.len() + 1));
        if self.0.len() < KEYS_MAX {
            let mut key = [0; KEY_BYTES];
            rand::fill(&mut key).map_err(|_| SealError::Crypto("draw random bytes"))?;
            keys.push(key);
        }
        keys.extend_from_slice(&self.0);
        Ok(Self(keys))
    }

    /// Loads the keys from a file, wrapped or not. If there is no file and `may_create`, a new key is created, and is durable
    /// before it is used.
    ///
    /// # Errors
    /// When the file is damaged, locked, cannot be read or written, or is missing and must not be created.
    pub fn load(path: &Path, may_create: bool, lock: Option<&UnlockKey>) -> Result<Self, SealError> {
        let stored = match fs::read(path) {
            Ok(stored) => Zeroizing::new(stored),
            Err(error) if error.kind() == ErrorKind::NotFound && may_create => {
                let keys = Self(Zeroizing::default()).with_new()?;
                keys.save(path, lock)?;
                return Ok(keys);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(SealError::KeyMissing(path.to_owned())),
            Err(source) => return Err(SealError::File { action: "read", path: path.to_owned(), source }),
        };
        let damaged = |reason| SealError::KeyDamaged { path: path.to_owned(), reason };
        let (&form, rest) = stored.split_first().ok_or_else(|| damaged("it is empty"))?;
        let keys = match (form, lock) {
            (PLAIN_KEY, _) => Zeroizing::new(rest.to_vec()),
            (WRAPPED_KEY, None) => return Err(SealError::Locked(path.to_owned())),
            (WRAPPED_KEY, Some(lock)) => lock.unwrap(PLACE, rest)?.ok_or_else(|| SealError::Locked(path.to_owned()))?,
            (_, _) => return Err(damaged("its format is not supported by this build")),
        };
        let (keys, rest) = keys.as_chunks::<KEY_BYTES>();
        if keys.is_empty() || keys.len() > KEYS_MAX || !rest.is_empty() {
            return Err(damaged("it has the wrong length"));
        }
        Ok(Self(Zeroizing::new(keys.to_vec())))
    }

    /// The number of keys.
    fn count(&self) -> usize {
        self.0.len()
    }

    /// Only the newest key.
    fn newest(&self) -> Self {
        Self(Zeroizing::new(self.0.iter().take(1).copied().collect()))
    }

    fn save(&self, path: &Path, lock: Option<&UnlockKey>) -> Result<(), SealError> {
        let plain = Zeroizing::new(self.0.concat());
        let (form, rest) = match lock {
            None => (PLAIN_KEY, plain),
            Some(lock) => (WRAPPED_KEY, Zeroizing::new(lock.wrap(PLACE, &plain)?)),
        };
        write_key(path, &[&[form], rest.as_slice()])
    }
}

/// Whether a key file needs an unlock key. `false` if it is missing or unreadable, which the caller that opens it reports.
pub fn is_wrapped(path: &Path) -> bool {
    let mut form = [0; 1];
    File::open(path).and_then(|mut file| file.read_exact(&mut form)).is_ok() && form == [WRAPPED_KEY]
}

/// A file of data keys, with the seal that uses them.
pub struct KeyFile {
    path: PathBuf,
    seal: Arc<Seal>,
    /// Whether the file contains older keys in addition to the newest.
    has_older: AtomicBool,
}

impl KeyFile {
    /// The file at this path, with the seal that has its keys.
    pub fn new(path: PathBuf, seal: Arc<Seal>) -> Self {
        let has_older = AtomicBool::new(seal.keys.load().len() > 1);
        Self { path, seal, has_older }
    }

    /// Whether there are older keys, which are destroyed once all values are sealed with the newest.
    pub fn has_older(&self) -> bool {
        self.has_older.load(Ordering::Relaxed)
    }

    /// Wraps the keys with another unlock key, or with none. With an unlock key, new values are sealed with a new data key from
    /// now on.
    ///
    /// # Errors
    /// When the file cannot be read or written; nothing has changed then.
    pub fn rewrap(&self, before: Option<&UnlockKey>, after: Option<&UnlockKey>) -> Result<(), SealError> {
        let keys = match (DataKeys::load(&self.path, false, before), after) {
            // It was already rewrapped, and the process was stopped before the remaining steps.
            (Err(SealError::Locked(_)), Some(after)) => {
                return DataKeys::load(&self.path, false, Some(after)).map(drop);
            }
            (keys, Some(_)) => keys?.with_new()?,
            (keys, None) => keys?,
        };
        keys.save(&self.path, after)?;
        self.has_older.store(keys.count() > 1, Ordering::Relaxed);
        self.seal.adopt(&keys)
    }

    /// Destroys all keys but the newest: no value on disk is sealed with them. The seal keeps them until the process exits, for
    /// values that were read before.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn destroy_older(&self, lock: Option<&UnlockKey>) -> Result<(), SealError> {
        DataKeys::load(&self.path, false, lock)?.newest().save(&self.path, lock)?;
        self.has_older.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// Zeroes an opened value in memory, unless there is another reference to it.
pub fn wipe(opened: Bytes) {
    if let Ok(mut bytes) = opened.try_into_mut() {
        bytes.as_mut().zeroize();
    }
}

/// Nonces that never repeat under one key: a random prefix per run of the process, then a counter. This is cheaper than random
/// bytes for each value, and after 2^20 starts of one manager a prefix has repeated with a probability of only 2^-25, however
/// many values each run seals (with 96 random bits, 2^32 values would be the limit).
struct Nonces {
    prefix: [u8; NONCE_LEN - COUNTER_BYTES],
    used: u32,
}

const COUNTER_BYTES: usize = 4;

impl Nonces {
    fn draw() -> Result<Self, SealError> {
        let mut prefix = [0; NONCE_LEN - COUNTER_BYTES];
        rand::fill(&mut prefix).map_err(|_| SealError::Crypto("draw random bytes"))?;
        Ok(Self { prefix, used: 0 })
    }

    fn issue(&mut self) -> Result<[u8; NONCE_LEN], SealError> {
        if self.used == u32::MAX {
            *self = Self::draw()?;
        }
        self.used += 1;
        let mut nonce = [0; NONCE_LEN];
        nonce[..self.prefix.len()].copy_from_slice(&self.prefix);
        nonce[self.prefix.len()..].copy_from_slice(&self.used.to_be_bytes());
        Ok(nonce)
    }
}

/// Written to a temporary file, synced, renamed, and the directory synced: after a crash there is a complete key or none.
fn write_key(path: &Path, parts: &[&[u8]]) -> Result<(), SealError> {
    let aside = path.with_extension("key.new");
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    })();
    written.map_err(|source| SealError::File { action: "create", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn seal() -> Seal {
        Seal::new(&[7; KEY_BYTES]).unwrap()
    }

    #[test]
    fn a_value_opens_only_where_it_was_sealed() {
        let seal = seal();
        let sealed = seal.seal(b"history 5", b"head", b"body").unwrap();
        assert_eq!(seal.open(b"history 5", sealed.clone()).as_deref(), Some(b"headbody".as_slice()));
        assert_eq!(seal.open(b"history 6", sealed.clone()), None);
        assert_eq!(seal.open(b"", sealed.clone()), None);
        let other = Seal::new(&[8; KEY_BYTES]).unwrap();
        assert_eq!(other.open(b"history 5", sealed), None);
    }

    #[test]
    fn an_opened_value_is_wiped_where_it_lies() {
        let seal = seal();
        let opened = seal.open(b"place", seal.seal(b"place", b"", b"secret").unwrap()).unwrap();
        // The same allocation, restored to its full length, to inspect what is left of the value.
        let mut bytes = opened.try_into_mut().expect("nobody else has it, so that it can be wiped");
        assert_eq!(&bytes[..], b"secret");
        bytes.as_mut().zeroize();
        assert_eq!(&bytes[..], [0; 6]);
        wipe(bytes.freeze());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_shows() {
        let seal = seal();
        let sealed = seal.seal(b"place", b"", b"a frame").unwrap();
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(seal.open(b"place", damaged), None, "byte {at}");
            assert_eq!(seal.open(b"place", sealed[..at].to_vec()), None, "cut at {at}");
        }
    }

    #[test]
    fn sealed_bytes_hide_the_value_and_differ_each_time() {
        let seal = seal();
        let secret = b"a word that nobody may read";
        let sealed: BTreeSet<_> = (0..100).map(|_| seal.seal(b"place", b"", secret).unwrap()).collect();
        assert_eq!(sealed.len(), 100);
        assert!(sealed.iter().all(|bytes| !bytes.windows(6).any(|window| window == &secret[..6])));
    }

    #[test]
    fn a_used_up_counter_draws_another_prefix() {
        let mut nonces = Nonces { prefix: [1; 8], used: u32::MAX - 1 };
        let last = nonces.issue().unwrap();
        let next = nonces.issue().unwrap();
        assert_eq!((&last[..8], &last[8..]), ([1; 8].as_slice(), u32::MAX.to_be_bytes().as_slice()));
        assert_ne!(next[..8], last[..8]);
    }

    #[test]
    fn a_key_is_made_once_and_for_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.key");
        assert!(matches!(DataKeys::load(&path, false, None), Err(SealError::KeyMissing(missing)) if missing == path));
        let made = DataKeys::load(&path, true, None).unwrap();
        assert_eq!(DataKeys::load(&path, true, None).unwrap().0, made.0);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_key_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.key");
        for stored in [vec![], vec![PLAIN_KEY; 12], vec![PLAIN_KEY; 34], vec![9; 33]] {
            fs::write(&path, &stored).unwrap();
            assert!(matches!(DataKeys::load(&path, true, None), Err(SealError::KeyDamaged { .. })), "{stored:?}");
        }
    }

    #[test]
    fn the_keys_of_a_log_are_wrapped_and_joined_by_new_ones_and_what_was_sealed_stays_readable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.key");
        let (one, two) = (UnlockKey::generate().unwrap(), UnlockKey::generate().unwrap());
        let seal = Arc::new(Seal::with(&DataKeys::load(&path, true, None).unwrap()).unwrap());
        let first = seal.seal(b"place", b"", b"first").unwrap();
        let file = KeyFile::new(path.clone(), Arc::clone(&seal));
        let plain = fs::read(&path).unwrap();
        assert!(!is_wrapped(&path) && !is_wrapped(&directory.path().join("absent")));
        file.rewrap(None, Some(&one)).unwrap();
        assert!(is_wrapped(&path));
        let second = seal.seal(b"place", b"", b"second").unwrap();
        for wrong in [None, Some(&two)] {
            assert!(matches!(DataKeys::load(&path, false, wrong), Err(SealError::Locked(_))));
        }
        let stored = fs::read(&path).unwrap();
        assert!(!stored.windows(KEY_BYTES).any(|window| window == &plain[1..]), "no key lies open");
        assert!(Seal::new(plain[1..].try_into().unwrap()).unwrap().open(b"place", second.clone()).is_none());
        // A crash after the file was written: repeating it changes nothing.
        file.rewrap(None, Some(&one)).unwrap();
        file.rewrap(Some(&one), Some(&two)).unwrap();
        file.rewrap(Some(&two), None).unwrap();
        let again = Seal::with(&DataKeys::load(&path, false, None).unwrap()).unwrap();
        for (sealed, expected) in [(first, b"first".as_slice()), (second, b"second")] {
            assert_eq!(again.open(b"place", sealed.clone()).as_deref(), Some(expected));
            assert_eq!(seal.open(b"place", sealed).as_deref(), Some(expected));
        }
    }

    #[test]
    fn older_keys_go_once_everything_is_sealed_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.key");
        let lock = UnlockKey::generate().unwrap();
        let seal = Arc::new(Seal::with(&DataKeys::load(&path, true, None).unwrap()).unwrap());
        let file = KeyFile::new(path.clone(), Arc::clone(&seal));
        let (first, other) = (seal.seal(b"place", b"", b"first").unwrap(), seal.seal(b"elsewhere", b"", b"").unwrap());
        assert!(!file.has_older());
        file.rewrap(None, Some(&lock)).unwrap();
        assert!(file.has_older());
        let again = seal.reseal(b"place", &first).unwrap().expect("an older key sealed it");
        assert_eq!(seal.reseal(b"place", &again).unwrap(), None, "the newest sealed it");
        assert_eq!(seal.reseal(b"place", &other).unwrap(), None, "it belongs elsewhere");
        file.destroy_older(Some(&lock)).unwrap();
        assert!(!file.has_older());
        let left = DataKeys::load(&path, false, Some(&lock)).unwrap();
        assert_eq!(left.count(), 1);
        let left = Seal::with(&left).unwrap();
        assert_eq!(left.open(b"place", again).as_deref(), Some(b"first".as_slice()));
        assert_eq!(left.open(b"place", first.clone()), None);
        assert!(seal.open(b"place", first).is_some(), "what was read before still opens");
    }
}
