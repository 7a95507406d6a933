//! Calls that managers refused because the caller lacked the certificate or the role: aggregated, so that a flood of calls causes
//! few events.

use std::time::Duration;

use events::{AccessRefused, Kind};
use projections::Cluster;

use crate::verb::{AllowedActor, Verb};
use crate::{Ctx, Decision, Rejection, RejectionKind};

/// Maximum number of callers in one event.
pub const CALLERS_MAX: usize = 16;
/// Maximum length of a caller's name, or of the name of a call.
const TEXT_BYTES_MAX: usize = 128;
/// A manager aggregates one minute. This is less, as two of its events may be committed in quicker succession than they were
/// submitted.
const MANAGER_PERIOD: Duration = Duration::from_secs(50);
/// Maximum number of events from all managers in such a period.
const CLUSTER_MAX: usize = 8;

/// Records what a manager refused.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RecordRefusals(pub AccessRefused);

impl Verb for RecordRefusals {
    fn name(&self) -> &'static str {
        "refusals.record"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::ThisManager
    }

    fn adds(&self, _state: &Cluster) -> bool {
        true
    }

    fn decide(&self, state: &Cluster, ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let Self(summary) = self;
        let subject = format!("refusals of manager {}", summary.manager);
        if summary.refused.is_empty() && summary.others() == 0 {
            return Ok(Decision::nothing(summary.manager));
        }
        let is_long = |text: &str| text.len() > TEXT_BYTES_MAX;
        let is_bounded = |calls: &events::RefusedCalls| {
            !is_long(&calls.actor.subject) && !is_long(&calls.call) && !calls.role.as_deref().is_some_and(is_long)
        };
        if summary.refused.len() > CALLERS_MAX || !summary.refused.iter().all(is_bounded) {
            let sentence = "they name too many callers, or too long ones";
            return Err(Rejection::invalid(subject, sentence, "report this as a bug"));
        }
        let is_recent = |noted| ctx.now.since(noted) < MANAGER_PERIOD;
        let recent = state.members.values().filter(|member| member.refusals_noted_at.is_some_and(is_recent));
        let recent: Vec<_> = recent.map(|member| member.node).collect();
        if recent.len() >= CLUSTER_MAX || recent.contains(&summary.manager) {
            let hint = "it is retried in a minute, including refusals until then";
            return Err(Rejection::new(RejectionKind::Unavailable, subject, "too many were noted just now", hint));
        }
        Ok(Decision::one(summary.manager, Kind::AccessRefused(summary.clone())))
    }
}

#[cfg(test)]
mod tests {
    use events::{ActorKind, ActorRecord, MemberAdded, NodeId, RefusedCalls, Timestamp};

    use super::*;
    use crate::Command;
    use crate::testing::{Fixture, manager, this_manager};

    fn summary(manager: NodeId, callers: usize, name: &str) -> AccessRefused {
        let actor = ActorRecord { kind: ActorKind::Joiner.into(), subject: name.to_owned(), via: None };
        let calls = RefusedCalls { actor, call: "service.remove".to_owned(), count: 3, ..RefusedCalls::default() };
        AccessRefused { manager, refused: vec![calls; callers], others: None }
    }

    fn record(summary: AccessRefused) -> Command {
        Command::RecordRefusals(RecordRefusals(summary))
    }

    /// Moves this manager's last record into the past.
    fn age(fixture: &mut Fixture, node: NodeId, length: Duration) {
        fixture.state.members.update(node, |member| {
            let noted = member.refusals_noted_at.expect("noted");
            member.refusals_noted_at = Some(Timestamp::from_unix_ns(noted.unix_ns() - length.as_nanos() as i64));
        });
    }

    #[test]
    fn a_manager_notes_them_once_a_minute_and_nothing_where_there_are_none() {
        let mut fixture = Fixture::initialised();
        let none = AccessRefused { manager: manager(), ..AccessRefused::default() };
        assert_eq!(fixture.accept(&this_manager(), record(none.clone())).events, []);
        let others = AccessRefused { others: Some(2), ..none };
        for noted in [summary(manager(), CALLERS_MAX, "10.0.0.9"), others] {
            assert_eq!(
                fixture.accept(&this_manager(), record(noted.clone())).events,
                [Kind::AccessRefused(noted.clone())]
            );
            assert_eq!(fixture.refuse(&this_manager(), record(noted)).kind, RejectionKind::Unavailable);
            age(&mut fixture, manager(), MANAGER_PERIOD);
        }
    }

    #[test]
    fn what_is_not_bounded_is_not_noted() {
        let fixture = Fixture::initialised();
        for (callers, name) in [(CALLERS_MAX + 1, "a".to_owned()), (1, "a".repeat(TEXT_BYTES_MAX + 1))] {
            let refused = fixture.refuse(&this_manager(), record(summary(manager(), callers, &name)));
            assert_eq!(refused.kind, RejectionKind::Invalid);
        }
    }

    #[test]
    fn many_managers_together_note_few() {
        let mut fixture = Fixture::initialised();
        let nodes: Vec<NodeId> = (10..20).map(|number| fixture.join(number)).collect();
        for (node, raft_id) in nodes.iter().copied().zip(100..) {
            fixture.given([Kind::MemberAdded(MemberAdded { node, raft_id, ..MemberAdded::default() })]);
        }
        let (first, last) = nodes.split_at(CLUSTER_MAX);
        for node in first {
            fixture.accept(&this_manager(), record(summary(*node, 1, "a")));
        }
        assert_eq!(fixture.refuse(&this_manager(), record(summary(last[0], 1, "a"))).kind, RejectionKind::Unavailable);
        age(&mut fixture, first[0], MANAGER_PERIOD);
        fixture.accept(&this_manager(), record(summary(last[0], 1, "a")));
    }
}
