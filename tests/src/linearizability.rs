//! Checks whether the results that clients saw at registers are possible if each operation takes effect at one instant between
//! its call and its answer.
//!
//! The method is Wing and Gong's search with Lowe's memoization, and Porcupine's partitioning by key: operations are put in some
//! order, the earliest call first; if none fits, the search backtracks. A set of operations that led to the same value before is
//! not tried again.

use std::collections::{BTreeMap, BTreeSet};

use events::Timestamp;

/// One operation on a register, as its client knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Sets it.
    Write(u64),
    /// Sets it if it has a given value; the result is known only if it was answered.
    Swap {
        /// The expected value.
        from: u64,
        /// The new value.
        to: u64,
        /// Whether the value was set; `None` if unknown.
        done: Option<bool>,
    },
    /// Reads its value; `None` if it was never set.
    Read(Option<u64>),
}

/// One operation of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// The register.
    pub key: u64,
    /// The action.
    pub action: Action,
    /// The time of the call.
    pub called: Timestamp,
    /// The time of the answer; without an answer it may take effect at any time after its call, or never.
    pub answered: Option<Timestamp>,
}

/// Operations on one register that are not linearizable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The register.
    pub key: u64,
    /// All of its operations.
    pub operations: Vec<Operation>,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "no order of the operations on register {} explains what clients saw:", self.key)?;
        for Operation { action, called, answered, .. } in &self.operations {
            let answered = answered.map_or("never".to_owned(), |at| at.to_string());
            writeln!(f, "  {called} to {answered}: {action:?}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Violation {}

/// Checks a history of any number of registers, which are all unset at first.
///
/// # Errors
/// When the operations on a register are not linearizable.
pub fn check(history: &[Operation]) -> Result<(), Violation> {
    let mut by_key: BTreeMap<u64, Vec<Operation>> = BTreeMap::new();
    for operation in history {
        by_key.entry(operation.key).or_default().push(*operation);
    }
    for (key, operations) in by_key {
        if !Search::new(&operations).finds_an_order() {
            return Err(Violation { key, operations });
        }
    }
    Ok(())
}

/// The value after an action; `None` if the action is impossible with this value.
fn step(value: Option<u64>, action: Action) -> Option<Option<u64>> {
    match action {
        Action::Write(written) => Some(Some(written)),
        Action::Swap { from, to, done } => {
            let fits = value == Some(from);
            match done {
                Some(done) if done != fits => None,
                Some(_) | None => Some(if fits { Some(to) } else { value }),
            }
        }
        Action::Read(seen) => (seen == value).then_some(value),
    }
}

/// A call or an answer, in the order of time.
#[derive(Debug, Clone, Copy)]
struct Moment {
    operation: usize,
    is_answer: bool,
}

struct Search<'a> {
    operations: &'a [Operation],
    moments: Vec<Moment>,
    /// The remaining moments as a doubly linked list: the next and the previous one of each. The list's head is number 0.
    next: Vec<usize>,
    previous: Vec<usize>,
    /// The position of each operation's answer.
    answer_at: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(operations: &'a [Operation]) -> Self {
        // Moments at the same time overlap: calls come first. Operations without an answer end last.
        let mut moments: Vec<(Option<Timestamp>, Moment)> = Vec::with_capacity(2 * operations.len());
        for (operation, Operation { called, answered, .. }) in operations.iter().enumerate() {
            moments.push((Some(*called), Moment { operation, is_answer: false }));
            moments.push((*answered, Moment { operation, is_answer: true }));
        }
        moments.sort_by_key(|(at, moment)| (at.is_none(), *at, moment.is_answer));
        let moments: Vec<Moment> = moments.into_iter().map(|(_, moment)| moment).collect();
        let mut answer_at = vec![0; operations.len()];
        for (number, moment) in moments.iter().enumerate().filter(|(_, moment)| moment.is_answer) {
            answer_at[moment.operation] = number + 1;
        }
        let length = moments.len() + 1;
        let next = (0..length).map(|number| (number + 1) % length).collect();
        let previous = (0..length).map(|number| (number + length - 1) % length).collect();
        Self { operations, moments, next, previous, answer_at }
    }

    fn finds_an_order(mut self) -> bool {
        let mut value = None;
        let mut chosen = vec![0_u64; self.operations.len().div_ceil(64)];
        let mut tried = BTreeSet::new();
        // The choices, each with the value before it.
        let mut choices: Vec<(usize, Option<u64>)> = Vec::new();
        let mut at = self.next[0];
        while self.next[0] != 0 {
            let Moment { operation, is_answer } = self.moments[at - 1];
            if is_answer {
                // An operation that was answered by now must have been chosen before: backtrack.
                let Some((call, before)) = choices.pop() else { return false };
                value = before;
                let operation = self.moments[call - 1].operation;
                chosen[operation / 64] &= !(1 << (operation % 64));
                self.put_back(self.answer_at[operation]);
                self.put_back(call);
                at = self.next[call];
                continue;
            }
            let after = step(value, self.operations[operation].action);
            let mut with = chosen.clone();
            with[operation / 64] |= 1 << (operation % 64);
            match after {
                Some(after) if tried.insert((with.clone(), after)) => {
                    choices.push((at, value));
                    (value, chosen) = (after, with);
                    self.take_out(at);
                    self.take_out(self.answer_at[operation]);
                    at = self.next[0];
                }
                Some(_) | None => at = self.next[at],
            }
        }
        true
    }

    fn take_out(&mut self, number: usize) {
        let (previous, next) = (self.previous[number], self.next[number]);
        (self.next[previous], self.previous[next]) = (next, previous);
    }

    /// Undoes the last [`Search::take_out`] that was not undone yet.
    fn put_back(&mut self, number: usize) {
        let (previous, next) = (self.previous[number], self.next[number]);
        (self.next[previous], self.previous[next]) = (number, number);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(second: u64) -> Timestamp {
        Timestamp::from_unix_ns(0) + std::time::Duration::from_secs(second)
    }

    /// `w1` writes, `r1` and `r-` read, `s12+`, `s12-` and `s12?` swap 1 for 2; with the seconds of the call and the answer.
    fn operation((action, called, answered): &(&str, u64, u64)) -> Operation {
        let digit = |at: usize| u64::from(action.as_bytes()[at] - b'0');
        let parsed = match (&action[..1], &action[action.len() - 1..]) {
            ("w", _) => Action::Write(digit(1)),
            ("r", "-") => Action::Read(None),
            ("r", _) => Action::Read(Some(digit(1))),
            (_, last) => {
                let done = [("+", Some(true)), ("-", Some(false))].into_iter().find(|(sign, _)| *sign == last);
                Action::Swap { from: digit(1), to: digit(2), done: done.and_then(|(_, done)| done) }
            }
        };
        let answered = (*answered > 0).then(|| second(*answered));
        Operation { key: 1, action: parsed, called: second(*called), answered }
    }

    /// A description of a history, its operations with their start and end, and whether it is linearizable.
    type Case = (&'static str, &'static [(&'static str, u64, u64)], bool);

    #[test]
    fn histories_are_judged() {
        const NEVER: u64 = 0;
        let table: &[Case] = &[
            ("nothing", &[], true),
            ("one after the other", &[("r-", 1, 2), ("w1", 3, 4), ("r1", 5, 6)], true),
            ("a stale read", &[("w1", 1, 2), ("w2", 3, 4), ("r1", 5, 6)], false),
            ("a read of what was never written", &[("w1", 1, 2), ("r2", 3, 4)], false),
            ("a write that is lost", &[("w1", 1, 2), ("r-", 3, 4)], false),
            ("a read beside a write sees either", &[("w1", 1, 2), ("w2", 3, 9), ("r1", 4, 5)], true),
            ("but does not go back", &[("w1", 1, 2), ("w2", 3, 9), ("r2", 4, 5), ("r1", 6, 7)], false),
            ("what was never answered may have happened", &[("w1", 1, NEVER), ("r1", 3, 4)], true),
            ("or not", &[("w1", 1, NEVER), ("r-", 3, 4)], true),
            ("late", &[("w1", 1, NEVER), ("r-", 3, 4), ("r1", 5, 6)], true),
            ("but once", &[("w1", 1, NEVER), ("w2", 2, 3), ("r1", 5, 6), ("w3", 7, 8), ("r1", 9, 10)], false),
            ("two swaps of one value", &[("w1", 1, 2), ("s12+", 3, 9), ("s13+", 4, 8)], false),
            ("one of them", &[("w1", 1, 2), ("s12+", 3, 9), ("s13-", 4, 8), ("r2", 10, 11)], true),
            ("a refusal without a reason", &[("w1", 1, 2), ("s12-", 3, 4)], false),
            ("a swap of which nobody knows", &[("w1", 1, 2), ("s12?", 3, NEVER), ("r1", 4, 5), ("r2", 6, 7)], true),
            ("what overlaps in one instant", &[("w1", 1, 2), ("r-", 2, 3), ("r1", 2, 3)], true),
        ];
        for (case, history, expected) in table {
            let history: Vec<Operation> = history.iter().map(operation).collect();
            assert_eq!(check(&history).is_ok(), *expected, "{case}");
        }
        let elsewhere = [("w1", 1, 2), ("r-", 3, 4)].iter().map(operation).zip([1, 2]);
        let elsewhere: Vec<Operation> = elsewhere.map(|(operation, key)| Operation { key, ..operation }).collect();
        assert_eq!(check(&elsewhere), Ok(()), "registers do not concern each other");
    }

    /// Whether some order of all operations explains them, found by trying each.
    fn any_order(left: &[Operation], value: Option<u64>) -> bool {
        let is_first = |one: &Operation| left.iter().all(|other| other.answered.is_none_or(|at| one.called <= at));
        left.is_empty()
            || left.iter().enumerate().filter(|(_, one)| is_first(one)).any(|(number, one)| {
                let rest: Vec<Operation> =
                    left.iter().enumerate().filter(|(at, _)| *at != number).map(|(_, o)| *o).collect();
                step(value, one.action).is_some_and(|value| any_order(&rest, value))
            })
    }

    proptest! {
        #[test]
        fn the_search_finds_an_order_exactly_where_there_is_one(
            drawn in prop::collection::vec((0_u8..4, 0_u64..3, 0_u64..3, 1_u64..12, 0_u64..6), 0..7)
        ) {
            let history: Vec<Operation> = drawn.into_iter().map(|(kind, one, other, called, length)| {
                let action = match kind {
                    0 => Action::Write(one),
                    1 => Action::Read((one > 0).then_some(one)),
                    2 => Action::Swap { from: one, to: other, done: Some(length % 2 == 0) },
                    _ => Action::Swap { from: one, to: other, done: None },
                };
                let answered = (length > 0).then(|| second(called + length));
                Operation { key: 1, action, called: second(called), answered }
            }).collect();
            prop_assert_eq!(check(&history).is_ok(), any_order(&history, None), "{:?}", history);
        }
    }
}
