//! Why a task is where it is: the chain of causes, one sentence each, from the events about the task and about those that it
//! replaced.

use events::{Cause, DesiredCause, Kind, TaskCause, TaskId, TaskState, Timestamp};
use serde::Serialize;
use wire::v1::{CandidateNode, EventRecord, PlacementExplanation};

use super::phrase::phrase;
use super::{RecordNames, escape, event_lines, state};

/// One link of the chain.
#[derive(Debug, Clone, Serialize)]
pub struct Link {
    /// Index of the frame.
    pub index: u64,
    log_time: Timestamp,
    task: TaskId,
    /// What happened.
    sentence: String,
    /// The command that caused it.
    because: Option<String>,
}

/// The chain of causes of one task.
#[derive(Debug, Default)]
pub struct Chain {
    /// Its links, oldest first.
    pub links: Vec<Link>,
    /// The task that it replaced.
    pub replaces: Option<TaskId>,
    /// Index of the frame in which it was assigned to a node.
    pub placed_at: Option<u64>,
    /// The last command in the current frame.
    command: Option<(u64, String)>,
}

impl Chain {
    /// Takes the next event about the task, oldest first. Events about other objects count too if they led to a change of the
    /// task.
    pub fn add(&mut self, task: TaskId, record: &EventRecord) {
        let Some(kind) = &record.event.kind else { return };
        if let Some(because) = command(kind, record) {
            self.command = Some((record.index, because));
        }
        let Some(sentence) = self.sentence(task, kind, record) else { return };
        // Reports of nodes and placements by the scheduler are not caused by a command in the same frame.
        let is_decision = matches!(kind, Kind::TaskCreated(_) | Kind::TaskDesiredStateSet(_) | Kind::TaskOrphaned(_));
        let because = self.command.as_ref().filter(|(index, _)| is_decision && *index == record.index);
        let because = because.map(|(_, because)| because.clone());
        self.links.push(Link { index: record.index, log_time: record.log_time, task, sentence, because });
    }

    fn sentence(&mut self, task: TaskId, kind: &Kind, record: &EventRecord) -> Option<String> {
        if let Kind::TaskCreated(event) = kind
            && event.task == task
        {
            self.replaces = event.replaces;
            let node = event.node.map(|node| format!(" for node {}", named(record, &node.to_string())));
            return Some(format!("created{}: {}", node.unwrap_or_default(), created(event.cause())));
        }
        if let Kind::TaskAssigned(event) = kind
            && event.task == task
        {
            self.placed_at = Some(record.index);
            return Some(format!("placed on {}", named(record, &event.node.to_string())));
        }
        if let Kind::ServiceRebalanced(event) = kind
            && event.task == task
        {
            return Some(format!("moves to {}: {}", named(record, &event.to.to_string()), event.reason));
        }
        if let Kind::TaskPlacementFailed(event) = kind
            && event.tasks.contains(&task)
        {
            return Some(format!("waits for a node: {}", event.explanation));
        }
        if let Kind::TaskDesiredStateSet(event) = kind
            && event.tasks.contains(&task)
        {
            return Some(if event.desired() >= TaskState::Shutdown {
                format!("stop requested: {}", stopped(event.cause()))
            } else {
                "start requested".to_owned()
            });
        }
        if let Kind::TaskReported(event) = kind
            && event.task == task
        {
            let status = &event.status;
            let said = if status.error.is_empty() { &status.message } else { &status.error };
            let said = if said.is_empty() || status.state() <= TaskState::Running {
                String::new()
            } else {
                format!(": {said}")
            };
            return Some(format!("{}{said}", state(status.state())));
        }
        if let Kind::TaskRejected(event) = kind
            && event.task == task
        {
            return Some(format!(
                "rejected by its node: {}",
                if event.error.is_empty() { &event.message } else { &event.error }
            ));
        }
        if let Kind::TaskOrphaned(event) = kind
            && event.tasks.contains(&task)
        {
            return Some(format!("given up: {}", event.message));
        }
        None
    }
}

