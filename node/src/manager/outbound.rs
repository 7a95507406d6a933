//! Messages to other managers. Most are sent as they are; pages of history are read on a thread of their own, so that a manager
//! that joins delays no turn.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::log::LogStore;
use crate::manager::replica::{HistoryAsked, PEER_PAGE, PeerMessage};

/// Pages that may wait to be read; further requests are dropped, and the peer repeats them.
const ASKED_MAX: usize = 16;

/// The sending side to other managers.
pub(super) struct Outbound {
    send: Box<dyn Fn(u64, PeerMessage) + Send>,
    asked: SyncSender<HistoryAsked>,
}

impl Outbound {
    /// Starts the thread that reads history for peers; it ends when this is dropped.
    pub(super) fn spawn(
        store: Arc<dyn LogStore>,
        send: impl Fn(u64, PeerMessage) + Clone + Send + 'static,
    ) -> std::io::Result<Self> {
        let (asked, waiting) = sync_channel(ASKED_MAX);
        let answer = send.clone();
        let thread = std::thread::Builder::new().name("peer-history".to_owned());
        thread.spawn(move || read(&*store, &waiting, answer))?;
        Ok(Self { send: Box::new(send), asked })
    }

    /// Sends the results of a round.
    pub(super) fn send(&self, messages: Vec<(u64, PeerMessage)>, asked: Vec<HistoryAsked>) {
        for (to, message) in messages {
            (self.send)(to, message);
        }
        for asked in asked {
            if self.asked.try_send(asked).is_err() {
                tracing::debug!(peer = asked.peer, "history for another manager is not read: too many pages wait");
            }
        }
    }
}

fn read(store: &dyn LogStore, waiting: &Receiver<HistoryAsked>, send: impl Fn(u64, PeerMessage)) {
    while let Ok(asked) = waiting.recv() {
        match asked.answer(store, PEER_PAGE) {
            Ok(page) => send(asked.peer, page),
            Err(error) => tracing::warn!(peer = asked.peer, %error, "history for another manager cannot be read"),
        }
    }
}
