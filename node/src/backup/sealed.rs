//! Chunks of a file that is encrypted with a passphrase. The key is derived from the passphrase and a salt; each chunk is
//! encrypted and authenticated with AES-256-GCM. Its nonce contains its number and whether it is the last: no chunk can be left
//! out, exchanged or moved, and a truncated file has no last one.

use std::io::{ErrorKind, Read};
use std::num::NonZeroU32;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{pbkdf2, rand};
use events::SecretText;
use zeroize::Zeroizing;

/// The first bytes of a file, ending with the format version.
const MAGIC: [u8; 16] = *b"swarmlog backup\x01";
const SALT_BYTES: usize = 16;
/// The magic bytes, the salt and the number of rounds.
const HEADER_BYTES: usize = MAGIC.len() + SALT_BYTES + 4;
/// Rounds of PBKDF2 with HMAC-SHA-256, as recommended by OWASP: about half a second per file, and per guess.
const ROUNDS: u32 = 600_000;
/// Maximum number of rounds accepted from a file: some seconds.
const ROUNDS_MAX: u32 = 10_000_000;
/// Maximum chunk size accepted from a file: several times what a writer uses.
const CHUNK_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Header of a chunk: its length, and whether it is the last.
const CHUNK_HEAD_BYTES: usize = 5;
const TAG_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

/// Why a file is not a usable backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It does not start with the magic bytes.
    #[error("it is not a backup of a Swarmlog cluster")]
    NotABackup,
    /// Its format version is not supported.
    #[error("it has format {0}, which this swarmd does not read")]
    Newer(u8),
    /// Its first chunk cannot be decrypted.
    #[error("the passphrase is wrong, or the beginning of the file is damaged")]
    Passphrase,
    /// A chunk cannot be decrypted.
    #[error("it is damaged at byte {0}")]
    Damaged(u64),
    /// It is truncated.
    #[error("it was cut off after {0} bytes")]
    CutShort(u64),
    /// It has data after its end.
    #[error("something follows its end at byte {0}")]
    TooLong(u64),
    /// Its contents are invalid.
    #[error("{0}")]
    Content(String),
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The cryptographic library failed.
    #[error("cannot {0}: the cryptographic library refused")]
    Crypto(&'static str),
}

fn derive(passphrase: &SecretText, salt: &[u8], rounds: u32) -> Result<LessSafeKey, BackupError> {
    let rounds = NonZeroU32::new(rounds).filter(|rounds| rounds.get() <= ROUNDS_MAX).ok_or(BackupError::NotABackup)?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, passphrase.0.as_bytes(), key.as_mut_slice());
    let key = UnboundKey::new(&AES_256_GCM, key.as_slice()).map_err(|_| BackupError::Crypto("set up the cipher"))?;
    Ok(LessSafeKey::new(key))
}

/// Unique for each chunk of a file; different files have different keys.
fn nonce(number: u64, is_last: bool) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[..8].copy_from_slice(&number.to_be_bytes());
    nonce[NONCE_LEN - 1] = u8::from(is_last);
    Nonce::assume_unique_for_key(nonce)
}

/// Seals the chunks of one file.
pub struct Sealer {
    key: LessSafeKey,
    number: u64,
}

impl Sealer {
    /// Starts a file: returns the sealer, and the bytes before the first chunk.
    ///
    /// # Errors
    /// When the operating system provides no randomness.
    pub fn begin(passphrase: &SecretText) -> Result<(Self, Vec<u8>), BackupError> {
        let mut salt = [0; SALT_BYTES];
        rand::fill(&mut salt).map_err(|_| BackupError::Crypto("draw random bytes"))?;
        let key = derive(passphrase, &salt, ROUNDS)?;
        Ok((Self { key, number: 0 }, [MAGIC.as_slice(), &salt, &ROUNDS.to_le_bytes()].concat()))
    }