/// A command, its caller and its reason; `None` if the event was not caused by a command.
fn command(kind: &Kind, record: &EventRecord) -> Option<String> {
    let asked = record.command.as_ref().filter(|command| command.actor.kind().is_user())?;
    matches!(record.event.cause, Some(Cause::Command(_))).then_some(())?;
    let by = event_lines::by(&record.event, record, RecordNames::with(record));
    let what = phrase(kind, record.before.as_deref(), RecordNames::with(record));
    let reason = asked.reason.as_ref().map_or_else(String::new, |reason| format!(", reason: \"{reason}\""));
    Some(format!("{by} ran {} ({what}{reason})", asked.kind))
}

fn created(cause: TaskCause) -> &'static str {
    match cause {
        TaskCause::Scale => "the service has too few tasks",
        TaskCause::Restart => "the previous task ended",
        TaskCause::Update => "the previous task has an older spec",
        TaskCause::Moved => "the previous task had to leave its node",
        TaskCause::Rebalanced => "another node had fewer tasks of the service than that of the task before it",
    }
}

fn stopped(cause: DesiredCause) -> &'static str {
    match cause {
        DesiredCause::Start => "it is next",
        DesiredCause::ScaleDown => "the service has too many tasks",
        DesiredCause::Update => "the service is updated",
        DesiredCause::Restart => "it is restarted",
        DesiredCause::NodeDrained => "its node was drained",
        DesiredCause::DrainDeadlinePassed => "its node was drained, and the deadline for that passed",
        DesiredCause::Superseded => "another task runs in its slot",
        DesiredCause::Rebalanced => "another node has fewer tasks of the service, and gets one in its place",
        DesiredCause::ServiceRemoved => "the service was removed",
        DesiredCause::User => "it was removed",
        DesiredCause::NodeDown => "its node is down",
        DesiredCause::NodeRemoved => "its node was removed",
        DesiredCause::ConstraintsNoLongerMet => "its node no longer meets the constraints",
    }
}

fn named(record: &EventRecord, id: &str) -> String {
    record.names.get(id).cloned().unwrap_or_else(|| id.to_owned())
}

impl Link {
    /// Adds why the scheduler chose the node, according to its explanation at that point.
    pub fn choose(&mut self, of: &PlacementExplanation) {
        let refused: Vec<String> =
            of.refused.iter().map(|refused| format!("{}: {}", refused.nodes, refused.reason)).collect();
        let refused = if refused.is_empty() { String::new() } else { format!("; refused {}", refused.join(", ")) };
        let advantage = match &of.candidates[..] {
            [first, second, ..] if of.choice.as_deref() == Some(first.hostname.as_str()) => {
                format!("; {}", advantage(first, second))
            }
            [] | [_, ..] => String::new(),
        };
        self.sentence.push_str(&format!(", {} of {} nodes suitable{refused}{advantage}", of.suitable, of.nodes));
    }

    /// Whether the explanation is about this task's placement.
    pub fn is_placement_of(&self, task: TaskId) -> bool {
        self.task == task && self.sentence.starts_with("placed on ")
    }

    /// The text for people; with the name of the task if several are shown.
    pub fn text(&self) -> String {
        let time = self.log_time.to_string();
        let seconds = time.get(..19).unwrap_or(&time);
        let mut text = format!("{:<10}{seconds}Z  {}\n", self.index, escape::line(&self.sentence));
        if let Some(because) = &self.because {
            text.push_str(&format!("{:32}because {}\n", "", escape::line(because)));
        }
        text
    }
}

/// The first criterion that favours a node over the next one.
fn advantage(first: &CandidateNode, second: &CandidateNode) -> String {
    let than = &second.hostname;
    if first.preferences != second.preferences {
        format!("better spread than on {than}")
    } else if first.failures < second.failures {
        format!("fewer recent failures than {than}")
    } else if first.lacks < second.lacks {
        format!("more preferred affinities met than by {than}")
    } else if first.tasks_of_service < second.tasks_of_service {
        format!("fewer tasks of the service than {than}")
    } else if first.tasks < second.tasks {
        format!("fewer tasks than {than}")
    } else {
        format!("{than} is equally suitable")
    }
}
