//! Sinks: additional destinations of events, their progress, and whether delivery works.

use std::sync::Arc;

use events::{SinkId, SinkSpec, Timestamp};
use serde::{Deserialize, Serialize};

use crate::services::name_key;
use crate::{Cluster, Stamp};

/// One sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sink {
    /// The sink's id.
    pub id: SinkId,
    /// The destination of events, and the selection of events.
    pub spec: Arc<SinkSpec>,
    /// Whether requests are signed with a key of the keyring.
    pub signed: bool,
    /// Index of the last frame that was delivered completely.
    pub position: u64,
    /// Its state.
    pub state: SinkState,
    /// Why delivery fails, if it does.
    pub failing: Option<SinkFailure>,
    /// When progress was last recorded.
    pub progressed_at: Option<Timestamp>,
    /// Index of the frame that created it.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
}

/// The state of a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SinkState {
    /// Events are delivered.
    Active,
    /// Paused by an operator.
    Paused,
    /// Stopped because it failed for too long.
    Parked,
}

impl SinkState {
    /// Its name in lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Parked => "parked",
        }
    }
}

/// Why delivery fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkFailure {
    /// Since when it fails.
    pub since: Timestamp,
    /// The error of the last recorded attempt.
    pub reason: String,
}

/// Name of the payload with the key that signs a sink's requests.
pub fn sink_key(sink: SinkId) -> String {
    format!("sink/{sink}")
}

impl Cluster {
    /// The sink with this name, ignoring case. There are few, so a linear search is enough.
    pub fn sink_named(&self, name: &str) -> Option<&Sink> {
        let key = name_key(name);
        self.sinks.values().find(|sink| name_key(&sink.spec.name) == key)
    }
}

pub(crate) fn created(cluster: &mut Cluster, event: &events::SinkCreated, at: &Stamp) {
    assert!(!cluster.sinks.contains(event.sink), "sink {} was created twice", event.sink);
    assert!(cluster.sink_named(&event.spec.name).is_none(), "the name {} was given to two sinks", event.spec.name);
    let sink = Sink {
        id: event.sink,
        spec: Arc::new(event.spec.clone()),
        signed: event.signed,
        position: event.after.unwrap_or(at.index),
        state: SinkState::Active,
        failing: None,
        progressed_at: None,
        version: at.index,
        created_at: at.time,
    };
    cluster.sinks.insert(event.sink, sink);
}

pub(crate) fn removed(cluster: &mut Cluster, id: SinkId) {
    assert!(cluster.sinks.remove(id).is_some(), "sink {id} is not there to be removed");
}

pub(crate) fn paused(cluster: &mut Cluster, id: SinkId) {
    change(cluster, id, |sink| sink.state = SinkState::Paused);
}

pub(crate) fn resumed(cluster: &mut Cluster, id: SinkId) {
    change(cluster, id, |sink| (sink.state, sink.failing) = (SinkState::Active, None));
}

pub(crate) fn progressed(cluster: &mut Cluster, event: &events::SinkProgressed, at: &Stamp) {
    change(cluster, event.sink, |sink| {
        assert!(event.index > sink.position, "sink {} goes back to {}", sink.id, event.index);
        (sink.position, sink.failing, sink.progressed_at) = (event.index, None, Some(at.time));
    });
}

pub(crate) fn failed(cluster: &mut Cluster, event: &events::SinkFailed, at: &Stamp) {
    change(cluster, event.sink, |sink| {
        sink.failing = Some(SinkFailure { since: at.time, reason: event.reason.clone() });
    });
}

pub(crate) fn parked(cluster: &mut Cluster, event: &events::SinkParked, at: &Stamp) {
    change(cluster, event.sink, |sink| {
        let since = sink.failing.as_ref().map_or(at.time, |failing| failing.since);
        sink.failing = Some(SinkFailure { since, reason: event.reason.clone() });
        sink.state = SinkState::Parked;
    });
}

fn change(cluster: &mut Cluster, id: SinkId, act: impl FnOnce(&mut Sink)) {
    assert!(cluster.sinks.contains(id), "sink {id} is not there to be changed");
    cluster.sinks.update(id, act);
}

/// Whether events of this kind only report delivery to sinks: they are sent to no sink, or each of them would cause the next.
pub fn is_about_sending(kind: &events::Kind) -> bool {
    use events::Kind;
    matches!(kind, Kind::SinkProgressed(_) | Kind::SinkFailed(_) | Kind::SinkParked(_))
}

#[cfg(test)]
mod tests {
    use events::{
        Event, Id, Kind, SinkCreated, SinkFailed, SinkParked, SinkPaused, SinkProgressed, SinkRemoved, SinkResumed,
    };

    use super::*;
    use crate::{check, snapshot};

    #[test]
    fn a_sink_is_what_its_events_say_and_is_in_every_snapshot() {
        let (mut cluster, sink) = (Cluster::default(), SinkId::from_bits(3));
        let mut apply = |index: u64, kind: Kind| {
            let at = Stamp { index, time: Timestamp::from_unix_ns(index as i64) };
            cluster.apply(&Event::by_command(0, kind), &at);
            assert_eq!(check::check(&cluster), Vec::<String>::new());
            let read = snapshot::read(snapshot::chunks(&cluster)).expect("it was just written");
            assert_eq!(read.sinks.get(sink), cluster.sinks.get(sink));
            cluster.sinks.get(sink).map(|sink| {
                let failing = sink.failing.as_ref().map(|failing| (failing.since.unix_ns(), failing.reason.clone()));
                (sink.state.name(), sink.position, failing)
            })
        };
        let spec = SinkSpec { name: "SIEM".to_owned(), file: "a".to_owned(), ..SinkSpec::default() };
        let failed = |reason: &str| Kind::SinkFailed(SinkFailed { sink, reason: reason.to_owned() });
        let created = SinkCreated { sink, spec, after: None, signed: false };
        assert_eq!(apply(5, Kind::SinkCreated(created)), Some(("active", 5, None)));
        assert_eq!(apply(6, failed("down")), Some(("active", 5, Some((6, "down".to_owned())))));
        let parked = Kind::SinkParked(SinkParked { sink, reason: "still".to_owned() });
        assert_eq!(apply(7, parked), Some(("parked", 5, Some((6, "still".to_owned())))));
        assert_eq!(apply(8, Kind::SinkResumed(SinkResumed { sink })), Some(("active", 5, None)));
        assert_eq!(apply(9, failed("again")), Some(("active", 5, Some((9, "again".to_owned())))));
        assert_eq!(apply(10, Kind::SinkProgressed(SinkProgressed { sink, index: 8 })), Some(("active", 8, None)));
        assert_eq!(apply(11, Kind::SinkPaused(SinkPaused { sink })), Some(("paused", 8, None)));
        assert_eq!(apply(12, Kind::SinkRemoved(SinkRemoved { sink })), None);
    }
}
