//! Keys of the cluster, created here because they need randomness: the unlock key, which is shown to authorised operators, and
//! those of archives and of redactions, which are never shown.

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use commands::{Actor, Command, ReadSecrets, Rejection, RejectionKind, SecretBytes, SecretText};
use events::ClusterSpec;
use projections::settings::{ARCHIVE_KEY, UNLOCK_KEY};
use wire::v1::UnlockKeyReply;
use zeroize::Zeroizing;

use super::Control;
use crate::manager::replica::Request;
use crate::security::UnlockKey;

/// A new unlock key.
///
/// # Errors
/// When the system provides no random bytes.
pub(super) fn unlock_key() -> Result<SecretText, Rejection> {
    let key = UnlockKey::generate().ok_or_else(|| no_random_bytes("unlock key"))?;
    Ok(SecretText(key.reveal().to_string()))
}

/// A new key for archives, in base64.
fn archive_key() -> Result<SecretText, Rejection> {
    let mut key = Zeroizing::new([0; 32]);
    rand::fill(&mut *key).map_err(|_| no_random_bytes("archive key"))?;
    Ok(SecretText(STANDARD.encode(*key)))
}

/// A new key for the digests of values erased from history.
pub(super) fn redaction_key() -> Result<SecretBytes, Rejection> {
    let mut key = SecretBytes(vec![0; 32]);
    rand::fill(&mut key.0).map_err(|_| no_random_bytes("redaction key"))?;
    Ok(key)
}

fn no_random_bytes(subject: &str) -> Rejection {
    let sentence = "the system provides no random bytes";
    Rejection::new(RejectionKind::Unavailable, subject, sentence, "report this as a bug")
}

impl Control {
    /// A new unlock key, if these settings are the first to need one.
    ///
    /// # Errors
    /// When the system provides no random bytes.
    pub(super) fn first_unlock_key(&self, spec: &ClusterSpec) -> Result<Option<SecretText>, Rejection> {
        (spec.autolock() && !self.state.cluster.settings.locked).then(unlock_key).transpose()
    }

    /// A key for archives, if these settings are the first to need one.
    ///
    /// # Errors
    /// When the system provides no random bytes.
    pub(super) fn first_archive_key(&self, spec: &ClusterSpec) -> Result<Option<SecretText>, Rejection> {
        let has_one = self.state.keyring.names().any(|name| name.starts_with(ARCHIVE_KEY));
        (spec.history_keep_ns.is_some() && !has_one).then(archive_key).transpose()
    }

    /// The core request that records that the unlock key is read.
    pub fn read_unlock_key(&self, actor: Actor) -> Request {
        Request::unnamed(actor, Command::ReadSecrets(ReadSecrets { names: vec![UNLOCK_KEY.to_owned()] }))
    }

    /// The unlock key; must be returned only after the read is recorded.
    ///
    /// # Errors
    /// When there is none.
    pub fn unlock_key(&self) -> Result<UnlockKeyReply, Rejection> {
        let key = self.state.keyring.text(UNLOCK_KEY).filter(|_| self.state.cluster.settings.locked);
        let unlock_key = key.map(str::to_owned).ok_or_else(|| {
            let hint = "turn it on first with `swarmctl cluster update --autolock`";
            Rejection::conflict("unlock key", "the cluster has no unlock key: autolock is off", hint)
        })?;
        Ok(UnlockKeyReply { unlock_key })
    }
}
