//! Signed notes as specified by C2SP's signed-note: a text, followed by signatures. Signatures are Ed25519, and keys have names;
//! signatures of unknown keys are kept and ignored.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

/// The kind of signatures: Ed25519 over the text.
const ED25519_KIND: u8 = 1;
/// The prefix of a signature line.
const SIGNATURE: &str = "\u{2014} ";
/// Maximum number of signatures on a text.
const SIGNATURES_MAX: usize = 100;
/// Maximum size of a note, in bytes.
const BYTES_MAX: usize = 1024 * 1024;

/// A key that verifies signatures.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VerifierKey {
    name: String,
    public: [u8; 32],
}

impl VerifierKey {
    /// The key with this name, which contains no space, newline or plus.
    pub fn new(name: impl Into<String>, public: [u8; 32]) -> Self {
        Self { name: name.into(), public }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key id, which identifies it in a signature together with its name.
    fn id(&self) -> [u8; 4] {
        let hash = Sha256::new_with_prefix(&self.name).chain_update([b'\n', ED25519_KIND]).chain_update(self.public);
        let hash: [u8; 32] = hash.finalize().into();
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = u32::from_be_bytes(self.id());
        let key: Vec<u8> = [ED25519_KIND].into_iter().chain(self.public).collect();
        write!(f, "{}+{id:08x}+{}", self.name, BASE64_STANDARD.encode(key))
    }
}

impl FromStr for VerifierKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || format!("\"{text}\" is not a verifier key: NAME+ID+KEY is expected");
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(_), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed());
        };
        let key = BASE64_STANDARD.decode(key).map_err(|_| malformed())?;
        let Some((&ED25519_KIND, public)) = key.split_first() else {
            return Err(format!("the key of {name} is not one for Ed25519"));
        };
        let public = public.try_into().map_err(|_| malformed())?;
        let key = Self::new(name, public);
        // The id protects against an incompletely copied key.
        if is_name(name) && key.to_string() == text { Ok(key) } else { Err(malformed()) }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|letter: char| letter.is_whitespace() || letter.is_control() || letter == '+')
}

/// A key that signs notes.
pub struct Signer {
    key: VerifierKey,
    pair: Ed25519KeyPair,
}

impl Signer {
    /// The signer with this name and seed; `None` if the cryptographic library refuses it.
    pub fn new(name: impl Into<String>, seed: &[u8; 32]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some(Self { key: VerifierKey::new(name, public), pair })
    }

    /// The key that verifies its signatures.
    pub fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        self.key.public
    }

    /// Signs a text.
    fn sign(&self, text: &str) -> Signature {
        let bytes = self.pair.sign(text.as_bytes()).as_ref().to_vec();
        Signature { name: self.key.name.clone(), id: self.key.id(), bytes }
    }
}

/// One signature of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Signature {
    name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

/// A text with its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    signatures: Vec<Signature>,
}

/// Whether a key signed a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was signed with this key.
    Signed,
    /// It has a signature with this key's name and id that is invalid.
    Forged,
    /// It has no signature of this key.
    Unsigned,
}

impl SignedNote {
    /// A text that ends with a newline, without signatures.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), signatures: Vec::new() }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names in the signatures, valid or not.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.signatures.iter().map(|signature| signature.name.as_str())
    }

    /// Adds a signature.
    #[must_use]
    pub fn signed_by(mut self, signer: &Signer) -> Self {
        self.signatures.push(signer.sign(&self.text));
        self
    }

    /// Adds the signatures that this key made on another note with the same text.
    #[must_use]
    pub fn cosigned(mut self, other: &Self, key: &VerifierKey) -> Self {
        let id = key.id();
        let theirs = |signature: &&Signature| signature.name == key.name && signature.id == id;
        let verified = |signature: &&Signature| is_by(key, &self.text, signature);
        self.signatures
            .extend(other.signatures.iter().filter(theirs).filter(verified).take(1).cloned().collect::<Vec<_>>());
        self
    }

    /// Checks the signature of this key.
    pub fn verdict(&self, key: &VerifierKey) -> Verdict {
        let id = key.id();
        let mut theirs = self.signatures.iter().filter(|signature| signature.name == key.name && signature.id == id);
        match theirs.next() {
            None => Verdict::Unsigned,
            Some(signature) if is_by(key, &self.text, signature) => Verdict::Signed,
            Some(_) => Verdict::Forged,
        }
    }
}

fn is_by(key: &VerifierKey, text: &str, signature: &Signature) -> bool {
    UnparsedPublicKey::new(&ED25519, key.public).verify(text.as_bytes(), &signature.bytes).is_ok()
}

impl fmt::Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for Signature { name, id, bytes } in &self.signatures {
            let stored: Vec<u8> = id.iter().chain(bytes).copied().collect();
            writeln!(f, "{SIGNATURE}{name} {}", BASE64_STANDARD.encode(stored))?;
        }
        Ok(())
    }
}

