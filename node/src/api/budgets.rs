//! Rate limits of each node and each join token, checked before a request enters the manager's inbox, so that a node with a
//! hostile certificate does not affect others.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use commands::{Rejection, RejectionKind};
use events::{NodeId, Role};
use tokio::time::Instant;

use crate::bucket::{Bucket, Rate};

/// All calls of one node except heartbeats. An agent makes one every few seconds, and several per second while it starts many
/// tasks.
const CALLS: Rate = Rate { capacity: 200, interval: Duration::from_millis(20) };
/// Heartbeats of one node, limited separately: a node that reports too often must not be declared down. An agent sends at most
/// ten per second.
const HEARTBEATS: Rate = Rate { capacity: 40, interval: Duration::from_millis(50) };
/// Sessions that one node opens. Each is an entry in the log, and a healthy agent opens one in days.
const SESSIONS: Rate = Rate { capacity: 3, interval: Duration::from_secs(4) };
/// Certificates of one node: 6 at once, for example when its role changes repeatedly, and then 6 per hour. The shortest-lived
/// ones are renewed twice per hour.
const CERTIFICATES: Rate = Rate { capacity: 6, interval: Duration::from_secs(600) };
/// Nodes that join with one token: 50 per second, and 200 at once.
const JOINS: Rate = Rate { capacity: 200, interval: Duration::from_millis(20) };

/// Bytes that a node without tasks may report at once: several times its description. Each manager counts separately; including
/// the refill, three managers accept less than 2 MiB per minute from one hostile node into history.
const REPORT_BYTES: u32 = 256 * 1024;
/// Additional bytes at once for each of its tasks: all states of a task.
const REPORT_BYTES_PER_TASK: u32 = 1024;
/// Refill per second, without tasks and for each task: a report of each task every few seconds.
const REPORT_BYTES_PER_SECOND: u32 = 5 * 1024;
const REPORT_BYTES_PER_SECOND_AND_TASK: u32 = 64;
/// What a message costs the log in addition to its bytes, and each report in it.
const MESSAGE_OVERHEAD: usize = 256;
const REPORT_OVERHEAD: usize = 64;
/// Number of tasks on a node beyond which its budget no longer grows.
const TASKS_MAX: u64 = 100_000;

/// Minimum number of remembered nodes before idle ones are forgotten.
const NODES_MIN: usize = 1_024;

/// The budgets of all nodes and join tokens, as spent at this manager.
pub struct Budgets {
    spent: Mutex<Spent>,
}

#[derive(Default)]
struct Spent {
    by_node: BTreeMap<NodeId, NodeBudget>,
    by_token: BTreeMap<Role, Bucket>,
    /// The number of remembered nodes at which idle ones are forgotten, so that the cleanup is amortised.
    forget_at: usize,
}

/// The spent budget of one node.
#[derive(Default)]
struct NodeBudget {
    calls: Bucket,
    heartbeats: Bucket,
    sessions: Bucket,
    certificates: Bucket,
    report_bytes: Bucket,
}

impl NodeBudget {
    fn is_full(&self, now: Instant) -> bool {
        let Self { calls, heartbeats, sessions, certificates, report_bytes } = self;
        [calls, heartbeats, sessions, certificates, report_bytes].iter().all(|bucket| bucket.is_full(now))
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Self { spent: Mutex::new(Spent { forget_at: NODES_MIN, ..Spent::default() }) }
    }
}

impl Budgets {
    /// Charges any call of a node except a heartbeat.
    pub(super) fn call(&self, node: NodeId, now: Instant) -> Result<(), Rejection> {
        let spent = self.spent().of(node, now).calls.spend(1, CALLS, now);
        spent.map_err(|wait| too_much(node, "calls this manager too often", wait))
    }

    /// Charges a heartbeat of a node.
    pub(super) fn heartbeat(&self, node: NodeId, now: Instant) -> Result<(), Rejection> {
        let spent = self.spent().of(node, now).heartbeats.spend(1, HEARTBEATS, now);
        spent.map_err(|wait| too_much(node, "sends heartbeats too often", wait))
    }

    /// Charges a session that a node opens.
    pub(super) fn session(&self, node: NodeId, now: Instant) -> Result<(), Rejection> {
        let spent = self.spent().of(node, now).sessions.spend(1, SESSIONS, now);
        spent.map_err(|wait| too_much(node, "opens sessions too often", wait))
    }

    /// Charges a certificate for a node.
    pub(super) fn certificate(&self, node: NodeId, now: Instant) -> Result<(), Rejection> {
        let spent = self.spent().of(node, now).certificates.spend(1, CERTIFICATES, now);
        spent.map_err(|wait| too_much(node, "asks for more than 6 certificates an hour", wait))
    }

    /// Charges a message with this many bytes and reports, of a node with this many tasks.
    pub(super) fn report(
        &self,
        node: NodeId,
        tasks: u64,
        bytes: usize,
        reports: usize,
        now: Instant,
    ) -> Result<(), Rejection> {
        let cost = bytes.saturating_add(MESSAGE_OVERHEAD).saturating_add(reports.saturating_mul(REPORT_OVERHEAD));
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        let spent = self.spent().of(node, now).report_bytes.spend(cost, report_rate(tasks), now);
        spent.map_err(|wait| too_much(node, "reports more than its tasks account for", wait))
    }

    /// Charges a node that joins with the token of this role.
    pub(super) fn join(&self, role: Role, now: Instant) -> Result<(), Rejection> {
        let spent = self.spent().by_token.entry(role).or_default().spend(1, JOINS, now);
        spent.map_err(|wait| {
            let sentence = "too many nodes join at once".to_owned();
            Rejection::new(RejectionKind::Unavailable, "join token", sentence, try_again(wait))
        })
    }

