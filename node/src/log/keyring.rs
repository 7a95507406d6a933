//! The keyring on disk: one record for each secret, written or deleted in the same batch that adds its frame to history. So a
//! start needs neither a checkpoint nor raft entries to have all secrets, and none that was removed.
//!
//! A record's key is derived from the secret's name and the record is sealed for that key, so that no secret can replace another.
//! A deleted record never reappears. Its sealed bytes leave the disk when the database compacts the table, and those of the raft
//! entry that carried it with the next compaction of the raft log.

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

/// A record; the secret is not copied in memory.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    name: &'a str,
    secret: &'a [u8],
}

/// Maximum number of bytes of a record in addition to its name and its secret.
const RECORD_OVERHEAD: usize = 32;

/// The key of a secret: the first 96 bits of a hash, too many for two names to collide by chance.
pub(super) fn place(name: &str) -> Key {
    let hash = Sha256::digest(name.as_bytes());
    let (mut index, mut part) = ([0; 8], [0; 4]);
    index.copy_from_slice(&hash[..8]);
    part.copy_from_slice(&hash[8..12]);
    Key { index: u64::from_be_bytes(index), part: u32::from_be_bytes(part) }
}

impl<D: Disk> Store<D> {
    /// The change that stores or destroys a secret.
    pub(super) fn change_secret(&self, payload: &VolatilePayload) -> Result<Change, LogError> {
        let (table, key) = (Table::Keyring, place(&payload.key));
        match &payload.value {
            Some(secret) => {
                // Allocated at full size: a buffer that grows leaves copies behind.
                let room = Vec::with_capacity(payload.key.len() + secret.len() + RECORD_OVERHEAD);
                let record = Zeroizing::new(encode_record_into(room, &Record { name: &payload.key, secret }));
                self.put(table, key, &[], &record)
            }
            None => Ok(Change::DeleteRange { table, from: key, to: key.next() }),
        }
    }

    /// Every secret. One that cannot be opened fails the start: it exists nowhere else, and the cluster is incomplete without it.
    pub(super) fn read_keyring(&self) -> Result<Vec<VolatilePayload>, LogError> {
        let mut secrets = Vec::new();
        self.disk.scan(Table::Keyring, Key::MIN, Key::MAX, &mut |key, sealed| {
            let damaged = |reason: &str| LogError::KeyringDamaged { reason: reason.to_owned() };
            let stored = self.seal.open(&disk::place(Table::Keyring, key), sealed);
            let stored = stored.ok_or_else(|| damaged("it was not sealed there with this data key"))?;
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