impl FromStr for SignedNote {
    type Err = String;

    fn from_str(note: &str) -> Result<Self, String> {
        if note.len() > BYTES_MAX {
            return Err(format!("a note of {} bytes cannot be: {BYTES_MAX} at most", note.len()));
        }
        // A text alone is a note without signatures.
        let (text, signatures) = note.rsplit_once("\n\n").unwrap_or((note.trim_end_matches('\n'), ""));
        let signatures: Vec<Signature> = signatures.lines().map(signature).collect::<Result<_, _>>()?;
        match signatures.len() {
            count if count > SIGNATURES_MAX => {
                Err(format!("{count} signatures are too many: {SIGNATURES_MAX} at most"))
            }
            _ if !signatures.is_empty() && !note.ends_with('\n') => {
                Err("the last line of the note does not end".to_owned())
            }
            _ => Ok(Self { text: format!("{text}\n"), signatures }),
        }
    }
}

fn signature(line: &str) -> Result<Signature, String> {
    let parsed = || {
        let (name, stored) = line.strip_prefix(SIGNATURE)?.split_once(' ')?;
        let stored = BASE64_STANDARD.decode(stored).ok()?;
        let (id, bytes) = stored.split_first_chunk::<4>()?;
        is_name(name).then(|| Signature { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
    };
    parsed().ok_or_else(|| format!("\"{}\" is not a signature", line.chars().take(80).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Go's own implementation.
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const SEED: &str = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const NOTE: &str = "If you think cryptography is the answer to your problem,
then you don't know what your problem is.

\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
";

    fn key() -> VerifierKey {
        KEY.parse().expect("a key")
    }

    fn somebody(name: &str, seed: u8) -> Signer {
        Signer::new(name, &[seed; 32]).expect("a signer")
    }

    #[test]
    fn a_note_that_others_signed_is_read_and_the_same_key_signs_it_in_the_same_way() {
        let note: SignedNote = NOTE.parse().expect("a note");
        assert_eq!((note.verdict(&key()), note.to_string().as_str()), (Verdict::Signed, NOTE));
        let seed = BASE64_STANDARD.decode(SEED).expect("base64")[1..].try_into().expect("32 bytes");
        let signer = Signer::new("PeterNeumann", &seed).expect("a signer");
        assert_eq!((signer.key().to_string().as_str(), signer.key().name()), (KEY, "PeterNeumann"));
        assert_eq!(SignedNote::new(note.text()).signed_by(&signer).to_string(), NOTE);
    }

    #[test]
    fn what_was_changed_was_not_signed() {
        let forged: SignedNote = NOTE.replace("think", "thank").parse().expect("a note");
        assert_eq!(forged.verdict(&key()), Verdict::Forged);
        let unsigned: SignedNote = NOTE.replace("x08go", "AAAAA").parse().expect("a note");
        assert_eq!(unsigned.verdict(&key()), Verdict::Unsigned);
        let (one, two) = (somebody("one", 1), somebody("two", 2));
        let note = SignedNote::new("a text\n").signed_by(&one);
        assert_eq!((note.verdict(one.key()), note.verdict(two.key())), (Verdict::Signed, Verdict::Unsigned));
        let theirs = SignedNote::new("a text\n").signed_by(&two);
        let both = note.clone().cosigned(&theirs, two.key());
        assert_eq!(both.names().collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(both.verdict(two.key()), Verdict::Signed);
        let other = SignedNote::new("another text\n").signed_by(&two);
        assert_eq!(note.clone().cosigned(&other, two.key()), note, "for another text");
    }

    #[test]
    fn no_key_and_no_note_is_read_from_what_is_none() {
        for end in 1..KEY.len() {
            assert!(KEY[..end].parse::<VerifierKey>().is_err(), "{end}");
            let mut changed = KEY.as_bytes().to_vec();
            changed[end] ^= 1;
            let changed = String::from_utf8(changed).expect("text");
            assert!(changed.parse::<VerifierKey>().is_err(), "{changed}");
        }
        let many = format!("a\n\n{}", "\u{2014} a AAAAAAAA\n".repeat(SIGNATURES_MAX + 1));
        for (note, why) in [
            (NOTE.trim_end().to_owned(), "does not end"),
            (NOTE.replace("PeterNeumann ", ""), "is not a signature"),
            (NOTE.replace("PeterNeumann ", "Peter+Neumann "), "is not a signature"),
            (NOTE.replace("x08go", "*****"), "is not a signature"),
            (many, "too many"),
            ("a".repeat(BYTES_MAX + 1), "cannot be"),
        ] {
            let refused = note.parse::<SignedNote>().expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
    }
}
