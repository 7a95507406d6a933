//! The story of one object: which events are about it. The story of a service includes its tasks'.

use std::collections::BTreeSet;

use events::{Event, Kind};

/// A filter that is shown a history from its beginning, event by event, and knows which of them belong.
#[derive(Debug, Clone, Default)]
pub struct Story {
    /// The object's id as text; `None`: everything belongs.
    object: Option<String>,
    /// Names of the kinds that belong; empty: all.
    kinds: BTreeSet<String>,
    /// Ids of the object's tasks, as far as the history was shown.
    tasks: BTreeSet<String>,
}

impl Story {
    /// The story of the object with this id, or of everything; only events of these kinds, or of all.
    pub fn of(object: Option<String>, kinds: impl IntoIterator<Item = String>) -> Self {
        Self { object, kinds: kinds.into_iter().collect(), tasks: BTreeSet::new() }
    }

    /// Whether the story can be told from the middle: it need not know which tasks were made before.
    pub fn needs_no_past(&self) -> bool {
        self.object.is_none()
    }

    /// Whether an event belongs to the story. Must see every event, also before the first one wanted.
    pub fn includes(&mut self, event: &Event) -> bool {
        let Some(kind) = &event.kind else { return false };
        let about = self.is_about(kind);
        about && (self.kinds.is_empty() || self.kinds.contains(kind.name()))
    }

    fn is_about(&mut self, kind: &Kind) -> bool {
        let Some(object) = &self.object else { return true };
        let subjects = kind.subjects();
        let own = subjects.iter().any(|subject| subject == object);
        if let Kind::TaskCreated(task) = kind
            && task.service.to_string() == *object
        {
            self.tasks.insert(task.task.to_string());
        }
        own || subjects.iter().any(|subject| self.tasks.contains(subject))
    }
}