    /// Encrypts the next chunk.
    ///
    /// # Errors
    /// When the cipher fails, or the chunk is too large.
    pub fn seal(&mut self, content: &[u8], is_last: bool) -> Result<Vec<u8>, BackupError> {
        let refused = || BackupError::Crypto("seal a part of the backup");
        let length = content.len() + TAG_BYTES;
        let head = u32::try_from(length).ok().filter(|_| length <= CHUNK_BYTES_MAX).ok_or_else(refused)?;
        let mut chunk = Vec::with_capacity(CHUNK_HEAD_BYTES + length);
        chunk.extend_from_slice(&head.to_le_bytes());
        chunk.push(u8::from(is_last));
        chunk.extend_from_slice(content);
        let nonce = nonce(self.number, is_last);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut chunk[CHUNK_HEAD_BYTES..]);
        chunk.extend_from_slice(tag.map_err(|_| refused())?.as_ref());
        self.number += 1;
        Ok(chunk)
    }
}

/// Opens the chunks of one file, in order.
pub struct Opener<R> {
    file: R,
    key: LessSafeKey,
    number: u64,
    bytes: u64,
    at_end: bool,
}

impl<R: Read> Opener<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When it is no backup, or has another version.
    pub fn open(mut file: R, passphrase: &SecretText) -> Result<Self, BackupError> {
        let (mut header, mut bytes) = ([0; HEADER_BYTES], 0);
        let whole = fill(&mut file, &mut header, &mut bytes);
        // The last magic byte is the version.
        let known = (MAGIC.len() - 1).min(bytes as usize);
        if known == 0 || header[..known] != MAGIC[..known] {
            return Err(BackupError::NotABackup);
        }
        whole?;
        let (magic, rest) = header.split_at(MAGIC.len());
        let (salt, rounds) = rest.split_at(SALT_BYTES);
        if magic != MAGIC {
            return Err(BackupError::Newer(magic[MAGIC.len() - 1]));
        }
        let rounds = rounds.try_into().map(u32::from_le_bytes).map_err(|_| BackupError::NotABackup)?;
        let key = derive(passphrase, salt, rounds)?;
        Ok(Self { file, key, number: 0, bytes, at_end: false })
    }

    /// The contents of the next chunk; `None` after the last one.
    ///
    /// # Errors
    /// When the passphrase is wrong, or the file is damaged, truncated or continues after its end.
    pub fn chunk(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, BackupError> {
        if self.at_end {
            return match self.file.read(&mut [0])? {
                0 => Ok(None),
                _ => Err(BackupError::TooLong(self.bytes)),
            };
        }
        let begun_at = self.bytes;
        let mut head = [0; CHUNK_HEAD_BYTES];
        fill(&mut self.file, &mut head, &mut self.bytes)?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if !(TAG_BYTES..=CHUNK_BYTES_MAX).contains(&length) || head[4] > 1 {
            return Err(BackupError::Damaged(begun_at));
        }
        let is_last = head[4] == 1;
        let mut content = Zeroizing::new(vec![0; length]);
        fill(&mut self.file, &mut content, &mut self.bytes)?;
        let opened = self.key.open_in_place(nonce(self.number, is_last), Aad::empty(), &mut content);
        let length = match opened {
            Ok(plain) => plain.len(),
            Err(_) if self.number == 0 => return Err(BackupError::Passphrase),
            Err(_) => return Err(BackupError::Damaged(begun_at)),
        };
        content.truncate(length);
        (self.number, self.at_end) = (self.number + 1, is_last);
        Ok(Some(content))
    }
}

/// Fills `into` with the next bytes of a file, and adds the number of bytes read to `bytes`.
fn fill(file: &mut impl Read, mut into: &mut [u8], bytes: &mut u64) -> Result<(), BackupError> {
    while !into.is_empty() {
        match file.read(into) {
            Ok(0) => return Err(BackupError::CutShort(*bytes)),
            Ok(read) => {
                *bytes += read as u64;
                into = &mut into[read..];
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
