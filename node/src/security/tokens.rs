//! Join tokens: `SWMTKN-1-<digest>-<secret>`.
//!
//! The digest lets a joining node verify the cluster's root certificate before it trusts any server; the secret authenticates
//! the joining node, and determines its role by which of the two tokens it belongs to.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::RootCertificate;

const FAMILY: &str = "SWMTKN";
const VERSION: &str = "1";

/// 36^50 is the first power of 36 above 2^256.
const DIGEST_LENGTH: usize = 50;
/// 36^25 is the first power of 36 above 2^128.
const SECRET_LENGTH: usize = 25;
const SECRET_BYTES: usize = 16;

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// The credentials to join the cluster in one role. Tokens must only be compared with [`has_secret`](Self::has_secret), which
/// takes constant time.
#[derive(Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct JoinToken {
    digest: String,
    secret: Zeroizing<String>,
}

impl ZeroizeOnDrop for JoinToken {}

/// Why a text is not a join token. Contains nothing of the text's secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTokenError {
    /// Not a token at all.
    #[error("this is not a join token: it does not start with SWMTKN-1-")]
    Prefix,
    /// A token of an unsupported version.
    #[error("this join token is of a version that is not supported, only SWMTKN-1 is")]
    Version,
    /// Parts are missing, or there are too many.
    #[error("the join token is not complete: it has {0} parts of 4")]
    Parts(usize),
    /// A part is truncated or too long.
    #[error("the join token's {part} has {found} characters of {expected}")]
    Length {
        /// Which part: digest or secret.
        part: &'static str,
        /// The required number of characters.
        expected: usize,
        /// The actual number.
        found: usize,
    },
    /// An invalid character.
    #[error("the join token's {part} has a character '{character}': only 0-9 and a-z can be in it")]
    Character {
        /// Which part: digest or secret.
        part: &'static str,
        /// The first invalid character.
        character: char,
    },
}

impl ParseTokenError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Prefix => "`swarmctl cluster inspect` on a manager prints the join tokens; they start with SWMTKN-1-",
            Self::Version => "use a token of a Swarmlog cluster: `swarmctl cluster inspect` on a manager prints them",
            Self::Parts(_) | Self::Length { .. } | Self::Character { .. } => {
                "copy the whole token again: `swarmctl cluster inspect` on a manager prints it"
            }
        }
    }
}

/// The root certificate is not the one that the token was created for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the root certificate's digest is {found}, but the join token was made for {expected}")]
pub struct WrongRoot {
    /// The digest in the token.
    pub expected: String,
    /// The digest of the certificate.
    pub found: String,
}

impl WrongRoot {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        "this is another cluster, or the connection is being intercepted: check the address, and copy the token from a manager of the right cluster"
    }
}

impl JoinToken {
    /// The token for the cluster of `root` with the given secret.
    pub fn new(root: &RootCertificate, secret: &[u8; SECRET_BYTES]) -> Self {
        Self { digest: digest_of(root), secret: Zeroizing::new(base36(secret, SECRET_LENGTH)) }
    }

    /// A token with a new random secret; `None` if the system provides no random bytes.
    pub fn generate(root: &RootCertificate) -> Option<Self> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        SystemRandom::new().fill(secret.as_mut()).ok()?;
        Some(Self::new(root, &secret))
    }

    /// The digest of the root certificate that the token was created for.
    pub fn root_digest(&self) -> &str {
        &self.digest
    }

    /// SHA-256 of the secret's text, stored in the log instead of the secret.
    pub fn secret_sha256(&self) -> [u8; 32] {
        Sha256::digest(self.secret.as_bytes()).into()
    }

    /// Whether this token's secret has the given SHA-256. Takes constant time.
    pub fn has_secret(&self, secret_sha256: &[u8]) -> bool {
        verify_slices_are_equal(&self.secret_sha256(), secret_sha256).is_ok()
    }

    /// Checks that `root` is the certificate that the token was created for.
    pub fn verify_root(&self, root: &RootCertificate) -> Result<(), WrongRoot> {
        let found = digest_of(root);
        let same = verify_slices_are_equal(found.as_bytes(), self.digest.as_bytes()).is_ok();
        if same { Ok(()) } else { Err(WrongRoot { expected: self.digest.clone(), found }) }
    }
}

