//! Keeps a manager's keys wrapped with the cluster's current unlock key, and its log sealed with a data key created after the
//! last change of it.

use std::sync::Arc;
use std::time::Duration;

use projections::settings::UNLOCK_KEY;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::log::{LogError, LogStore, ResealPosition};
use crate::manager::driver::{Handle, Published};
use crate::security::seal::KeyFile;
use crate::security::{CertificateStore, KeyLock, UnlockKey};

/// Delay after a failure to wrap keys: the disk may be full.
const RETRY: Duration = Duration::from_secs(10);
/// Minimum time between two checks of the unlock key: there can be thousands of commits per second.
const LOOK_PERIOD: Duration = Duration::from_millis(100);
/// Delay after each resealed page of the log: the log's own writes take precedence.
const PAGE_PAUSE: Duration = Duration::from_millis(10);
/// Delay after a failure to read the log: it is damaged, and an operator has to act.
const DAMAGE_PAUSE: Duration = Duration::from_secs(3600);

/// A manager's key files, and what they seal.
pub struct Keys {
    /// Wraps them.
    pub lock: Arc<KeyLock>,
    /// The keys of the log.
    pub log: Arc<KeyFile>,
    /// The key of the node.
    pub node: CertificateStore,
    /// The log.
    pub store: Arc<dyn LogStore>,
    /// The core that uses the log, to be notified of a failed write.
    pub core: Handle,
}

impl Keys {
    /// Rewraps the keys whenever the unlock key of the cluster changes or is removed, until `shutdown`. Then the whole log is
    /// resealed with the new data key, and the old data keys are destroyed.
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

    /// Wraps the keys with this unlock key. Returns when to retry.
    async fn rewrap(self: &Arc<Self>, wanted: Option<UnlockKey>) -> Option<Duration> {
        let (keys, locks) = (Arc::clone(self), wanted.is_some());
        match tokio::task::spawn_blocking(move || keys.rewrap_files(wanted)).await {
            Ok(Ok(())) => {
                let now = if locks { "wrapped with the unlock key" } else { "no longer wrapped" };
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

    /// The log's keys first: a start detects by them whether it is locked, and the node's key can be replaced. The agent
    /// watches the lock.
    fn rewrap_files(&self, wanted: Option<UnlockKey>) -> Result<(), String> {
        let before = self.lock.key();
        self.log.rewrap(before.as_ref(), wanted.as_ref()).map_err(|error| error.to_string())?;
        self.lock.set(wanted);
        self.node.rewrap(before.as_ref()).map_err(|error| error.to_string())
    }

    /// Reseals a page of the log, and destroys the older data keys after the last one. Returns when to continue.
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

/// The unlock key to wrap the keys with, which `present` wraps now. A manager that starts with an empty log does not know yet
/// whether the cluster is locked, and leaves its keys unchanged.
fn next_lock(state: &Published, present: Option<UnlockKey>) -> Option<UnlockKey> {
    if state.cluster.position.index == 0 { present } else { wanted(state) }
}

/// The unlock key in a state.
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
