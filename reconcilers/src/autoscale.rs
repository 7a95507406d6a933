//! The number of replicas of a service with autoscaling: as many as bring the resource use of its tasks to the target, computed
//! like the Horizontal Pod Autoscaler of Kubernetes does.
//!
//! Resource use never enters the log, only its consequences do. It is averaged over the service's window where it is measured, so
//! that nothing is stored here between two evaluations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use events::spec::Autoscaling;
use events::{Kind, NodeId, ServiceScaled, TaskId, Timestamp};
use projections::{Cluster, Service, Task};

use crate::{Correction, Ctx, Scope, TimerKey};

/// How often each autoscaled service is evaluated.
const PERIOD: Duration = Duration::from_secs(15);
/// A use within this many tenths of the target counts as on target.
const TOLERANCE_TENTHS: u128 = 1;
/// More than any task uses, in thousandths; higher reports are capped to this.
const PERMILLE_MAX: u32 = 1_000_000;

/// Resource use of the tasks of each node, according to its last report; recorded by the leader.
pub type Uses = BTreeMap<NodeId, Arc<NodeUse>>;

/// Resource use of the tasks of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeUse {
    /// When it was received.
    pub at: Timestamp,
    /// The tasks that were measured for a whole window.
    pub tasks: BTreeMap<TaskId, TaskUse>,
}

/// Resource use of a task, averaged over the window of its service, in thousandths of its reservation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskUse {
    /// Of CPU.
    pub cpu_permille: Option<u32>,
    /// Of memory.
    pub memory_permille: Option<u32>,
}

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    for id in scope.services.union(&scope.scalings) {
        let Some(service) = cluster.services.get(*id) else { continue };
        let Some(rule) = service.spec.autoscaling() else { continue };
        if out.is_full() {
            return;
        }
        out.wake(ctx.now + PERIOD, TimerKey::Scaling(*id));
        if let Some(decision) = decide(cluster, service, &rule, ctx) {
            out.push(Kind::ServiceScaled(decision));
        }
    }
}

/// The new number of replicas, if it should change.
fn decide(cluster: &Cluster, service: &Service, rule: &Autoscaling, ctx: &Ctx<'_>) -> Option<ServiceScaled> {
    let Outlook { from, metrics, wanted, cool_down_until, .. } = outlook(cluster, service, rule, ctx.uses, ctx.now)?;
    let to = wanted?;
    let changes = to > from || (to < from && ctx.now >= cool_down_until);
    let reason = deciding(&metrics).map(|metric| metric.reason(rule));
    changes.then_some(ServiceScaled { service: service.id, from, to, reason })
}

/// The autoscaling status of a service.
#[derive(Debug, PartialEq, Eq)]
pub struct Outlook {
    /// The current number of replicas.
    pub from: u64,
    /// The metrics that it is scaled by.
    pub metrics: Vec<Metric>,
    /// The number that brings the use to the targets, within the bounds; `None` without measurements.
    pub wanted: Option<u64>,
    /// The number of its tasks that count.
    pub serving: u64,
    /// It is not scaled down before this time.
    pub cool_down_until: Timestamp,
}

/// The status of one metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// The measured resource.
    pub what: &'static str,
    /// The target for the average use.
    pub target_percent: u32,
    /// The number of measured tasks.
    pub measured: u64,
    /// Their average use; `None` if there are none.
    pub percent: Option<u64>,
    /// The number of replicas that brings it to the target, ignoring the bounds.
    replicas: Option<u64>,
}

impl Metric {
    fn reason(&self, rule: &Autoscaling) -> String {
        let percent = self.percent.unwrap_or_default();
        format!("{} at {percent}% over {:?}, target {}%", self.what, rule.window, self.target_percent)
    }
}

/// Of several metrics the one that requires the most replicas decides.
fn deciding(metrics: &[Metric]) -> Option<&Metric> {
    metrics.iter().filter(|metric| metric.replicas.is_some()).max_by_key(|metric| metric.replicas)
}

