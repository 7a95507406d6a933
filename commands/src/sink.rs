//! Commands about sinks, and the leader's records of their delivery.

use std::time::Duration;

use events::frame::SINK_FILTERS_LEVEL;
use events::{
    Kind, OperatorRole, SecretBytes, SinkCreated, SinkFailed, SinkId, SinkParked, SinkPaused, SinkProgressed,
    SinkRemoved, SinkResumed, SinkSpec, VolatilePayload,
};
use projections::sinks::sink_key;
use projections::{Cluster, Sink, SinkState};

use crate::text::quote;
use crate::validate;
use crate::verb::{AllowedActor, Verb};
use crate::{Ctx, Decision, Rejection, RejectionKind, require_level};

/// Maximum number of sinks: each reads history separately.
const SINKS_MAX: usize = 16;
/// How long a sink may fail before it is parked.
pub const PARKED_AFTER: Duration = Duration::from_secs(24 * 3_600);
/// Maximum stored length of a reason, which comes from outside.
const REASON_BYTES_MAX: usize = 200;

/// Sends events to a destination, from now on or from an earlier frame on.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CreateSink {
    /// The destination, and the selection of events.
    pub spec: SinkSpec,
    /// Index of the first frame to send; `None`: new ones only.
    pub from: Option<u64>,
    /// The key that requests are signed with.
    pub key: Option<SecretBytes>,
}

/// Removes a sink.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RemoveSink {
    /// The sink.
    pub sink: SinkId,
}

/// Pauses a sink until it is resumed.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PauseSink {
    /// The sink.
    pub sink: SinkId,
}

/// Resumes a paused or parked sink where it stopped.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ResumeSink {
    /// The sink.
    pub sink: SinkId,
}

/// Records the progress or failure of a sink.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ReportSink {
    /// The sink.
    pub sink: SinkId,
    /// Index of the last completely delivered frame; or why delivery fails.
    pub outcome: Result<u64, String>,
}

impl Verb for CreateSink {
    fn name(&self) -> &'static str {
        "sink.create"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Admin)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        true
    }

    fn decide(&self, state: &Cluster, ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let Self { spec, from, key } = self;
        let subject = format!("sink {}", quote(&spec.name));
        validate::sink(spec).map_err(|fault| fault.about(&subject))?;
        key.iter().try_for_each(|key| validate::sink_key(&key.0)).map_err(|fault| fault.about(&subject))?;
        if !spec.object.is_empty() || !spec.node.is_empty() || spec.redact_env || spec.redact_labels {
            require_level(state, SINK_FILTERS_LEVEL, &subject, "sinks that choose by object or leave values out")?;
        }
        if let Some(taken) = state.sink_named(&spec.name) {
            let sentence = format!("the name {} is taken by sink {}", taken.spec.name, taken.id);
            let hint = "choose another name, or remove that sink first with `swarmctl sink rm`";
            return Err(Rejection::new(RejectionKind::Exists, subject, sentence, hint));
        }
        let shares = |sink: &&Sink| !spec.file.is_empty() && sink.spec.file == spec.file;
        if let Some(other) = state.sinks.values().find(shares) {
            let sentence = format!("sink {} writes to the file {} already", other.spec.name, spec.file);
            return Err(Rejection::new(RejectionKind::Exists, subject, sentence, "name another file"));
        }
        if state.sinks.len() >= SINKS_MAX {
            let sentence = format!("the cluster has {SINKS_MAX} sinks, which is the maximum");
            let hint = "remove those that are not needed with `swarmctl sink rm`";
            return Err(Rejection::new(RejectionKind::Exhausted, subject, sentence, hint));
        }
        if from.is_some_and(|from| from > state.position.index + 1) {
            let sentence = format!("history ends at index {}", state.position.index);
            return Err(Rejection::invalid(subject, sentence, "omit --from to start with new events"));
        }
        let sink: SinkId = ctx.ids.next();
        let after = from.map(|from| from.saturating_sub(1));
        let created = SinkCreated { sink, spec: spec.clone(), after, signed: key.is_some() };
        let volatile = key.iter().map(|key| VolatilePayload::keep(sink_key(sink), key.0.as_slice())).collect();
        Ok(Decision { volatile, ..Decision::one(sink, Kind::SinkCreated(created)) })
    }
}

