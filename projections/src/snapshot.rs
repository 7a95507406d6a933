//! A state as bytes, and back. A snapshot is a cache of the fold: one of another fold version is ignored, and the state is
//! made anew from history.

use std::fmt;
use std::sync::Arc;

use events::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Cluster, FOLD_VERSION, Requests, Stamp, Table, services, tasks};
use crate::{Instance, Node, Restarts, Revision, Service, Settings, Step, Tally, Task};

/// Why bytes are not a snapshot that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotError {
    /// Made by a build that folds events in another way.
    FoldVersion(u32),
    /// Not the bytes of a snapshot.
    Malformed(String),
    /// The state in it does not have the hash that was written beside it.
    Hash,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FoldVersion(version) => {
                write!(f, "the snapshot has fold version {version}, this build has {FOLD_VERSION}")
            }
            Self::Malformed(why) => write!(f, "the snapshot is damaged: {why}"),
            Self::Hash => write!(f, "the snapshot's state does not have the hash recorded in it"),
        }
    }
}

impl std::error::Error for SnapshotError {}

/// The header is read first, alone, because the rest has another form in another fold version.
#[derive(Serialize, Deserialize)]
struct Header {
    fold_version: u32,
    index: u64,
    time: Timestamp,
    state_hash: [u8; 16],
}

/// Spec versions and times of failures.
type FailureTimes = Vec<(u64, Timestamp)>;

#[derive(Serialize, Deserialize)]
struct Body {
    settings: Arc<Settings>,
    nodes: Vec<Node>,
    banned: Vec<(events::NodeId, Timestamp)>,
    services: Vec<Service>,
    revisions: Vec<((events::ServiceId, u64), Revision)>,
    tasks: Vec<Task>,
    restarts: Vec<((events::ServiceId, Instance), Restarts)>,
    failures: Vec<((events::ServiceId, events::NodeId), FailureTimes)>,
    rollout_steps: Vec<((events::ServiceId, Instance), Step)>,
    rollout_tallies: Vec<(events::ServiceId, Tally)>,
    requests: Requests,
}

/// The bytes of a state. Equal states have equal bytes.
pub fn write(cluster: &Cluster) -> Vec<u8> {
    let header = Header {
        fold_version: FOLD_VERSION,
        index: cluster.position.index,
        time: cluster.position.time,
        state_hash: cluster.state_hash(),
    };
    let body = Body {
        settings: Arc::clone(&cluster.settings),
        nodes: cluster.nodes.values().cloned().collect(),
        banned: cluster.banned.iter().map(|(id, time)| (id, *time)).collect(),
        services: cluster.services.values().cloned().collect(),
        revisions: cluster.revisions.iter().map(|(key, revision)| (key, revision.clone())).collect(),
        tasks: cluster.tasks.values().cloned().collect(),
        restarts: cluster.restarts.iter().map(|(key, restarts)| (key, restarts.clone())).collect(),
        failures: cluster.failures.iter().map(|(key, times)| (key, times.clone())).collect(),
        rollout_steps: cluster.rollout_steps.iter().map(|(key, step)| (key, *step)).collect(),
        rollout_tallies: cluster.rollout_tallies.iter().map(|(key, tally)| (key, *tally)).collect(),
        requests: cluster.requests.clone(),
    };
    let mut bytes = postcard::to_allocvec(&header).expect("a header is plain data, which always encodes");
    bytes.extend(postcard::to_allocvec(&body).expect("a state is plain data, which always encodes"));
    bytes
}

/// The state in a snapshot.
///
/// # Errors
/// When the bytes are damaged or come from a build that folds events in another way.
pub fn read(bytes: &[u8]) -> Result<Cluster, SnapshotError> {
    let malformed = |error: postcard::Error| SnapshotError::Malformed(error.to_string());
    let (header, rest): (Header, _) = postcard::take_from_bytes(bytes).map_err(malformed)?;
    if header.fold_version != FOLD_VERSION {
        return Err(SnapshotError::FoldVersion(header.fold_version));
    }
    let body: Body = postcard::from_bytes(rest).map_err(malformed)?;
    let mut cluster = Cluster {
        settings: body.settings,
        nodes: table(body.nodes.into_iter().map(|node| (node.id, node))),
        banned: table(body.banned),
        services: table(body.services.into_iter().map(|service| (service.id, service))),
        revisions: table(body.revisions),
        tasks: table(body.tasks.into_iter().map(|task| (task.id, task))),
        restarts: table(body.restarts),
        failures: table(body.failures),
        rollout_steps: table(body.rollout_steps),
        rollout_tallies: table(body.rollout_tallies),
        requests: body.requests,
        position: Stamp { index: header.index, time: header.time },
        ..Cluster::default()
    };
    cluster.derive_indices();
    if cluster.state_hash() != header.state_hash {
        return Err(SnapshotError::Hash);
    }
    Ok(cluster)
}

fn table<K: Ord + Copy + Serialize, V: Clone + Serialize>(rows: impl IntoIterator<Item = (K, V)>) -> Table<K, V> {
    let mut table = Table::default();
    for (key, value) in rows {
        table.insert(key, value);
    }
    table
}

impl Cluster {
    /// Makes everything that follows from the tables.
    pub(crate) fn derive_indices(&mut self) {
        let names = self.services.values().map(|service| (services::name_key(service.spec.name()), service.id));
        self.service_names = names.collect();
        self.newcomers = self.nodes.values().filter(|node| node.is_newcomer()).map(|node| node.id).collect();
        let all: Vec<Arc<Task>> = self.tasks.iter().filter_map(|(id, _)| self.tasks.share(id)).collect();
        for task in all {
            self.tasks_by_instance.insert((task.service, task.instance(), task.id));
            tasks::enter(self, &task);
        }
    }
}
