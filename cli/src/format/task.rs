//! Tasks: as rows of a table, and one by one.

use events::{TaskState, Timestamp};
use wire::v1::TaskView;

use super::block::Block;
use super::table::Table;
use super::view::View;
use super::{age, restarts, state, template};
use crate::values::image;

/// Sorts tasks for display: by service and slot, within a slot the newest first.
pub fn sort(tasks: &mut [TaskView]) {
    tasks.sort_by(|a, b| {
        let place = |task: &TaskView| {
            (task.service_name.clone(), task.service, task.slot, task.node.filter(|_| task.slot.is_none()))
        };
        place(a).cmp(&place(b)).then(b.meta.created_at.cmp(&a.meta.created_at)).then(a.id.cmp(&b.id))
    });
}

/// The table of `task ls`.
pub fn table(tasks: &[TaskView], view: View) -> String {
    rows(tasks, view).render(view.width)
}

/// The same, not yet fitted to a terminal.
pub fn rows(tasks: &[TaskView], view: View) -> Table {
    let mut table = Table::new(&["ID", "SERVICE", "DESIRED STATE", "LAST STATE", "NODE", "ERROR"]);
    for task in tasks {
        table.row([
            task.id.to_string(),
            place(task, view.ids),
            state(task.desired()),
            last_state(task, view.now),
            node(task, view.ids),
            remark(task, view.now),
        ]);
    }
    table
}

/// The table of tasks below a service: with slots and images.
pub fn table_in_service(tasks: &[TaskView], view: View) -> String {
    let mut table =
        Table::new(&["TASK ID", "SERVICE", "SLOT", "IMAGE", "DESIRED STATE", "LAST STATE", "NODE", "ERROR"]);
    for task in tasks {
        table.row([
            task.id.to_string(),
            if view.ids { task.service.to_string() } else { task.service_name.clone() },
            task.slot.map_or_else(String::new, |slot| slot.to_string()),
            image::without_digest(&task.image).to_owned(),
            state(task.desired()),
            last_state(task, view.now),
            node(task, view.ids),
            remark(task, view.now),
        ]);
    }
    table.render(view.width)
}

/// One task, with all its details.
pub fn block(task: &TaskView, printed: &[String], view: View) -> String {
    let mut block = Block::default();
    block
        .field("ID", task.id)
        .field("Name", format!("{}.{}", place(task, view.ids), task.id))
        .field("Service", if view.ids { task.service.to_string() } else { task.service_name.clone() });
    if let Some(slot) = task.slot {
        block.field("Slot", slot);
    }
    block.field("Spec version", task.spec_version);
    block.field("Created", age::ago(task.meta.created_at, view.now));
    block.optional("Replaces", task.replaces.map_or_else(String::new, |id| id.to_string()));
    block.section("Status", |block| status(block, task, view.now));
    block.each("Last lines", printed.iter().cloned());
    block.optional("Node", node(task, view.ids));
    let claims = task.claims.iter().map(template::generic);
    block.optional("Claims", claims.collect::<Vec<_>>().join(", "));
    if let Some(spec) = &task.spec {
        template::show(&mut block, spec);
    }
    block.render(view.width)
}

fn status(block: &mut Block, task: &TaskView, now: Timestamp) {
    block.field("Desired state", state(task.desired())).field("Last state", last_state(task, now));
    block.prose("Message", &task.status.message).prose("Error", &task.status.error);
    block.prose("Waiting", task.waiting.as_deref().unwrap_or_default());
    if let Some(known) = &task.restarting {
        match known.running_again {
            true => block.prose("Running again", &format!("after {}", restarts::failures(known, now))),
            false => block.prose("Restarting", &restarts::failures(known, now)),
        };
    }
    let Some(container) = &task.status.container else { return };
    block.optional("Container", &container.container_id);
    if container.pid != 0 {
        block.field("PID", container.pid);
    }
    if let Some(code) = container.exit_code {
        block.field("Exit code", exit_code(code, container.oom_killed));
    }
    block.each("Port", container.ports.iter().map(crate::values::port::show));
    block.each("Warning", container.warnings.iter().cloned());
}

