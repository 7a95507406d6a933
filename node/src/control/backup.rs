//! A backup of the cluster, from this manager's state.

use std::sync::Arc;

use commands::{Actor, Command, ReadSecrets, Rejection, RejectionKind};
use events::SecretText;
use wire::v1::BackupRequest;

use super::Control;
use crate::backup::writer::{WriteError, Writer};
use crate::backup::{PASSPHRASE_BYTES_MIN, head};
use crate::manager::replica::Request;

impl Control {
    /// The core request that records that an actor takes a backup, which contains all secrets.
    pub fn read_all_secrets(&self, actor: Actor) -> Request {
        Request::unnamed(actor, Command::ReadSecrets(ReadSecrets { names: vec!["all, in a backup".to_owned()] }))
    }

    /// A backup of everything up to now. Creating it, and each part of it, may take long.
    ///
    /// # Errors
    /// When the passphrase is too short, or this manager is not a member.
    pub fn backup(&self, mut request: BackupRequest) -> Result<Writer, Rejection> {
        let passphrase = SecretText(std::mem::take(&mut request.passphrase));
        if passphrase.0.len() < PASSPHRASE_BYTES_MIN {
            let sentence = format!("the passphrase has less than {PASSPHRASE_BYTES_MIN} bytes");
            let hint = "a backup holds the cluster's keys: give it a longer passphrase, best a random one";
            return Err(Rejection::invalid("passphrase", sentence, hint));
        }
        let cluster = &self.state.cluster;
        let Some(member) = cluster.members.get(self.manager.node) else {
            let hint = "ask another manager; `swarmctl raft` shows them";
            return Err(Rejection::new(RejectionKind::Unavailable, "backup", "this manager is not a member yet", hint));
        };
        let head = head(cluster, member, &self.manager.hostname, self.raft.term);
        let secrets = self.state.keyring.payloads();
        let started = Writer::begin(Arc::clone(&self.store), head, secrets, cluster.redacted_frames(), &passphrase);
        started.map_err(|error| unwritable(&error.into()))
    }
}

/// Why a backup is incomplete.
pub fn unwritable(error: &WriteError) -> Rejection {
    let hint = match error {
        WriteError::Redacted => "take the backup again",
        WriteError::Log(_) | WriteError::Seal(_) => {
            "take it from another manager; `swarmd replay` checks the whole log of this one"
        }
    };
    Rejection::new(RejectionKind::Unavailable, "backup", error.to_string(), hint)
}
