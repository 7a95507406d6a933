//! Reads the frames of history, wherever they are: in archives, in the table of history, or staged and not on disk yet.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::archive::ArchivedBefore;
use super::disk::{Disk, Key, Table};
use super::entry::FrameLink;
use super::store::{FETCHED, Store};
use super::tail::Budget;
use super::{LogError, LogStore};

impl<D: Disk> Store<D> {
    pub(super) fn read_frames(
        &self,
        from: u64,
        frames_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Bytes)>, LogError> {
        if let Some(archived) = self.archived_history(from, frames_max, bytes_max)? {
            return Ok(archived);
        }
        let mut frames: Vec<(u64, Bytes)> = Vec::new();
        let mut budget = Budget::new(bytes_max as u64);
        // Before the disk is read: what is written meanwhile is then in one of them, or in both.
        let unwritten = self.state().unwritten();
        let (to, permits) = (self.end_of_history()?, self.permits()?);
        let mut cut = false;
        self.disk.scan(Table::History, Key::at(from), to, &mut |key, sealed| {
            if frames.len() == frames_max || !budget.allows(sealed.len()) {
                cut = true;
                return Ok(ControlFlow::Break(()));
            }
            frames.push((key.index, self.frame(&permits, key, sealed)?));
            Ok(ControlFlow::Continue(()))
        })?;
        // Frames may have been archived between the lookup of an archive and the scan, and be missing here.
        if let Some(archived) = self.archived_history(from, frames_max, bytes_max)? {
            return Ok(archived);
        }
        let next = frames.last().map_or(from, |(last, _)| last + 1);
        for (index, bytes) in unwritten.into_iter().filter(|(index, _)| !cut && *index >= next) {
            if frames.len() == frames_max || !budget.allows(bytes.len()) {
                break;
            }
            frames.push((index, bytes));
        }
        Ok(frames)
    }

    pub(super) fn read_frame_before(&self, index: u64) -> Result<Option<(u64, Bytes)>, LogError> {
        // Before the disk is read: what is written meanwhile is then in one of them, or in both.
        let unwritten = self.state().unwritten().into_iter().rfind(|(unwritten, _)| *unwritten < index);
        if unwritten.is_some() {
            return Ok(unwritten);
        }
        let end = index.min(self.end_of_history()?.index);
        loop {
            let archived_to = self.archived_to()?;
            let before = match self.archived_before(end)? {
                ArchivedBefore::Frame(index, stored) => return Ok(Some((index, stored))),
                ArchivedBefore::InHistory(before) => before,
            };
            let key = self.disk.last_key(Table::History, Key::at(before))?;
            let sealed = key.map(|key| self.disk.get(Table::History, key)).transpose()?.flatten();
            // Frames archived meanwhile may be missing here.
            if self.archived_to()? == archived_to {
                let permits = self.permits()?;
                let frame = |(key, sealed): (Key, _)| Ok((key.index, self.frame(&permits, key, sealed)?));
                return key.zip(sealed).map(frame).transpose();
            }
        }
    }

    /// Where history ends for readers. Fetched history that does not count yet comes after it.
    fn end_of_history(&self) -> Result<Key, LogError> {
        let (loaded, applied) = {
            let state = self.state();
            (state.loaded, state.applied.index)
        };
        if loaded {
            return Ok(Key::at(applied + 1));
        }
        // Before a log is loaded its applied index is unknown, and nothing in it may be hidden.
        match self.record::<FrameLink>(Table::Meta, FETCHED)? {
            Some(_) => Ok(Key::at(self.applied()?.index + 1)),
            None => Ok(Key::MAX),
        }
    }
}
