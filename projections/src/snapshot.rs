//! A state as bytes, and back. A snapshot is a cache of the fold: one of another fold version is ignored, and the state is
//! made anew from history.

use std::fmt;
use std::sync::Arc;

use events::{NodeId, ServiceId, TaskId, Timestamp};
use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::services::name_key;
use crate::tasks::{enter, enter_service};
use crate::{Cluster, FOLD_VERSION, Requests, Stamp, Table};
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

/// The tables as they are written: row by row, none of them copied.
#[derive(Serialize)]
struct Written<'a> {
    settings: &'a Settings,
    nodes: Rows<'a, NodeId, Node>,
    banned: KeyedRows<'a, NodeId, Timestamp>,
    services: Rows<'a, ServiceId, Service>,
    revisions: KeyedRows<'a, (ServiceId, u64), Revision>,
    tasks: Rows<'a, TaskId, Task>,
    restarts: KeyedRows<'a, (ServiceId, Instance), Restarts>,
    failures: KeyedRows<'a, (ServiceId, NodeId), FailureTimes>,
    rollout_steps: KeyedRows<'a, (ServiceId, Instance), Step>,
    rollout_tallies: KeyedRows<'a, ServiceId, Tally>,
    requests: &'a Requests,
}

/// The same tables as they are read: each row goes straight to its place.
#[derive(Deserialize)]
struct Read {
    settings: Arc<Settings>,
    #[serde(deserialize_with = "nodes")]
    nodes: Table<NodeId, Node>,
    #[serde(deserialize_with = "keyed_rows")]
    banned: Table<NodeId, Timestamp>,
    #[serde(deserialize_with = "services")]
    services: Table<ServiceId, Service>,
    #[serde(deserialize_with = "keyed_rows")]
    revisions: Table<(ServiceId, u64), Revision>,
    #[serde(deserialize_with = "tasks")]
    tasks: Table<TaskId, Task>,
    #[serde(deserialize_with = "keyed_rows")]
    restarts: Table<(ServiceId, Instance), Restarts>,
    #[serde(deserialize_with = "keyed_rows")]
    failures: Table<(ServiceId, NodeId), FailureTimes>,
    #[serde(deserialize_with = "keyed_rows")]
    rollout_steps: Table<(ServiceId, Instance), Step>,
    #[serde(deserialize_with = "keyed_rows")]
    rollout_tallies: Table<ServiceId, Tally>,
    requests: Requests,
}

/// Rows that name their keys themselves.
struct Rows<'a, K: Ord, V>(&'a Table<K, V>);

/// Rows with their keys.
struct KeyedRows<'a, K: Ord, V>(&'a Table<K, V>);

impl<K: Ord + Copy + Serialize, V: Clone + Serialize> Serialize for Rows<'_, K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(Some(self.0.len()))?;
        self.0.values().try_for_each(|row| rows.serialize_element(row))?;
        rows.end()
    }
}

impl<K: Ord + Copy + Serialize, V: Clone + Serialize> Serialize for KeyedRows<'_, K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(Some(self.0.len()))?;
        self.0.iter().try_for_each(|row| rows.serialize_element(&row))?;
        rows.end()
    }
}

/// Puts each row that is read into a table, under the key that `split` finds for it.
struct IntoTable<R, K, V> {
    split: fn(R) -> (K, V),
}

impl<'de, R, K, V> Visitor<'de> for IntoTable<R, K, V>
where
    R: Deserialize<'de>,
    K: Ord + Copy + Serialize,
    V: Clone + Serialize,
{
    type Value = Table<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the rows of a table")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Self::Value, A::Error> {
        let mut table = Table::default();
        while let Some(row) = rows.next_element()? {
            let (key, value) = (self.split)(row);
            table.insert(key, value);
        }
        Ok(table)
    }
}

fn nodes<'de, D: Deserializer<'de>>(rows: D) -> Result<Table<NodeId, Node>, D::Error> {
    rows.deserialize_seq(IntoTable { split: |node: Node| (node.id, node) })
}

fn services<'de, D: Deserializer<'de>>(rows: D) -> Result<Table<ServiceId, Service>, D::Error> {
    rows.deserialize_seq(IntoTable { split: |service: Service| (service.id, service) })
}

fn tasks<'de, D: Deserializer<'de>>(rows: D) -> Result<Table<TaskId, Task>, D::Error> {
    rows.deserialize_seq(IntoTable { split: |task: Task| (task.id, task) })
}

fn keyed_rows<'de, D, K, V>(rows: D) -> Result<Table<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Ord + Copy + Serialize + Deserialize<'de>,
    V: Clone + Serialize + Deserialize<'de>,
{
    rows.deserialize_seq(IntoTable { split: |row: (K, V)| row })
}

/// The bytes of a state. Equal states have equal bytes.
pub fn write(cluster: &Cluster) -> Vec<u8> {
    let header = Header {
        fold_version: FOLD_VERSION,
        index: cluster.position.index,
        time: cluster.position.time,
        state_hash: cluster.state_hash(),
    };
    let body = Written {
        settings: &cluster.settings,
        nodes: Rows(&cluster.nodes),
        banned: KeyedRows(&cluster.banned),
        services: Rows(&cluster.services),
        revisions: KeyedRows(&cluster.revisions),
        tasks: Rows(&cluster.tasks),
        restarts: KeyedRows(&cluster.restarts),
        failures: KeyedRows(&cluster.failures),
        rollout_steps: KeyedRows(&cluster.rollout_steps),
        rollout_tallies: KeyedRows(&cluster.rollout_tallies),
        requests: &cluster.requests,
    };
    let bytes = postcard::to_allocvec(&header).expect("a header is plain data, which always encodes");
    postcard::to_extend(&body, bytes).expect("a state is plain data, which always encodes")
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
    let body: Read = postcard::from_bytes(rest).map_err(malformed)?;
    let mut cluster = Cluster {
        settings: body.settings,
        nodes: body.nodes,
        banned: body.banned,
        services: body.services,
        revisions: body.revisions,
        tasks: body.tasks,
        restarts: body.restarts,
        failures: body.failures,
        rollout_steps: body.rollout_steps,
        rollout_tallies: body.rollout_tallies,
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

impl Cluster {
    /// Makes everything that follows from the tables.
    pub(crate) fn derive_indices(&mut self) {
        let names = self.services.values().map(|service| (name_key(service.spec.name()), service.id));
        self.service_names = names.collect();
        self.newcomers = self.nodes.values().filter(|node| node.is_newcomer()).map(|node| node.id).collect();
        let global = self.services.values().filter(|service| service.spec.is_global()).map(|service| service.id);
        self.global_services = global.collect();
        let all: Vec<Arc<Task>> = self.tasks.iter().filter_map(|(id, _)| self.tasks.share(id)).collect();
        for task in all {
            enter_service(self, &task);
            enter(self, &task);
        }
        self.derive_lookup();
        self.derive_places();
    }
}