/// The autoscaling status of a service; `None` for a service without autoscaling.
pub fn outlook(
    cluster: &Cluster,
    service: &Service,
    rule: &Autoscaling,
    uses: &Uses,
    now: Timestamp,
) -> Option<Outlook> {
    let from = service.spec.replicas()?;
    let (serving, uses) = known_uses(cluster, service, uses, now);
    let metrics = [
        ("CPU", rule.cpu_percent, uses.iter().filter_map(|of| of.cpu_permille).collect::<Vec<u32>>()),
        ("memory", rule.memory_percent, uses.iter().filter_map(|of| of.memory_permille).collect()),
    ];
    let metrics = metrics.into_iter().filter_map(|(what, target, uses)| {
        let (target_percent, measured) = (target?, uses.len() as u64);
        let result = MetricResult::of(from, &uses, target_percent);
        let (percent, replicas) = result.map(|result| (result.percent, result.replicas)).unzip();
        Some(Metric { what, target_percent, measured, percent, replicas })
    });
    let metrics: Vec<Metric> = metrics.collect();
    let wanted = deciding(&metrics).and_then(|metric| metric.replicas).map(|to| to.clamp(rule.min, rule.max));
    let since = service.autoscaled.as_ref().map_or(service.updated_at, |last| last.at.max(service.updated_at));
    Some(Outlook { from, metrics, wanted, serving, cool_down_until: since + rule.cool_down })
}

/// The number of tasks that the service has now, and the measurements: those of running tasks on nodes with recent heartbeats.
fn known_uses(cluster: &Cluster, service: &Service, uses: &Uses, now: Timestamp) -> (u64, Vec<TaskUse>) {
    let known = |task: &Task| {
        let of_node = uses.get(&task.node?)?;
        let is_fresh = now.since(of_node.at) < cluster.heartbeat_timeout();
        of_node.tasks.get(&task.id).copied().filter(|_| is_fresh)
    };
    let (mut serving, mut known_uses) = (0, Vec::new());
    for task in cluster.tasks_of_service(service.id).filter(|task| crate::slots::serves(task)) {
        serving += 1;
        known_uses.extend(known(task));
    }
    (serving, known_uses)
}

/// The result of one metric.
#[derive(Debug, PartialEq, Eq)]
struct MetricResult {
    replicas: u64,
    /// The average use of the measured tasks.
    percent: u64,
}

