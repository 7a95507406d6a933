//! A preview for people: objects, then tasks, then a summary.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use wire::v1::{ObjectDifference, ObjectSpec, PreviewReply, TaskAction, TaskDifference, UnplacedTasks};

use super::table::Table;
use super::view::View;
use super::{changes, escape};
use crate::failure::Failure;
use crate::values::{cpus, duration, size};

/// Maximum number of listed tasks; no person reads more.
const ROWS_MAX: usize = 100;
/// The command whose subject is not an object with an id, but describes what would be erased.
const REDACT: &str = "history.redact";
/// Durations are rounded to this: the model is not more precise.
const STEP: Duration = Duration::from_millis(100);

/// The complete preview.
///
/// # Errors
/// When a spec cannot be serialized, which is a bug in this program.
pub fn text(reply: &PreviewReply, view: View) -> Result<String, Failure> {
    if !reply.steps.iter().any(|step| step.changes) {
        return Ok(if reply.refusal.is_none() { "no changes\n".to_owned() } else { String::new() });
    }
    let mut lines = Vec::new();
    for object in &reply.objects {
        lines.extend(object_lines(object)?);
    }
    lines.extend(other_steps(reply));
    let objects: String = lines.iter().map(|line| format!("{}\n", escape::line(line))).collect();
    let tasks = if reply.tasks.is_empty() { String::new() } else { tasks(&reply.tasks, view) };
    let parts = [objects, tasks, summary(reply)];
    Ok(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n"))
}

/// `+` for objects that would be created, `~` for changed ones with their changes, `-` for removed ones.
fn object_lines(object: &ObjectDifference) -> Result<Vec<String>, Failure> {
    let sign = match (&object.before, &object.after) {
        (None, _) => '+',
        (Some(_), None) => '-',
        (Some(_), Some(_)) => '~',
    };
    let mut lines = vec![format!("{sign} {} {}", object.kind, object.name)];
    if let (Some(before), Some(after)) = (&object.before, &object.after) {
        let fields = changes::between(&spec(before)?, &spec(after)?);
        lines.extend(fields.into_iter().map(|field| format!("    {field}")));
        if before.revision != after.revision {
            lines.push(format!("    revision {} of its data", after.revision.unwrap_or_default()));
        }
    }
    Ok(lines)
}

/// The spec of the object that is present.
fn spec(object: &ObjectSpec) -> Result<Value, Failure> {
    let ObjectSpec { service, node, cluster, config, secret, revision: _ } = object;
    let specs = [
        service.as_ref().map(serde_json::to_value),
        node.as_ref().map(serde_json::to_value),
        cluster.as_ref().map(serde_json::to_value),
        config.as_ref().map(serde_json::to_value),
        secret.as_ref().map(serde_json::to_value),
    ];
    let spec = specs.into_iter().flatten().next().unwrap_or(Ok(Value::Null));
    Ok(spec.map_err(std::io::Error::from)?)
}

/// Steps that change something other than a spec, such as a pause.
fn other_steps(reply: &PreviewReply) -> Vec<String> {
    let shown: BTreeSet<&str> = reply.objects.iter().map(|object| object.id.as_str()).collect();
    let names: BTreeMap<&str, String> =
        reply.read.iter().map(|read| (read.id.as_str(), format!("{} {}", read.kind, read.name))).collect();
    let others = reply.steps.iter().filter(|step| step.changes);
    // The name of a hypothetical step was chosen by the caller.
    let others = others.filter(|step| step.name.contains('.'));
    let others = others.filter(|step| step.subject.as_ref().is_none_or(|id| !shown.contains(id.as_str())));
    let line = |step: &wire::v1::PreviewedStep| match step.subject.as_ref().and_then(|id| names.get(id.as_str())) {
        Some(subject) => format!("~ {subject} ({})", step.name),
        None if step.name == REDACT => format!("~ {} ({})", step.subject.as_deref().unwrap_or_default(), step.name),
        None => format!("~ {}", step.name),
    };
    others.map(line).collect()
}

fn tasks(tasks: &[TaskDifference], view: View) -> String {
    let mut table = Table::new(&["TASK", "ACTION", "FROM", "TO", "AFTER"]);
    for task in tasks.iter().take(ROWS_MAX) {
        let nowhere = if task.waiting.is_some() { "no node" } else { "" };
        table.row([
            task.place.clone(),
            verb(task.action()).to_owned(),
            task.from.clone().unwrap_or_default(),
            task.to.clone().unwrap_or_else(|| nowhere.to_owned()),
            time(task.after_ns),
        ]);
    }
    let mut text = table.render(view.width);
    if let Some(more) = tasks.len().checked_sub(ROWS_MAX).filter(|more| *more > 0) {
        text.push_str(&format!("... and {more} more; --format json has all of them\n"));
    }
    text
}

fn verb(action: TaskAction) -> &'static str {
    match action {
        TaskAction::Start => "start",
        TaskAction::Stop => "stop",
        TaskAction::Replace => "replace",
        TaskAction::Move => "move",
    }
}

