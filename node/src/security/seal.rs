//! Sealing at rest: values are encrypted and authenticated with AES-256-GCM under a data key of this node alone. The log
//! seals every value so, the agent every record. A key lies in a file of its own beside what it seals (mode 0600); wrapping
//! that file is where an unlock key will come in.
//!
//! A value is bound to its place, so values cannot be swapped; that a whole value was put back to an older one at the same
//! place is for its owner to notice: the log has its hash chain.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use bytes::Bytes;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of a data key.
const KEY_BYTES: usize = 32;
/// First byte of a key file: the key follows as it is.
const PLAIN_KEY: u8 = 1;
const TAG_BYTES: usize = 16;

/// Why nothing can be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is no key file, and none may be made.
    #[error("the data key {path} is missing", path = .0.display())]
    KeyMissing(PathBuf),
    /// The key file does not hold a key.
    #[error("the data key {path} is damaged: {reason}", path = .path.display())]
    KeyDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The key file could not be used.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
    /// The operating system has no randomness to give, or the cipher failed.
    #[error("cannot {0}: the cryptographic library refused")]
    Crypto(&'static str),
}

/// Seals and opens values with one data key.
pub struct Seal {
    key: LessSafeKey,
    nonces: Mutex<Nonces>,
}

/// The library wipes the memory of a cipher when it frees it.
impl ZeroizeOnDrop for Seal {}

impl Seal {
    /// A seal with this data key.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn new(data_key: &[u8; KEY_BYTES]) -> Result<Self, SealError> {
        let key = UnboundKey::new(&AES_256_GCM, data_key).map_err(|_| SealError::Crypto("set up the cipher"))?;
        Ok(Self { key: LessSafeKey::new(key), nonces: Mutex::new(Nonces::draw()?) })
    }

    /// Seals `head` followed by `body` for its place.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn seal(&self, place: &[u8], head: &[u8], body: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce = self.nonces.lock().unwrap_or_else(PoisonError::into_inner).issue()?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + head.len() + body.len() + TAG_BYTES);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(head);
        sealed.extend_from_slice(body);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(place), &mut sealed[NONCE_LEN..]);
        sealed.extend_from_slice(tag.map_err(|_| SealError::Crypto("seal a value"))?.as_ref());
        Ok(sealed)
    }

    /// Opens what was sealed for this place; nothing if it is damaged, from another place, or sealed with another key.
    pub fn open(&self, place: &[u8], mut sealed: Vec<u8>) -> Option<Bytes> {
        let (nonce, ciphertext) = sealed.split_first_chunk_mut::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain_bytes = self.key.open_in_place(nonce, Aad::from(place), ciphertext).ok()?.len();
        sealed.truncate(NONCE_LEN + plain_bytes);
        Some(Bytes::from(sealed).slice(NONCE_LEN..))
    }
}

/// Wipes an opened value from memory, unless somebody else still has it.
pub fn wipe(opened: Bytes) {
    if let Ok(mut bytes) = opened.try_into_mut() {
        bytes.as_mut().zeroize();
    }
}

/// Nonces that never repeat under one key: a random prefix for each run of the process, then a counter. Cheaper than a
/// draw for each value, and 2^20 starts of one manager repeat a prefix with a chance of 2^-25 only, however many values
/// each of them seals (with all 96 bits drawn, 2^32 values would be the limit).
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

/// The data key in `path`. A new one is made if there is no file and `may_create`; it is durable before it is used.
///
/// # Errors
/// When the file is damaged, cannot be read or written, or is missing and must not be made.
pub fn data_key(path: &Path, may_create: bool) -> Result<Zeroizing<[u8; KEY_BYTES]>, SealError> {
    match File::open(path) {
        Ok(file) => read_key(path, file),
        Err(error) if error.kind() == ErrorKind::NotFound && may_create => create_key(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(SealError::KeyMissing(path.to_owned())),
        Err(source) => Err(SealError::File { action: "read", path: path.to_owned(), source }),
    }
}

fn read_key(path: &Path, file: File) -> Result<Zeroizing<[u8; KEY_BYTES]>, SealError> {
    let damaged = |reason| SealError::KeyDamaged { path: path.to_owned(), reason };
    let mut stored = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 2));
    // One byte more than a key, so that a longer file shows.
    file.take(KEY_BYTES as u64 + 2).read_to_end(&mut stored).map_err(|source| SealError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let (&form, key) = stored.split_first().ok_or_else(|| damaged("it is empty"))?;
    if form != PLAIN_KEY {
        return Err(damaged("it has a form that this build does not know"));
    }
    let key: [u8; KEY_BYTES] = key.try_into().map_err(|_| damaged("it has the wrong length"))?;
    Ok(Zeroizing::new(key))
}

/// Written aside, synced, renamed, and the directory synced: after a crash there is a whole key or none.
fn create_key(path: &Path) -> Result<Zeroizing<[u8; KEY_BYTES]>, SealError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    rand::fill(key.as_mut_slice()).map_err(|_| SealError::Crypto("draw random bytes"))?;
    let aside = path.with_extension("key.new");
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(&[PLAIN_KEY])?;
        file.write_all(key.as_slice())?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    })();
    written.map_err(|source| SealError::File { action: "create", path: path.to_owned(), source })?;
    Ok(key)
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
        // The same memory, seen by its length: what is left of it afterwards is nobody's.
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
        assert!(matches!(data_key(&path, false), Err(SealError::KeyMissing(missing)) if missing == path));
        let made = data_key(&path, true).unwrap();
        assert_eq!(data_key(&path, true).unwrap(), made);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_key_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.key");
        for stored in [vec![], vec![PLAIN_KEY; 12], vec![PLAIN_KEY; 34], vec![9; 33]] {
            fs::write(&path, &stored).unwrap();
            assert!(matches!(data_key(&path, true), Err(SealError::KeyDamaged { .. })), "{stored:?}");
        }
    }
}
