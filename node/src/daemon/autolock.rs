//! Keeps a manager's keys wrapped with the cluster's unlock key of the moment.

use std::sync::Arc;
use std::time::Duration;

use projections::settings::UNLOCK_KEY;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::manager::driver::Published;
use crate::security::seal::KeyFile;
use crate::security::{CertificateStore, KeyLock, UnlockKey};

/// The pause after keys could not be wrapped: the disk may be full.
const RETRY: Duration = Duration::from_secs(10);
/// How often the unlock key is looked at, at most: commits come thousands a second.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// A manager's key files.
pub struct Keys {
    /// What they are wrapped with.
    pub lock: Arc<KeyLock>,
    /// Those of the log.
    pub log: Arc<KeyFile>,
    /// That of the node.
    pub node: CertificateStore,
}

impl Keys {
    /// Wraps the keys anew whenever the cluster has another unlock key, or none any more, until `shutdown`.
    pub async fn keep(self: Arc<Self>, mut states: watch::Receiver<Arc<Published>>, shutdown: CancellationToken) {
        loop {
            let wanted = wanted(&states.borrow_and_update());
            let pause = if wanted == self.lock.key() { None } else { self.rewrap(wanted).await };
            let changed = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None if states.changed().await.is_err() => std::future::pending().await,
                    None => {}
                }
            };
            tokio::select! {
                () = changed => {}
                () = shutdown.cancelled() => return,
            }
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    }

    /// Wraps the keys with this; when to try again, if that failed.
    async fn rewrap(self: &Arc<Self>, wanted: Option<UnlockKey>) -> Option<Duration> {
        let (keys, locks) = (Arc::clone(self), wanted.is_some());
        match tokio::task::spawn_blocking(move || keys.rewrap_files(wanted)).await {
            Ok(Ok(())) => {
                let now = if locks { "wrapped with the unlock key" } else { "not wrapped any more" };
                tracing::info!("this manager's keys are {now}");
                None
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

    /// The log's keys first: by them a start knows whether it is locked, and the node's can be replaced.
    fn rewrap_files(&self, wanted: Option<UnlockKey>) -> Result<(), String> {
        let before = self.lock.key();
        self.log.rewrap(before.as_ref(), wanted.as_ref()).map_err(|error| error.to_string())?;
        self.lock.set(wanted);
        self.node.rewrap(before.as_ref()).map_err(|error| error.to_string())
    }
}

/// The unlock key of a state.
fn wanted(state: &Published) -> Option<UnlockKey> {
    if !state.cluster.settings.locked {
        return None;
    }
    state.keyring.text(UNLOCK_KEY).and_then(|text| text.parse().ok())
}