    fn spent(&self) -> MutexGuard<'_, Spent> {
        // No code panics while it holds the lock, so a poisoned one still guards valid data.
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spent {
    fn of(&mut self, node: NodeId, now: Instant) -> &mut NodeBudget {
        if self.by_node.len() >= self.forget_at {
            self.by_node.retain(|_, budget| !budget.is_full(now));
            self.forget_at = NODES_MIN.max(self.by_node.len() * 2);
        }
        self.by_node.entry(node).or_default()
    }
}

/// The rate of reports for a node with this many tasks.
fn report_rate(tasks: u64) -> Rate {
    let tasks = u32::try_from(tasks.min(TASKS_MAX)).unwrap_or(u32::MAX);
    let per_second = REPORT_BYTES_PER_SECOND + REPORT_BYTES_PER_SECOND_AND_TASK * tasks;
    Rate { capacity: REPORT_BYTES + REPORT_BYTES_PER_TASK * tasks, interval: Duration::from_secs(1) / per_second }
}

fn too_much(node: NodeId, what: &str, wait: Duration) -> Rejection {
    let hint = format!(
        "{}; if this continues, check whether two machines use the same certificate, or whether it was stolen",
        try_again(wait)
    );
    Rejection::new(RejectionKind::Unavailable, format!("node {node}"), format!("node {node} {what}"), hint)
}

fn try_again(wait: Duration) -> String {
    format!("try again in {} s", wait.as_secs() + 1)
}

#[cfg(test)]
mod tests {
    use events::Id;

    use super::*;

    fn after(begin: Instant, seconds: u64) -> Instant {
        begin + Duration::from_secs(seconds)
    }

    #[test]
    fn a_node_that_hammers_is_told_to_wait_and_others_are_not() {
        let (budgets, begin) = (Budgets::default(), Instant::now());
        let (one, two) = (NodeId::from_bits(1), NodeId::from_bits(2));
        for _ in 0..3 {
            assert_eq!(budgets.session(one, begin), Ok(()));
        }
        let refused = budgets.session(one, begin).expect_err("too often");
        assert_eq!(refused.kind, RejectionKind::Unavailable);
        assert!(refused.sentence.ends_with("opens sessions too often"), "{}", refused.sentence);
        assert!(refused.hint.starts_with("try again in 5 s"), "{}", refused.hint);
        assert_eq!(budgets.session(two, begin), Ok(()));
        assert_eq!(budgets.session(one, after(begin, 4)), Ok(()));
        assert!(budgets.session(one, after(begin, 4)).is_err());
    }

    #[test]
    fn reports_do_not_spend_what_heartbeats_need() {
        let (budgets, begin, node) = (Budgets::default(), Instant::now(), NodeId::from_bits(1));
        let calls = (0..10_000).filter(|_| budgets.call(node, begin).is_ok()).count();
        assert_eq!(calls, 200);
        assert_eq!(budgets.heartbeat(node, begin), Ok(()));
        let heartbeats = (0..10_000).filter(|_| budgets.heartbeat(node, begin).is_ok()).count();
        assert_eq!(heartbeats, 39);
    }

    #[test]
    fn a_node_gets_six_certificates_an_hour() {
        let (budgets, begin, node) = (Budgets::default(), Instant::now(), NodeId::from_bits(1));
        let issued = (0..3_600).filter(|second| budgets.certificate(node, after(begin, *second)).is_ok()).count();
        // Six at once, and the refill meanwhile.
        assert_eq!(issued, 6 + 5);
        let again = (3_600..7_200).filter(|second| budgets.certificate(node, after(begin, *second)).is_ok()).count();
        assert_eq!(again, 6);
    }

    #[test]
    fn a_hostile_node_reports_little_and_a_busy_one_all_that_it_has() {
        let (budgets, begin) = (Budgets::default(), Instant::now());
        let (hostile, busy) = (NodeId::from_bits(1), NodeId::from_bits(2));
        let mut taken = 0;
        for millisecond in 0..60_000 {
            let now = begin + Duration::from_millis(millisecond);
            taken += if budgets.report(hostile, 1, 4_096, 1, now).is_ok() { 4_096 } else { 0 };
        }
        // Three managers count separately.
        assert!(3 * taken < 2 * 1_048_576, "{taken} bytes in a minute");
        // 10,000 tasks, all of which start within a second: three reports of 300 bytes each, in batches of 200.
        for batch in 0..150 {
            let now = begin + Duration::from_millis(batch * 6);
            assert_eq!(budgets.report(busy, 10_000, 200 * 300, 200, now), Ok(()), "batch {batch}");
        }
    }

    #[test]
    fn a_token_lets_in_so_many_at_once_and_so_many_a_second() {
        let (budgets, begin) = (Budgets::default(), Instant::now());
        let joins = |role, now| (0..1_000).filter(|_| budgets.join(role, now).is_ok()).count();
        assert_eq!((joins(Role::Worker, begin), joins(Role::Manager, begin)), (200, 200));
        assert_eq!(joins(Role::Worker, after(begin, 1)), 50);
        assert_eq!(joins(Role::Worker, after(begin, 100)), 200);
    }

    #[test]
    fn nodes_that_are_quiet_are_forgotten() {
        let (budgets, begin) = (Budgets::default(), Instant::now());
        for node in 0..NODES_MIN as u128 {
            budgets.call(NodeId::from_bits(node), begin).expect("a first call");
        }
        budgets.call(NodeId::from_bits(0), after(begin, 60)).expect("another one, after a minute");
        assert_eq!(budgets.spent.lock().expect("a lock").by_node.len(), 1);
    }
}