impl Verb for RemoveSink {
    fn name(&self) -> &'static str {
        "sink.remove"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Admin)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let sink = known(state, self.sink)?;
        let volatile = sink.signed.then(|| VolatilePayload::destroy(sink_key(sink.id)));
        let decision = Decision::one(sink.id, Kind::SinkRemoved(SinkRemoved { sink: sink.id }));
        Ok(Decision { volatile: volatile.into_iter().collect(), ..decision })
    }
}

impl Verb for PauseSink {
    fn name(&self) -> &'static str {
        "sink.pause"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Admin)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let sink = known(state, self.sink)?;
        Ok(match sink.state {
            SinkState::Paused => Decision::nothing(sink.id),
            SinkState::Active | SinkState::Parked => {
                Decision::one(sink.id, Kind::SinkPaused(SinkPaused { sink: sink.id }))
            }
        })
    }
}

impl Verb for ResumeSink {
    fn name(&self) -> &'static str {
        "sink.resume"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Admin)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let sink = known(state, self.sink)?;
        Ok(match sink.state {
            SinkState::Active => Decision::nothing(sink.id),
            SinkState::Paused | SinkState::Parked => {
                Decision::one(sink.id, Kind::SinkResumed(SinkResumed { sink: sink.id }))
            }
        })
    }
}

impl Verb for ReportSink {
    fn name(&self) -> &'static str {
        "sink.report"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::ThisManager
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let sink = known(state, self.sink)?;
        let (id, is_active) = (sink.id, sink.state == SinkState::Active);
        let event = match (&self.outcome, &sink.failing) {
            // Delivered events count, whatever was requested meanwhile.
            (Ok(index), _) if *index > sink.position => {
                Kind::SinkProgressed(SinkProgressed { sink: id, index: *index })
            }
            (Err(reason), None) if is_active => Kind::SinkFailed(SinkFailed { sink: id, reason: shortened(reason) }),
            (Err(reason), Some(failing)) if is_active && ctx.now.since(failing.since) >= PARKED_AFTER => {
                Kind::SinkParked(SinkParked { sink: id, reason: shortened(reason) })
            }
            (Ok(_) | Err(_), _) => return Ok(Decision::nothing(id)),
        };
        Ok(Decision::one(id, event))
    }
}

fn known(state: &Cluster, id: SinkId) -> Result<&Sink, Rejection> {
    state.sinks.get(id).ok_or_else(|| Rejection::not_found("sink", id))
}

