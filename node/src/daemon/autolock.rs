//! Keeps a manager's keys wrapped with the cluster's unlock key of the moment, and its log sealed with a data key that nobody had
//! before that.

use std::sync::Arc;
use std::time::Duration;

use projections::settings::UNLOCK_KEY;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::log::{LogError, LogStore, ResealPosition};
use crate::manager::driver::{Handle, Published};
use crate::security::seal::KeyFile;
use crate::security::{CertificateStore, KeyLock, UnlockKey};

/// The pause after keys could not be wrapped: the disk may be full.
const RETRY: Duration = Duration::from_secs(10);
/// How often the unlock key is looked at, at most: commits come thousands a second.
const LOOK_PERIOD: Duration = Duration::from_millis(100);
/// The pause after a page of the log was sealed again: the log's own writes come first.
const PAGE_PAUSE: Duration = Duration::from_millis(10);
/// The pause after the log could not be read: it is damaged, and somebody has to look.
const DAMAGE_PAUSE: Duration = Duration::from_secs(3600);

/// A manager's key files, and what they seal.
pub struct Keys {
    /// What they are wrapped with.
    pub lock: Arc<KeyLock>,
    /// Those of the log.
    pub log: Arc<KeyFile>,
    /// That of the node.
    pub node: CertificateStore,
    /// The log.
    pub store: Arc<dyn LogStore>,
    /// Who runs on the log, and has to hear of a write that failed.
    pub core: Handle,
}

impl Keys {
    /// Wraps the keys again whenever the cluster has another unlock key, or none any more, until `shutdown`. Then everything in the log
    /// is sealed with the new data key, and the data keys before it are destroyed.
    pub async fn keep(self: Arc<Self>, mut states: watch::Receiver<Arc<Published>>, shutdown: CancellationToken) {
        let mut position = ResealPosition::default();
        loop {
            let wanted = next_lock(&states.borrow_and_update(), self.lock.key());
            let pause = if wanted != self.lock.key() {
                position = ResealPosition::default();
                self.rewrap(wanted).await
            } else if self.log.has_older() {
                self.reseal(&mut position).await
            } else {
                None
            };
            let changed = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None if states.changed().await.is_err() => std::future::pending().await,
                    None => tokio::time::sleep(LOOK_PERIOD).await,
                }
            };
            tokio::select! {
                () = changed => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Wraps the keys with this; when to go on.
    async fn rewrap(self: &Arc<Self>, wanted: Option<UnlockKey>) -> Option<Duration> {
        let (keys, locks) = (Arc::clone(self), wanted.is_some());
        match tokio::task::spawn_blocking(move || keys.rewrap_files(wanted)).await {
            Ok(Ok(())) => {
                let now = if locks { "wrapped with the unlock key" } else { "not wrapped any more" };
                tracing::info!("this manager's keys are {now}");
                Some(PAGE_PAUSE)
            }
            Ok(Err(error)) => {
                tracing::error!(error, "this manager's keys cannot be wrapped; trying again");
                Some(RETRY)
            }
            Err(error) => {
                tracing::error!(%error, "wrapping this manager's keys panicked; trying again");
                Some(RETRY)
            }
        }
    }

    /// The log's keys first: by them a start knows whether it is locked, and the node's can be replaced. The agent follows the lock.
    fn rewrap_files(&self, wanted: Option<UnlockKey>) -> Result<(), String> {
        let before = self.lock.key();
        self.log.rewrap(before.as_ref(), wanted.as_ref()).map_err(|error| error.to_string())?;
        self.lock.set(wanted);
        self.node.rewrap(before.as_ref()).map_err(|error| error.to_string())
    }

    /// Seals a page of the log again, and destroys the older data keys after the last one; when to go on.
    async fn reseal(self: &Arc<Self>, position: &mut ResealPosition) -> Option<Duration> {
        let (keys, at) = (Arc::clone(self), *position);
        match tokio::task::spawn_blocking(move || keys.reseal_page(at)).await {
            Ok(Ok(Some(next))) => {
                *position = next;
                Some(PAGE_PAUSE)
            }
            Ok(Ok(None)) => {
                tracing::info!("the log is sealed with a new data key, and those before it are destroyed");
                None
            }
            Ok(Err(error)) if error.is_damage() => {
                tracing::error!(%error, hint = error.hint(), "the log cannot be sealed again; the older data keys stay");
                Some(DAMAGE_PAUSE)
            }
            Ok(Err(error)) => {
                self.core.fail(error);
                Some(DAMAGE_PAUSE)
            }
            Err(error) => {
                tracing::error!(%error, "sealing the log again panicked; the older data keys stay");
                Some(DAMAGE_PAUSE)
            }
        }
    }

    fn reseal_page(&self, at: ResealPosition) -> Result<Option<ResealPosition>, LogError> {
        let next = self.store.reseal(at)?;
        if next.is_none() {
            self.store.purge()?;
            self.log.destroy_older(self.lock.key().as_ref())?;
        }
        Ok(next)
    }
}

/// What keys are to be wrapped with that are wrapped with `present`. A manager that begins with an empty log does not know yet whether
/// the cluster is locked, and leaves its keys as they are.
fn next_lock(state: &Published, present: Option<UnlockKey>) -> Option<UnlockKey> {
    if state.cluster.position.index == 0 { present } else { wanted(state) }
}

/// The unlock key of a state.
pub(crate) fn wanted(state: &Published) -> Option<UnlockKey> {
    if !state.cluster.settings.locked {
        return None;
    }
    state.keyring.text(UNLOCK_KEY).and_then(|text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_without_a_state_leaves_its_keys_as_they_are() {
        let present = UnlockKey::generate();
        assert!(present.is_some(), "the system provides random bytes");
        let mut state = Published::default();
        assert_eq!(next_lock(&state, present.clone()), present);
        assert_eq!(next_lock(&state, None), None);
        state.cluster.position.index = 1;
        assert_eq!(next_lock(&state, present), None, "this cluster is not locked");
    }
}
