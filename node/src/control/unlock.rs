//! The unlock key: made here, because that needs randomness, and shown to whoever may see it.

use commands::{Actor, Command, ReadSecrets, Rejection, RejectionKind, SecretText};
use events::ClusterSpec;
use projections::settings::UNLOCK_KEY;
use wire::v1::UnlockKeyReply;

use super::Control;
use crate::manager::replica::Request;
use crate::security::UnlockKey;

/// A new unlock key.
///
/// # Errors
/// When the system has no randomness.
pub(super) fn unlock_key() -> Result<SecretText, Rejection> {
    let key = UnlockKey::generate().ok_or_else(|| {
        let sentence = "the system provides no random bytes";
        Rejection::new(RejectionKind::Unavailable, "unlock key", sentence, "report this as a bug")
    })?;
    Ok(SecretText(key.reveal().to_string()))
}

impl Control {
    /// A new unlock key, if these settings are the first to need one.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(super) fn first_unlock_key(&self, spec: &ClusterSpec) -> Result<Option<SecretText>, Rejection> {
        (spec.autolock() && !self.state.cluster.settings.locked).then(unlock_key).transpose()
    }

    /// What notes that somebody is shown the unlock key.
    pub fn read_unlock_key(&self, actor: Actor) -> Request {
        Request::unnamed(actor, Command::ReadSecrets(ReadSecrets { names: vec![UNLOCK_KEY.to_owned()] }))
    }

    /// The unlock key; to be handed out once it is noted that it was read.
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