impl MetricResult {
    /// `None` without measurements. Tasks that were not measured are treated conservatively: as using nothing when scaling up,
    /// and as using the target when scaling down.
    fn of(replicas: u64, uses: &[u32], target_percent: u32) -> Option<Self> {
        let (measured, target) = (uses.len() as u128, u128::from(target_percent) * 10);
        let unmeasured = u128::from(replicas).saturating_sub(measured);
        let sum: u128 = uses.iter().map(|permille| u128::from((*permille).min(PERMILLE_MAX))).sum();
        let average = sum.checked_div(measured)?;
        let sum = if average > target { sum } else { sum + unmeasured * target };
        let whole = (measured + unmeasured) * target;
        let is_near = sum.abs_diff(whole) * 10 <= whole * TOLERANCE_TENTHS;
        // If the assumption about unmeasured tasks reverses the direction, it is uncertain.
        let is_sure = (sum > whole) == (average > target);
        let wanted = sum.div_ceil(target.max(1));
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        let stays = is_near || !is_sure;
        Some(Self {
            replicas: if stays { replicas } else { wanted },
            percent: u64::try_from(average / 10).unwrap_or(u64::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use events::{Autoscale, Id, NodeSpec, ServiceSpec, TaskState};

    use super::*;
    use crate::samples::{Sample, at, replicated, service};

    #[test]
    fn as_many_replicas_as_bring_the_use_to_the_target() {
        // The number of replicas, the use of the measured ones in percent, and the new number for 70 %.
        let table: [(u64, &[u32], Option<u64>); 14] = [
            (2, &[91, 91], Some(3)),
            (2, &[140, 140], Some(4)),
            (1, &[700], Some(10)),
            // Within a tenth of the target.
            (10, &[77; 10], Some(10)),
            (10, &[78; 10], Some(12)),
            (10, &[63; 10], Some(10)),
            (10, &[62; 10], Some(9)),
            (3, &[0, 0, 0], Some(0)),
            (4, &[35; 4], Some(2)),
            // Unmeasured tasks count as using least when scaling up, and most when scaling down.
            (4, &[140, 140], Some(4)),
            (4, &[210, 210], Some(6)),
            (4, &[10, 10], Some(3)),
            (4, &[], None),
            (0, &[], None),
        ];
        for (replicas, uses, expected) in table {
            let permille: Vec<u32> = uses.iter().map(|percent| percent * 10).collect();
            let result = MetricResult::of(replicas, &permille, 70).map(|result| result.replicas);
            assert_eq!(result, expected, "{replicas} replicas, {uses:?}");
        }
        let hostile = MetricResult::of(2, &[u32::MAX; 2], 1).map(|result| result.replicas);
        assert_eq!(hostile, Some(200_000));
    }

    #[test]
    fn a_load_that_stays_the_same_is_never_answered_in_both_directions() {
        for (load, first) in (0..300_u32).flat_map(|load| (1..=12_u64).map(move |first| (load * 20, first))) {
            let mut numbers = vec![first];
            for _ in 0..10 {
                let replicas = *numbers.last().unwrap_or(&first);
                let share = load / u32::try_from(replicas).unwrap_or(u32::MAX).max(1);
                let uses = vec![share; usize::try_from(replicas).unwrap_or(usize::MAX)];
                numbers.push(
                    MetricResult::of(replicas, &uses, 70).map_or(replicas, |result| result.replicas).clamp(1, 10),
                );
            }
            assert!(numbers.is_sorted() || numbers.iter().rev().is_sorted(), "{load} from {first}: {numbers:?}");
            assert_eq!(numbers[9], numbers[10], "{load} from {first}: {numbers:?}");
        }
    }

    /// A service of one to five replicas with these running tasks on a node that reported this use a second ago, in percent of
    /// CPU.
    fn sample(uses: &[Option<u32>], heard: u64) -> Sample {
        let rule = Autoscale { min_replicas: 2, max_replicas: 5, cpu_percent: Some(70), ..Autoscale::default() };
        let mode = Some(replicated(uses.len() as u64));
        let spec = ServiceSpec { mode, autoscale: Some(rule), ..ServiceSpec::default() };
        let sample = Sample::default().with_node(1, NodeSpec::default()).with_spec(spec, &[]);
        let mut sample = (1..).zip(uses).fold(sample, |sample, (number, _)| {
            let slot = u64::try_from(number).unwrap_or_default();
            let sample = sample.with_task(number, slot, None, TaskState::Pending);
            sample.assigned(number, 1).reported(number, TaskState::Running)
        });
        let of_task = |(number, percent): (u128, &Option<u32>)| {
            let cpu_permille = Some((*percent)? * 10);
            Some((TaskId::from_bits(number), TaskUse { cpu_permille, memory_permille: None }))
        };
        let tasks = (1..).zip(uses).filter_map(of_task).collect();
        sample.uses.insert(NodeId::from_bits(1), Arc::new(NodeUse { at: at(heard), tasks }));
        sample
    }

    /// Resource use of tasks, when their node reported it, when that is evaluated, and the result.
    type Case = (&'static [Option<u32>], u64, u64, Option<String>);

    #[test]
    fn the_number_stays_within_bounds_and_falls_only_after_the_cool_down() {
        let more = |to, percent| format!("scale to {to}: CPU at {percent}% over 60s, target 70%");
        let table: [Case; 9] = [
            (&[Some(91); 2], 400, 401, Some(more(3, 91))),
            (&[Some(91); 2], 1, 2, Some(more(3, 91))),
            (&[Some(900); 3], 400, 401, Some(more(5, 900))),
            (&[Some(70); 3], 400, 401, None),
            (&[Some(0); 5], 400, 401, Some(more(2, 0))),
            (&[Some(0); 5], 299, 299, None),
            (&[Some(0); 2], 400, 401, None),
            // An old report counts as unknown, like a missing one.
            (&[Some(91); 2], 400, 420, None),
            (&[None; 3], 400, 401, None),
        ];
        for (uses, heard, now, expected) in table {
            let look = format!("look at {}", now + PERIOD.as_secs());
            let expected: Vec<String> = expected.into_iter().chain([look]).collect();
            assert_eq!(sample(uses, heard).ask(reconcile, now), expected, "{uses:?} at {now}");
        }
        let mut sample = sample(&[Some(91); 2], 400);
        let scaled = ServiceScaled { service: service(), from: 5, to: 2, reason: Some("idle".to_owned()) };
        let version =
            sample.cluster.services.get(service()).map(|service| (service.version, service.spec_changes.len()));
        sample.apply(390, Kind::ServiceScaled(scaled));
        let known = sample.cluster.services.get(service()).map(|service| (service.version, service.spec_changes.len()));
        assert_eq!(known, version, "nobody asked for another spec");
        assert_eq!(sample.ask(reconcile, 401)[0], more(3, 91), "there may be more at any time");
    }
}
