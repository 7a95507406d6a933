//! The tasks that ever occupied a slot of a service: when, on which node, why each ended and what replaced it.

use std::collections::BTreeMap;

use events::{DesiredCause, Kind, Named, TaskCause, TaskId, TaskState, Timestamp};
use serde::Serialize;
use wire::v1::EventRecord;

use super::table::Table;
use super::view::View;
use super::{age, state};

/// One task of the slot.
#[derive(Debug, Clone, Serialize)]
pub struct SlotTask {
    task: TaskId,
    created_index: u64,
    created_at: Timestamp,
    cause: String,
    /// The name of the node that it was placed on.
    node: Option<String>,
    state: String,
    ended_index: Option<u64>,
    ended_at: Option<Timestamp>,
    /// Why it ended: the node's error, or the managers' cause.
    why: String,
    replaced_by: Option<TaskId>,
    /// The node of its replacement.
    moved_to: Option<String>,
    #[serde(skip)]
    wanted: Option<String>,
}

/// The tasks of a slot, collected from the events about them.
#[derive(Debug, Default)]
pub struct SlotHistory {
    list: Vec<SlotTask>,
    positions: BTreeMap<TaskId, usize>,
}

impl SlotHistory {
    /// Takes the next event.
    pub fn add(&mut self, record: &EventRecord) {
        let Some(kind) = &record.event.kind else { return };
        if let Kind::TaskCreated(event) = kind {
            self.begin(event, record);
        } else if let Kind::TaskAssigned(event) = kind {
            let node = named(record, &event.node.to_string());
            let moved = self.change(event.task, |stay| stay.node = Some(node.clone()));
            if moved {
                self.set_moved_to(event.task, node);
            }
        } else if let Kind::TaskDesiredStateSet(event) = kind {
            let ends = event.desired() >= TaskState::Shutdown;
            for task in event.tasks.iter().filter(|_| ends) {
                self.change(*task, |stay| stay.want_end(event.cause()));
            }
        } else if let Kind::TaskReported(event) = kind {
            let why = if event.status.error.is_empty() { &event.status.message } else { &event.status.error };
            self.change(event.task, |stay| stay.reach(event.status.state(), why, record));
        } else if let Kind::TaskRejected(event) = kind {
            let why = if event.error.is_empty() { &event.message } else { &event.error };
            self.change(event.task, |stay| stay.reach(TaskState::Rejected, why, record));
        } else if let Kind::TaskOrphaned(event) = kind {
            for task in &event.tasks {
                self.change(*task, |stay| stay.reach(TaskState::Orphaned, &event.message, record));
            }
        }
    }

    fn begin(&mut self, event: &events::TaskCreated, record: &EventRecord) {
        let node = event.node.map(|node| named(record, &node.to_string()));
        if let Some(former) = event.replaces {
            self.change(former, |stay| {
                (stay.replaced_by, stay.moved_to) = (Some(event.task), node.clone());
                if matches!(event.cause(), TaskCause::Update | TaskCause::Moved | TaskCause::Rebalanced) {
                    stay.wanted.get_or_insert_with(|| format!("cause {}", event.cause().name()));
                }
            });
        }
        self.positions.insert(event.task, self.list.len());
        self.list.push(SlotTask {
            task: event.task,
            created_index: record.index,
            created_at: record.log_time,
            cause: event.cause().name(),
            node,
            state: state(TaskState::New),
            ended_index: None,
            ended_at: None,
            why: String::new(),
            replaced_by: None,
            moved_to: None,
            wanted: None,
        });
    }

    fn set_moved_to(&mut self, task: TaskId, node: String) {
        if let Some(former) = self.list.iter_mut().find(|stay| stay.replaced_by == Some(task)) {
            former.moved_to = Some(node);
        }
    }

    /// Changes the task's row; returns whether it exists.
    fn change(&mut self, task: TaskId, change: impl FnOnce(&mut SlotTask)) -> bool {
        let stay = self.positions.get(&task).and_then(|position| self.list.get_mut(*position));
        stay.map(change).is_some()
    }

    /// The tasks, oldest first.
    pub fn list(&self) -> &[SlotTask] {
        &self.list
    }

    /// The table.
    pub fn table(rows: &[SlotTask], view: View) -> String {
        let mut table = Table::new(&["ID", "CREATED", "CAUSE", "NODE", "LAST STATE", "WHY", "NEXT ONE ON"]);
        for stay in rows {
            let ended = stay.ended_at.map(|at| format!("{} {}", stay.state, age::ago(at, view.now)));
            table.row([
                stay.task.to_string(),
                age::ago(stay.created_at, view.now),
                stay.cause.clone(),
                stay.node.clone().unwrap_or_default(),
                ended.unwrap_or_else(|| stay.state.clone()),
                stay.why(),
                stay.moved_to.clone().unwrap_or_default(),
            ]);
        }
        table.render(view.width)
    }
}

impl SlotTask {
    /// The id of the task.
    pub fn id(&self) -> String {
        self.task.to_string()
    }

    fn reach(&mut self, reached: TaskState, why: &str, record: &EventRecord) {
        self.state = state(reached);
        if reached > TaskState::Running && self.ended_at.is_none() {
            (self.ended_index, self.ended_at) = (Some(record.index), Some(record.log_time));
            self.why = why.to_owned();
        }
    }

    fn want_end(&mut self, cause: DesiredCause) {
        // A task that has ended is shut down again when its service is removed.
        if self.ended_at.is_none() {
            self.wanted = Some(format!("cause {}", cause.name().replace('_', " ")));
        }
    }

    fn why(&self) -> String {
        match (&self.wanted, self.why.as_str()) {
            (Some(wanted), "") => wanted.clone(),
            (Some(wanted), why) => format!("{wanted}; {why}"),
            (None, why) => why.to_owned(),
        }
    }
}

fn named(record: &EventRecord, id: &str) -> String {
    record.names.get(id).cloned().unwrap_or_else(|| id.to_owned())
}