/// How many tasks are affected, how many are left without a node, and how long it takes.
fn summary(reply: &PreviewReply) -> String {
    let mut counts: BTreeMap<TaskAction, u64> = BTreeMap::new();
    for task in &reply.tasks {
        *counts.entry(task.action()).or_default() += 1;
    }
    let actions = [TaskAction::Start, TaskAction::Stop, TaskAction::Replace, TaskAction::Move];
    let counts = actions.iter().filter_map(|action| Some((counts.get(action)?, verb(*action))));
    let counts: Vec<String> = counts.map(|(count, verb)| format!("{count} to {verb}")).collect();
    let total = reply.tasks_total;
    let mut lines = vec![match total {
        0 => "no task changes".to_owned(),
        1 => format!("1 task: {}", counts.join(", ")),
        _ => format!("{total} tasks: {}", counts.join(", ")),
    }];
    lines.extend(reply.unplaced.iter().map(without_node));
    if reply.duration_ns > 0 && total > 0 {
        lines.push(format!("takes about {}, if tasks start as fast as before", time(reply.duration_ns)));
    }
    lines.extend(reply.unfinished.clone());
    lines.iter().map(|line| format!("{}\n", escape::line(line))).collect()
}

/// Tasks of a service without a suitable node.
pub fn without_node(left: &UnplacedTasks) -> String {
    let UnplacedTasks { service_name, tasks, reason } = left;
    let tasks = if *tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") };
    format!("{tasks} of {service_name} without a node: {reason}")
}

/// The nodes with the least free resources.
pub fn fullest(reply: &PreviewReply, view: View) -> String {
    if reply.fullest.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["FULLEST NODES", "TASKS", "CPUS RESERVED", "MEMORY RESERVED"]);
    for room in &reply.fullest {
        let of = |reserved: String, all: String| format!("{reserved} of {all}");
        table.row([
            room.hostname.clone(),
            room.tasks.to_string(),
            of(cpus::show(room.reserved_nano_cpus), cpus::show(room.nano_cpus)),
            of(size::show(room.reserved_memory_bytes), size::show(room.memory_bytes)),
        ]);
    }
    format!("\n{}", table.render(view.width))
}

fn time(ns: u64) -> String {
    let steps = Duration::from_nanos(ns).as_millis().div_ceil(STEP.as_millis());
    duration::show(STEP * u32::try_from(steps).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use events::ServiceSpec;
    use wire::v1::PreviewedStep;

    use super::*;
    use crate::format::samples;

    fn step(name: &str, subject: &str) -> PreviewedStep {
        PreviewedStep { name: name.to_owned(), subject: Some(subject.to_owned()), changes: true, read: Vec::new() }
    }

    fn service(id: &str, before: Option<ServiceSpec>, after: Option<ServiceSpec>) -> ObjectDifference {
        let spec = |spec| ObjectSpec { service: Some(spec), ..ObjectSpec::default() };
        ObjectDifference {
            kind: "service".to_owned(),
            id: id.to_owned(),
            name: id.to_owned(),
            before: before.map(spec),
            after: after.map(spec),
        }
    }

    #[test]
    fn objects_come_first_then_steps_without_one_then_how_it_ends() {
        let mut changed = samples::spec();
        crate::spec::container(&mut changed).image = "nginx:9".to_owned();
        let reply = PreviewReply {
            steps: vec![step("service.update", "web"), step("service.pause", "db"), step("cluster.rotate", "x")],
            objects: vec![
                service("web", Some(samples::spec()), Some(changed)),
                service("old", Some(samples::spec()), None),
            ],
            tasks: vec![TaskDifference { place: "web.1".to_owned(), ..TaskDifference::default() }],
            tasks_total: 1,
            duration_ns: 1_510_000_000,
            unplaced: vec![UnplacedTasks { service_name: "web".to_owned(), tasks: 1, reason: "full".to_owned() }],
            read: vec![wire::v1::ReadObject { kind: "service".into(), id: "db".into(), name: "db".into(), version: 1 }],
            ..PreviewReply::default()
        };
        let text = text(&reply, View { now: samples::NOW, ids: false, width: None }).expect("text");
        let image = samples::spec().template().container().image.clone();
        let expected = format!(
            "~ service web\n    image {image} -> nginx:9\n- service old\n~ service db (service.pause)\n~ cluster.rotate\n\n\
             TASK      ACTION    FROM      TO        AFTER\nweb.1     start                         0s\n\n\
             1 task: 1 to start\n1 task of web without a node: full\ntakes about 1.6s, if tasks start as fast as before\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn of_very_many_tasks_the_first_are_listed() {
        let task = |number: usize| TaskDifference { place: format!("web.{number}"), ..TaskDifference::default() };
        let all: Vec<TaskDifference> = (0..ROWS_MAX + 2).map(task).collect();
        let text = tasks(&all, View { now: samples::NOW, ids: false, width: None });
        assert_eq!(text.lines().count(), 1 + ROWS_MAX + 1, "{text}");
        assert!(text.ends_with("... and 2 more; --format json has all of them\n"), "{text}");
    }
}
