//! Writes a backup: a manager's history and secrets at one index, part by part.

use std::sync::Arc;

use bytes::Bytes;
use events::{SecretText, VolatilePayload, VolatileSection, redaction};
use wire::v1::BackupPart;

use super::record::{End, Head, History, Record, StoredFrame};
use super::sealed::{BackupError, Sealer};
use crate::log::{HistoryReader, LogError, LogStore, PageSize, Permits};

/// What is read and sent at once: a fraction of a second on a slow link.
const PAGE: PageSize = PageSize { frames: 4_096, bytes: 1024 * 1024 };
/// Secrets in a page: each has less than a few KiB.
const SECRETS_PER_PAGE: usize = 256;

/// Why a backup cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// History is damaged, or cannot be read.
    #[error("the log cannot be read: {0}")]
    Log(#[from] LogError),
    /// A value was erased from a frame after the index at which the backup ends: the backup would not contain the announcement.
    #[error("a value was erased from history while the backup was under way")]
    Redacted,
    /// It cannot be sealed.
    #[error(transparent)]
    Seal(#[from] BackupError),
}

/// A backup in progress. History is verified as it is read, from the first frame to the last.
pub struct Writer {
    store: Arc<dyn LogStore>,
    sealer: Sealer,
    head: Head,
    history: HistoryReader,
    secrets: Vec<VolatilePayload>,
    /// The redacted frames up to the head's index.
    redacted: Permits,
    written: End,
    step: Step,
}

enum Step {
    /// The start of the file must be written next.
    Head(Vec<u8>),
    History,
    Secrets,
    Over,
}

impl Writer {
    /// Starts a backup of history up to the head's index, with the frames redacted by then, and of these secrets.
    ///
    /// # Errors
    /// When the operating system provides no randomness.
    pub fn begin(
        store: Arc<dyn LogStore>,
        head: Head,
        secrets: Vec<VolatilePayload>,
        redacted: Permits,
        passphrase: &SecretText,
    ) -> Result<Self, BackupError> {
        let (sealer, beginning) = Sealer::begin(passphrase)?;
        let (history, step) = (HistoryReader::after(None), Step::Head(beginning));
        Ok(Self { store, sealer, head, history, secrets, redacted, written: End::default(), step })
    }

    /// The next part of the file; `None` after the last.
    ///
    /// # Errors
    /// When history is damaged or cannot be read, or a value was erased from it meanwhile.
    pub fn part(&mut self) -> Result<Option<BackupPart>, WriteError> {
        match &mut self.step {
            Step::Head(beginning) => {
                let mut data = std::mem::take(beginning);
                self.step = Step::History;
                data.extend(self.sealer.seal(&Record::Head(self.head.clone()).encode(), false)?);
                Ok(Some(self.in_part(data, false)))
            }
            Step::History => self.page().map(Some),
            Step::Secrets => self.rest().map(Some),
            Step::Over => Ok(None),
        }
    }

    fn page(&mut self) -> Result<BackupPart, WriteError> {
        let page = self.history.page(&*self.store, self.head.index, PAGE)?;
        if page.is_empty() {
            self.step = Step::Secrets;
            return self.rest();
        }
        let is_announced = |(index, stored): &(u64, Bytes)| {
            let hashes = self.redacted.get(index);
            redaction::original(stored).is_none()
                || hashes.is_some_and(|hashes| hashes.contains(&redaction::sha256(stored)))
        };
        if !page.iter().all(is_announced) {
            return Err(WriteError::Redacted);
        }
        self.written.frames += page.len() as u64;
        let frames = page.into_iter().map(|(index, stored)| StoredFrame { index, stored }).collect();
        let data = self.sealer.seal(&Record::History(History { frames }).encode(), false)?;
        Ok(self.in_part(data, false))
    }

    fn rest(&mut self) -> Result<BackupPart, WriteError> {
        if self.secrets.is_empty() {
            self.step = Step::Over;
            let data = self.sealer.seal(&Record::End(self.written).encode(), true)?;
            return Ok(self.in_part(data, true));
        }
        let payloads: Vec<_> = self.secrets.drain(..self.secrets.len().min(SECRETS_PER_PAGE)).collect();
        self.written.secrets += payloads.len() as u64;
        let data = self.sealer.seal(&Record::Secrets(VolatileSection { payloads }).encode(), false)?;
        Ok(self.in_part(data, false))
    }

    fn in_part(&self, data: Vec<u8>, last: bool) -> BackupPart {
        let index = self.history.last().map_or(0, |frame| frame.index);
        BackupPart { data, index, to: self.head.index, last }
    }
}