/// The start of a reason.
fn shortened(reason: &str) -> String {
    reason
        .chars()
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= REASON_BYTES_MAX).then_some(c)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Command;
    use crate::testing::{Fixture, operator, this_manager};

    fn create(name: &str, file: &str, key: Option<&[u8]>) -> Command {
        let spec = SinkSpec { name: name.to_owned(), file: file.to_owned(), ..SinkSpec::default() };
        let key = key.map(|key| SecretBytes(key.to_vec()));
        Command::CreateSink(CreateSink { spec, from: None, key })
    }

    fn report(sink: SinkId, outcome: Result<u64, &str>) -> Command {
        Command::ReportSink(ReportSink { sink, outcome: outcome.map_err(str::to_owned) })
    }

    fn created(fixture: &mut Fixture, command: Command) -> SinkId {
        fixture.accept(&operator(), command).subject.expect("an id").parse().expect("a sink's")
    }

    #[test]
    fn names_and_files_are_given_once_and_there_are_few() {
        let mut fixture = Fixture::initialised();
        created(&mut fixture, create("a", "a", None));
        for (name, file) in [("A", "b"), ("b", "a")] {
            assert_eq!(fixture.refuse(&operator(), create(name, file, None)).kind, RejectionKind::Exists, "{name}");
        }
        for number in 1..SINKS_MAX {
            created(&mut fixture, create(&format!("s{number}"), &format!("f{number}"), None));
        }
        assert_eq!(fixture.refuse(&operator(), create("z", "z", None)).kind, RejectionKind::Exhausted);
    }

    #[test]
    fn what_a_leader_of_an_older_build_would_leave_out_waits_for_all_managers() {
        let plain = SinkSpec { name: "a".to_owned(), file: "a".to_owned(), ..SinkSpec::default() };
        let mut fixture = Fixture::initialised();
        for spec in [
            SinkSpec { object: "0000000000000000000000001".to_owned(), ..plain.clone() },
            SinkSpec { node: "0000000000000000000000001".to_owned(), ..plain.clone() },
            SinkSpec { redact_env: true, ..plain.clone() },
            SinkSpec { redact_labels: true, ..plain.clone() },
        ] {
            let create = Command::CreateSink(CreateSink { spec, from: None, key: None });
            let refused = fixture.refuse(&operator(), create);
            assert!(refused.sentence.contains("not every manager"), "{refused:?}");
        }
        created(&mut fixture, create("a", "a", None));
    }

    #[test]
    fn a_key_is_kept_in_the_keyring_only_and_goes_with_its_sink() {
        let mut fixture = Fixture::initialised();
        let accepted = fixture.accept(&operator(), create("a", "a", Some(b"0123456789abcdef")));
        assert_eq!(accepted.volatile.len(), 1);
        assert!(!format!("{:?}", accepted.events).contains("0123456789"), "{accepted:?}");
        let sink: SinkId = accepted.subject.expect("an id").parse().expect("a sink's");
        let removed = fixture.accept(&operator(), Command::RemoveSink(RemoveSink { sink }));
        assert_eq!(removed.volatile, [VolatilePayload::destroy(sink_key(sink))]);
        assert_eq!(fixture.refuse(&operator(), create("a", "a", Some(b"short"))).kind, RejectionKind::Invalid);
    }

    /// Makes a sink have failed for this long.
    fn fail_for(fixture: &mut Fixture, sink: SinkId, length: Duration) {
        let mut failing = fixture.state.sinks.get(sink).expect("the sink").clone();
        let since = failing.failing.as_mut().expect("a failure");
        since.since = events::Timestamp::from_unix_ns(since.since.unix_ns() - length.as_nanos() as i64);
        fixture.state.sinks.insert(sink, failing);
    }

    #[test]
    fn what_is_reported_is_noted_once_and_a_day_of_failures_parks() {
        let mut fixture = Fixture::initialised();
        let sink = created(&mut fixture, create("a", "a", None));
        let position = fixture.state.sinks.get(sink).expect("the sink").position;
        let recorded_as = |fixture: &mut Fixture, command: Command| {
            let kinds = fixture.accept(&this_manager(), command).events;
            kinds.first().map_or("", Kind::name).to_owned()
        };
        assert_eq!(recorded_as(&mut fixture, report(sink, Ok(position))), "");
        assert_eq!(recorded_as(&mut fixture, report(sink, Ok(position + 7))), "sink_progressed");
        assert_eq!(recorded_as(&mut fixture, report(sink, Ok(position + 3))), "");
        assert_eq!(recorded_as(&mut fixture, report(sink, Err("503"))), "sink_failed");
        assert_eq!(recorded_as(&mut fixture, report(sink, Err("503"))), "");
        fail_for(&mut fixture, sink, PARKED_AFTER - Duration::from_secs(60));
        assert_eq!(recorded_as(&mut fixture, report(sink, Err("503"))), "");
        assert_eq!(recorded_as(&mut fixture, report(sink, Ok(position + 8))), "sink_progressed");
        assert_eq!(recorded_as(&mut fixture, report(sink, Err(&"ä".repeat(500)))), "sink_failed");
        let noted = fixture.state.sinks.get(sink).and_then(|sink| sink.failing.clone()).expect("a failure").reason;
        assert_eq!(noted.len(), REASON_BYTES_MAX);
        fail_for(&mut fixture, sink, PARKED_AFTER);
        assert_eq!(recorded_as(&mut fixture, report(sink, Err("504"))), "sink_parked");
        assert_eq!(recorded_as(&mut fixture, report(sink, Err("504"))), "");
        assert_eq!(fixture.accept(&operator(), Command::ResumeSink(ResumeSink { sink })).events.len(), 1);
        assert_eq!(fixture.accept(&operator(), Command::ResumeSink(ResumeSink { sink })).events.len(), 0);
        assert_eq!(recorded_as(&mut fixture, report(sink, Err("504"))), "sink_failed");
        assert_eq!(fixture.accept(&operator(), Command::PauseSink(PauseSink { sink })).events.len(), 1);
        fail_for(&mut fixture, sink, PARKED_AFTER);
        assert_eq!(recorded_as(&mut fixture, report(sink, Err("504"))), "");
        assert_eq!(recorded_as(&mut fixture, report(sink, Ok(position + 9))), "sink_progressed");
    }
}