/// An exit code with its meaning, where it has one.
fn exit_code(code: i32, oom_killed: bool) -> String {
    match code {
        _ if oom_killed => format!("{code} (killed: it used more memory than its limit)"),
        137 => "137 (killed)".to_owned(),
        139 => "139 (crashed: bad memory access)".to_owned(),
        143 => "143 (stopped)".to_owned(),
        126 => "126 (the command cannot be executed)".to_owned(),
        127 => "127 (the command was not found)".to_owned(),
        _ => code.to_string(),
    }
}

/// The slot of a task: `web.1`, or the node's name for a global service.
pub fn place(task: &TaskView, ids: bool) -> String {
    let service = if ids { task.service.to_string() } else { task.service_name.clone() };
    match task.slot {
        None => format!("{service}.{}", node(task, ids)),
        Some(slot) => format!("{service}.{slot}"),
    }
}

/// The node that a task is assigned to, if any.
pub fn node(task: &TaskView, ids: bool) -> String {
    let id = task.node.map_or_else(String::new, |id| id.to_string());
    if ids || task.node_hostname.is_empty() { id } else { task.node_hostname.clone() }
}

/// Why a task is not running as desired: the error, or what it waits for.
pub fn trouble(task: &TaskView) -> &str {
    match &task.waiting {
        _ if !task.status.error.is_empty() => &task.status.error,
        Some(waiting) if task.status.state() < TaskState::Running => waiting,
        Some(_) | None => "",
    }
}

/// The last column: the restart state of a slot that fails repeatedly, or else the task's own problem.
fn remark(task: &TaskView, now: Timestamp) -> String {
    match (&task.restarting, &task.waiting) {
        (Some(known), None) => restarts::show(known, now),
        (Some(_), Some(_)) | (None, _) => trouble(task).to_owned(),
    }
}

fn last_state(task: &TaskView, now: Timestamp) -> String {
    let at = task.status.at.unwrap_or(task.meta.updated_at);
    format!("{} {}", state(task.status.state()), age::ago(at, now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::samples;

    #[test]
    fn rows_say_where_and_why() {
        let mut tasks = samples::tasks();
        sort(&mut tasks);
        let expected = "\
ID                          SERVICE   DESIRED STATE   LAST STATE               NODE       ERROR
0000000000000000000000003   web.1     RUNNING         RUNNING 3 minutes ago    worker-1   \n\
0000000000000000000000004   web.2     RUNNING         PENDING 10 seconds ago              no suitable node (2 of 3 nodes lack 2 GiB)
0000000000000000000000005   web.2     SHUTDOWN        FAILED 11 seconds ago    worker-2   exit status 1
";
        assert_eq!(table(&tasks, samples::VIEW), expected);
    }

    #[test]
    fn ids_replace_names_on_request() {
        let text = table(&samples::tasks(), View { ids: true, ..samples::VIEW });
        assert!(!text.contains("worker-1") && !text.contains("web."), "{text}");
        assert!(text.contains("0000000000000000000000009.1"), "{text}");
    }

    #[test]
    fn one_task_is_told_in_full() {
        let expected = "\
ID              : 0000000000000000000000005
Name            : web.2.0000000000000000000000005
Service         : web
Slot            : 2
Spec version    : 7
Created         : 3 minutes ago
Status
  Desired state : SHUTDOWN
  Last state    : FAILED 11 seconds ago
  Error         : exit status 1
  Container     : c0ffee
  Exit code     : 137 (killed: it used more memory than its limit)
Node            : worker-2
Template
  Image         : nginx:1.27
";
        assert_eq!(block(&samples::tasks()[2], &[], samples::VIEW), expected);
    }
}