/// The digest of a root certificate: SHA-256 of its canonical PEM in base 36, 50 characters.
pub fn digest_of(root: &RootCertificate) -> String {
    base36(&Sha256::digest(root.to_pem()), DIGEST_LENGTH)
}

impl FromStr for JoinToken {
    type Err = ParseTokenError;

    /// Parses a token; surrounding white space is ignored.
    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let parts: Vec<&str> = text.trim().split('-').collect();
        match parts[..] {
            [FAMILY, VERSION, digest, secret] => {
                check("digest", digest, DIGEST_LENGTH)?;
                check("secret", secret, SECRET_LENGTH)?;
                Ok(Self { digest: digest.to_owned(), secret: Zeroizing::new(secret.to_owned()) })
            }
            [FAMILY, VERSION, ..] | [FAMILY] => Err(ParseTokenError::Parts(parts.len())),
            [FAMILY, ..] => Err(ParseTokenError::Version),
            _ => Err(ParseTokenError::Prefix),
        }
    }
}

fn check(part: &'static str, text: &str, expected: usize) -> Result<(), ParseTokenError> {
    let wrong = |character: &char| !matches!(character, '0'..='9' | 'a'..='z');
    if let Some(character) = text.chars().find(wrong) {
        return Err(ParseTokenError::Character { part, character });
    }
    if text.len() == expected { Ok(()) } else { Err(ParseTokenError::Length { part, expected, found: text.len() }) }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FAMILY}-{VERSION}-{}-{}", self.digest, *self.secret)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FAMILY}-{VERSION}-{}-(secret)", self.digest)
    }
}

