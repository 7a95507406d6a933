//! Why a task is on its node, or on none: the scheduler's view of the nodes.

use events::{Named, Timestamp};
use wire::v1::{AutoscalingOutlook, AutoscalingUse, Awaited, PlacementExplanation};

use super::age;
use super::block::Block;
use super::job::{self, Job};
use super::table::Table;
use super::view::View;
use crate::values::{cpus, size};

/// The full explanation: why nodes were rejected, then the best of the suitable ones.
pub fn block(of: &PlacementExplanation, job: Option<&Job>, view: View) -> String {
    let mut block = Block::default();
    block.field("Service", &of.service_name);
    if let Some(job) = job {
        job::outlook(&mut block, job, view.now);
    }
    if let Some(task) = &of.task {
        block.field("Task", &task.name);
        block.field("Node", if task.node_hostname.is_empty() { "none" } else { &task.node_hostname });
        block.prose("Waiting", task.waiting.as_deref().unwrap_or_default());
    } else if of.waiting > 0 {
        let reason = of.waiting_for.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
        block.prose("Waiting", &format!("{}{reason}", counted(of.waiting, "task")));
    }
    block.each("Awaited", of.awaited.iter().map(|awaited| self::awaited(awaited, view.now)));
    if let Some(outlook) = &of.autoscaling {
        autoscaling(&mut block, outlook, view.now);
    }
    block.field("Strategy", of.strategy().name());
    block.field("Suitable nodes", format!("{} of {}", of.suitable, of.nodes));
    block.each(
        "Refused",
        of.refused.iter().map(|refused| format!("{}: {}", counted(refused.nodes, "node"), refused.reason)),
    );
    let what = if of.task.is_some() { "Would go to" } else { "Next task" };
    match &of.choice {
        Some(node) => drop(block.field(what, node)),
        None if of.suitable == 0 => drop(block.field(what, "no node")),
        // A global service has a task on each node.
        None => {}
    }
    let mut text = block.render(view.width);
    if !of.candidates.is_empty() {
        text.push('\n');
        text.push_str(&candidates(of, view));
    }
    text
}

/// What the task or job waits for, and when that is due.
fn awaited(of: &Awaited, now: Timestamp) -> String {
    let due = of.due.map(|due| format!(", {} ({})", age::ahead(due.since(now)), age::second(due)));
    format!("{}{}", of.what, due.unwrap_or_default())
}

/// Measured use against the target, the resulting number of replicas, and the last change.
fn autoscaling(block: &mut Block, of: &AutoscalingOutlook, now: Timestamp) {
    block.section("Autoscaling", |block| {
        block.field("Replicas", format!("{} ({} to {})", of.replicas, of.min, of.max));
        match (&of.r#use, &of.leader_hostname) {
            (Some(known), _) => measured(block, of, known, now),
            (None, Some(leader)) => drop(block.prose("Use", &format!("only known to the leader, {leader}: ask there"))),
            (None, None) => drop(block.prose("Use", "unknown: only the leader has it, and it is not part of history")),
        }
        if let Some(last) = &of.last {
            let ago = age::ago(last.at, now);
            block.prose("Last change", &format!("{ago}, from {} replicas: {}", last.from, last.reason));
        }
        let cool_down = match of.cool_down_until.since(now) {
            left if left.is_zero() => "over".to_owned(),
            left => {
                format!("until {} ({}): no fewer replicas before", age::second(of.cool_down_until), age::ahead(left))
            }
        };
        block.prose("Cool-down", &cool_down);
    });
}

fn measured(block: &mut Block, of: &AutoscalingOutlook, known: &AutoscalingUse, now: Timestamp) {
    for metric in &known.metrics {
        let percent = metric.percent.map_or_else(|| "not measured yet".to_owned(), |percent| format!("{percent}%"));
        let (target, measured) = (metric.target_percent, metric.measured);
        let what = if metric.what == "CPU" { "CPU" } else { "Memory" };
        let tasks = counted(known.tasks, "task");
        block.prose(what, &format!("{percent}, target {target}% (measured: {measured} of {tasks})"));
    }
    let follows = match known.wanted {
        None => "unknown: no task was measured for a complete window".to_owned(),
        Some(wanted) if wanted == of.replicas => "no change".to_owned(),
        Some(wanted) if wanted < of.replicas && of.cool_down_until > now => {
            format!("{wanted} replicas after the cool-down")
        }
        Some(wanted) => format!("{wanted} replicas at the next check"),
    };
    block.prose("Decision", &follows);
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// The best nodes, with the most important criterion on the left.
fn candidates(of: &PlacementExplanation, view: View) -> String {
    let mut table = Table::new(&[
        "CANDIDATE",
        "SPREAD OVER",
        "FAILURES",
        "UNMET AFFINITIES",
        "TASKS OF SERVICE",
        "TASKS",
        "FREE CPUS",
        "FREE MEMORY",
    ]);
    for node in &of.candidates {
        table.row([
            if view.ids { node.node.to_string() } else { node.hostname.clone() },
            node.preferences.join(", "),
            node.failures.to_string(),
            node.lacks.to_string(),
            node.tasks_of_service.to_string(),
            node.tasks.to_string(),
            cpus::show(node.free_nano_cpus),
            size::show(node.free_memory_bytes),
        ]);
    }
    table.render(view.width)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use events::{Id, NodeId, PlacementStrategy};
    use wire::v1::{CandidateNode, RefusedNodes};

    use super::*;
    use crate::format::samples;

    #[test]
    fn what_counts_is_shown_and_nothing_else() {
        let node = |number, hostname: &str, lacks| CandidateNode {
            hostname: hostname.to_owned(),
            node: NodeId::from_bits(number),
            preferences: Vec::new(),
            failures: 0,
            lacks,
            tasks_of_service: 1,
            tasks: 2,
            free_nano_cpus: 1_500_000_000,
            free_memory_bytes: 1 << 30,
        };
        let explained = PlacementExplanation {
            service_name: "web".to_owned(),
            task: None,
            strategy: PlacementStrategy::Spread.into(),
            nodes: 5,
            refused: vec![RefusedNodes { reason: "insufficient memory".to_owned(), nodes: 3 }],
            suitable: 2,
            candidates: vec![node(1, "n1", 0), node(2, "n2", 3)],
            choice: Some("n1".to_owned()),
            waiting: 1,
            waiting_for: Some("no suitable node".to_owned()),
            autoscaling: None,
            awaited: vec![
                Awaited {
                    what: "the next attempt: no such file".to_owned(),
                    due: Some(samples::NOW + Duration::from_secs(6)),
                },
                Awaited { what: "1 task of the update to run".to_owned(), due: None },
            ],
        };
        let expected = "\
Service        : web
Waiting        : 1 task: no suitable node
Awaited        : the next attempt: no such file, in 6s (2027-01-15T08:00:06Z)
                 1 task of the update to run
Strategy       : spread
Suitable nodes : 2 of 5
Refused        : 3 nodes: insufficient memory
Next task      : n1

CANDIDATE   SPREAD OVER   FAILURES   UNMET AFFINITIES   TASKS OF SERVICE   TASKS     FREE CPUS   FREE MEMORY
n1                        0          0                  1                  2         1.5         1GiB
n2                        0          3                  1                  2         1.5         1GiB
";
        assert_eq!(block(&explained, None, samples::VIEW), expected);
    }
}
