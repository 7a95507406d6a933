//! The keyring on the disk: one record for each secret, written or deleted in the very batch that adds its frame to
//! history. So a start needs neither a checkpoint nor raft entries to have all secrets, and none that was removed.
//!
//! A record's place follows from the secret's name and it is sealed for that place, so that no secret can be put in the
//! place of another. A deleted record comes back in no start. Its sealed bytes leave the disk when the database compacts
//! the table, and those of the raft entry that brought it with the next cut.

use std::ops::ControlFlow;

use events::VolatilePayload;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::LogError;
use super::disk::{self, Change, Disk, Key, Table};
use super::entry::{decode_record, encode_record_into};
use super::store::Store;
use crate::security::seal::wipe;

/// A record, of which the secret is in memory where it was anyhow.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    name: &'a str,
    secret: &'a [u8],
}

/// Bytes of a record besides its name and its secret, at most.
const RECORD_OVERHEAD: usize = 32;

/// The place of a secret: the first 96 bits of a hash, which nobody makes two names meet in by chance.
pub(super) fn place(name: &str) -> Key {
    let hash = Sha256::digest(name.as_bytes());
    let (mut index, mut part) = ([0; 8], [0; 4]);
    index.copy_from_slice(&hash[..8]);
    part.copy_from_slice(&hash[8..12]);
    Key { index: u64::from_be_bytes(index), part: u32::from_be_bytes(part) }
}

impl<D: Disk> Store<D> {
    /// The change that keeps or destroys a secret.
    pub(super) fn change_secret(&self, payload: &VolatilePayload) -> Result<Change, LogError> {
        let (table, key) = (Table::Keyring, place(&payload.key));
        match &payload.value {
            Some(secret) => {
                // With room for all of it: a buffer that grows leaves copies behind.
                let room = Vec::with_capacity(payload.key.len() + secret.len() + RECORD_OVERHEAD);
                let record = Zeroizing::new(encode_record_into(room, &Record { name: &payload.key, secret }));
                self.put(table, key, &[], &record)
            }
            None => Ok(Change::DeleteRange { table, from: key, to: key.next() }),
        }
    }

    /// Every secret. One that does not open ends the start: nothing else has it, and the cluster is not whole without.
    pub(super) fn read_keyring(&self) -> Result<Vec<VolatilePayload>, LogError> {
        let mut secrets = Vec::new();
        self.disk.scan(Table::Keyring, Key::MIN, Key::MAX, &mut |key, sealed| {
            let damaged = |reason: &str| LogError::KeyringDamaged { reason: reason.to_owned() };
            let stored = self.seal.open(&disk::place(Table::Keyring, key), sealed);
            let stored = stored.ok_or_else(|| damaged("it is not what was sealed there with this data key"))?;
            let Record { name, secret } = decode_record(&stored).map_err(|reason| damaged(&reason))?;
            if place(name) != key {
                return Err(damaged("it is not in the place of its name"));
            }
            secrets.push(VolatilePayload::keep(name, secret));
            wipe(stored);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(secrets)
    }
}