/// The big-endian number `bytes` in base 36, left-padded with zeros.
fn base36(bytes: &[u8], width: usize) -> String {
    let mut number = Zeroizing::new(bytes.to_vec());
    let mut digits = Zeroizing::new(vec![b'0'; width]);
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0usize;
        for byte in number.iter_mut() {
            let dividend = remainder << 8 | usize::from(*byte);
            *byte = (dividend / 36) as u8;
            remainder = dividend % 36;
        }
        *digit = DIGITS[remainder];
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root certificate from another tool; the texts below were computed from it by another program.
    const ROOT: &str = "-----BEGIN CERTIFICATE-----
MIIBezCCASGgAwIBAgIUQENKkWur+yHgxdEEVQxLsYNtlq8wCgYIKoZIzj0EAwIw
EzERMA8GA1UEAwwIc3dhcm0tY2EwHhcNMjYxMTIxMDIyNTA4WhcNNDYxMTE2MDIy
NTA4WjATMREwDwYDVQQDDAhzd2FybS1jYTBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABKSWXI+YFyWi1Qlh6iuEzaikmVzEjm1+I+2IZkGaZij1NtIV9loO8WTXszZo
nSOIBZZbHBohgCeazFT49jkIO+GjUzBRMB0GA1UdDgQWBBTsNLPLk5o3R/G6W1kG
wGAX08+oHjAfBgNVHSMEGDAWgBTsNLPLk5o3R/G6W1kGwGAX08+oHjAPBgNVHRMB
Af8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCICRpA0ff+AY7VdjeDPhX3k9VnadA
wyK+SUzYPQlgBeuzAiEAgPPY4KeE9jboe7uz6RmJ2XdOaeIQ1jMJ6H+iQHwGTlw=
-----END CERTIFICATE-----
";
    const TOKEN: &str = "SWMTKN-1-27jkzaar00e71yufvx4k2aifktf2q6kksopr5d6vg5ynpiz1ki-025burfp0j7epb0hqfcuw340g";
    const SECRET_SHA256: &str = "c0377f445ff85ba53ae06207a2d15f4895a491d8f38484c50a2a41efff6c2c24";

    fn root() -> RootCertificate {
        RootCertificate::from_pem(ROOT).expect("a root certificate")
    }

    #[test]
    fn a_token_is_what_another_program_says_it_is() {
        let token = JoinToken::new(&root(), &std::array::from_fn(|at| at as u8 + 1));
        assert_eq!(token.to_string(), TOKEN);
        assert_eq!(TOKEN.parse(), Ok(token.clone()));
        let hex: String = token.secret_sha256().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, SECRET_SHA256);
        assert_eq!(base36(&[0xff; 16], SECRET_LENGTH), "f5lxx1zz5pnorynqglhzmsp33");
    }

    #[test]
    fn the_digest_does_not_depend_on_how_the_certificate_is_written() {
        let rewritten = format!("# a comment\r\n\r\n{}\r\n", ROOT.replace('\n', "\r\n"));
        let root = RootCertificate::from_pem(&rewritten).expect("the same root");
        assert_eq!(root.to_pem(), ROOT);
        let token: JoinToken = TOKEN.parse().expect("a token");
        assert_eq!(token.verify_root(&root), Ok(()));
    }

    #[test]
    fn another_root_is_recognised() {
        let other = super::super::Authority::generate(super::super::testing::NOW).expect("an authority");
        let token: JoinToken = TOKEN.parse().expect("a token");
        let wrong = token.verify_root(other.root()).expect_err("another digest");
        assert_eq!(wrong.expected, root().digest());
        assert_eq!(wrong.found, other.root().digest());
    }

    #[test]
    fn secrets_are_random_compared_and_not_shown() {
        let (one, other) = (JoinToken::generate(&root()), JoinToken::generate(&root()));
        let (one, other) = (one.expect("random bytes"), other.expect("random bytes"));
        assert_ne!(one, other);
        assert!(one.has_secret(&one.secret_sha256()));
        assert!(!one.has_secret(&other.secret_sha256()));
        assert!(!one.has_secret(&[]));
        let secret = one.to_string()[TOKEN.len() - SECRET_LENGTH..].to_owned();
        assert!(!format!("{one:?}").contains(&secret), "{one:?}");
    }

    #[test]
    fn other_texts_are_refused_with_a_reason() {
        use ParseTokenError::{Character, Length, Parts, Prefix, Version};
        let (digest, secret) = (&TOKEN[9..59], &TOKEN[60..]);
        let cases = [
            (String::new(), Prefix),
            ("hello".to_owned(), Prefix),
            (TOKEN.replace("SWMTKN", "SWMKEY"), Prefix),
            ("SWMTKN-1".to_owned(), Parts(2)),
            (format!("SWMTKN-1-{digest}"), Parts(3)),
            (format!("{TOKEN}-x"), Parts(5)),
            (format!("SWMTKN-2-0-{digest}-{secret}"), Version),
            (TOKEN[..TOKEN.len() - 1].to_owned(), Length { part: "secret", expected: 25, found: 24 }),
            (format!("SWMTKN-1-{}-{secret}", &digest[1..]), Length { part: "digest", expected: 50, found: 49 }),
            (format!("SWMTKN-1-{digest}-{}", secret.to_uppercase()), Character { part: "secret", character: 'B' }),
            (format!("SWMTKN-1-{}é-{secret}", &digest[1..]), Character { part: "digest", character: 'é' }),
        ];
        for (text, error) in cases {
            let found = text.parse::<JoinToken>().expect_err(&text);
            assert_eq!(found, error, "{text}");
            assert!(!found.to_string().contains(secret) && !found.hint().is_empty());
        }
        assert!(format!("  {TOKEN}\n").parse::<JoinToken>().is_ok());
    }
}
