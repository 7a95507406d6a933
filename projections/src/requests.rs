//! Commands that took effect, so that a repeated one gets the first answer instead of a second effect.

use std::sync::Arc;

use events::{ActorRecord, CommandId, CommandRecord, Id};
use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::Stamp;

/// Most commands remembered; the oldest is forgotten first. At a thousand commands a second this is a minute.
pub const REQUESTS_MAX: usize = 65_536;

/// Who asked (by hash) and the id that they gave.
pub(crate) type Key = (u64, CommandId);

/// The answers of the last commands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Requests {
    answers: OrdMap<Key, Answer>,
    order: Vector<Key>,
}

/// What a command was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Index of the frame that holds its events.
    pub index: u64,
    /// Id of the object that was made or changed.
    pub subject: Option<Arc<str>>,
}

impl Requests {
    /// The answer that this actor got for this command, if it took effect not too long ago.
    pub fn answer(&self, actor: &ActorRecord, id: CommandId) -> Option<&Answer> {
        self.answers.get(&key(actor, id))
    }

    /// Remembers the commands of a frame. A zero id is no id: reports of nodes repeat without harm.
    pub(crate) fn remember(&mut self, command: &CommandRecord, at: &Stamp) {
        if command.id == CommandId::default() {
            return;
        }
        let answer = Answer { index: at.index, subject: command.subject.as_deref().map(Arc::from) };
        self.insert(key(&command.actor, command.id), answer);
    }

    /// The answers, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &Answer)> {
        self.order.iter().filter_map(|key| Some((*key, self.answers.get(key)?)))
    }

    /// Remembers an answer as the newest.
    pub(crate) fn insert(&mut self, key: Key, answer: Answer) {
        if self.answers.insert(key, answer).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > REQUESTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
        }
    }

    /// The newest command remembered, which stands for all of them in the state hash.
    pub(crate) fn newest(&self) -> Option<(u64, u128)> {
        self.order.last().map(|(actor, id)| (*actor, id.bits()))
    }
}

fn key(actor: &ActorRecord, id: CommandId) -> Key {
    let kind: i32 = actor.kind;
    (xxh3_64(format!("{kind} {}", actor.subject).as_bytes()), id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::{ActorKind, Timestamp};

    fn record(subject: &str, id: u128) -> CommandRecord {
        CommandRecord {
            id: CommandId::from_bits(id),
            kind: "service.create".to_owned(),
            actor: ActorRecord { kind: ActorKind::Operator.into(), subject: subject.to_owned(), via: None },
            subject: Some("s".to_owned()),
            ..Default::default()
        }
    }

    #[test]
    fn the_oldest_is_forgotten_at_the_bound() {
        let mut requests = Requests::default();
        let at = |index| Stamp { index, time: Timestamp::default() };
        for id in 1..=REQUESTS_MAX as u128 + 1 {
            requests.remember(&record("root", id), &at(id as u64));
        }
        let actor = record("root", 1).actor;
        assert_eq!(requests.answer(&actor, CommandId::from_bits(1)), None);
        assert_eq!(requests.answer(&actor, CommandId::from_bits(2)).map(|answer| answer.index), Some(2));
    }

    #[test]
    fn another_actor_with_the_same_id_is_another_command() {
        let mut requests = Requests::default();
        requests.remember(&record("root", 7), &Stamp { index: 1, time: Timestamp::default() });
        assert!(requests.answer(&record("root", 7).actor, CommandId::from_bits(7)).is_some());
        assert!(requests.answer(&record("eve", 7).actor, CommandId::from_bits(7)).is_none());
    }
}
