//! Chooses the manager that an agent contacts next. The candidates are the addresses of the configuration and those that the
//! last session announced; the latter survive a restart. They are tried in random order, so that agents spread over the
//! managers, and agents that lose the same manager do not all move to the same other one.

use rand::seq::SliceRandom;

/// Maximum number of managers that are remembered: many times more than any cluster has.
const MANAGERS_MAX: usize = 64;

/// The managers' addresses.
#[derive(Debug)]
pub(super) struct Managers {
    /// The configured addresses: they may be the only ones reachable from this node.
    first: Vec<String>,
    /// The addresses that a manager announced.
    named: Vec<String>,
    /// The managers still to try in this round, the next one last.
    round: Vec<String>,
    /// The manager that was tried last.
    present: String,
}

impl Managers {
    pub(super) fn new(first: &[String], remembered: Vec<String>) -> Self {
        Self { first: first.to_vec(), named: remembered, round: Vec::new(), present: String::new() }
    }

    /// The next manager to try.
    pub(super) fn pick(&mut self) -> String {
        if self.round.is_empty() {
            self.begin_round();
        }
        self.present = self.round.pop().unwrap_or_default();
        self.present.clone()
    }

    /// Takes the addresses that a manager announced. Returns whether they changed and are to be saved.
    pub(super) fn learn(&mut self, mut addrs: Vec<String>) -> bool {
        addrs.truncate(MANAGERS_MAX);
        // Sorted, because each manager lists itself first.
        addrs.sort_unstable();
        if addrs.is_empty() || addrs == self.named {
            return false;
        }
        self.named = addrs;
        self.begin_round();
        true
    }

    /// The addresses that a manager announced last.
    pub(super) fn named(&self) -> &[String] {
        &self.named
    }

    /// Starts a round: all managers in a new random order, with the one tried last at the end.
    fn begin_round(&mut self) {
        let others = self.first.iter().filter(|addr| !self.named.contains(addr));
        self.round = self.named.iter().chain(others).filter(|addr| **addr != self.present).cloned().collect();
        self.round.shuffle(&mut rand::rng());
        let knows_present = self.named.contains(&self.present) || self.first.contains(&self.present);
        if knows_present {
            self.round.insert(0, self.present.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn addrs(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn every_manager_is_asked_before_one_is_asked_again() {
        let mut managers = Managers::new(&addrs(&["a", "b"]), vec![]);
        let first = managers.pick();
        assert_ne!(managers.pick(), first);
        assert_eq!(managers.pick(), first, "the last one is the last in the next round as well");
        assert!(managers.learn(addrs(&["c", "a", "d"])));
        assert!(!managers.learn(addrs(&["d", "c", "a"])), "the same ones are no news");
        assert!(!managers.learn(vec![]), "a manager that names nobody says nothing");
        let all: BTreeSet<String> = (0..4).map(|_| managers.pick()).collect();
        assert_eq!(all, ["a", "b", "c", "d"].map(str::to_owned).into());
    }

    #[test]
    fn after_a_restart_the_managers_that_were_named_are_asked_too_and_one_that_is_lost_last() {
        let mut managers = Managers::new(&addrs(&["a"]), addrs(&["b", "c"]));
        let lost = managers.pick();
        let others: Vec<String> = (0..2).map(|_| managers.pick()).collect();
        assert!(!others.contains(&lost) && others[0] != others[1], "{lost}: {others:?}");
        assert_eq!(managers.named(), addrs(&["b", "c"]));
    }

    #[test]
    fn agents_that_lose_the_same_manager_spread_over_the_others() {
        let next = || {
            let mut managers = Managers::new(&addrs(&["a"]), vec![]);
            managers.pick();
            managers.learn(addrs(&["a", "b", "c"]));
            managers.pick()
        };
        let moved: BTreeSet<String> = (0..64).map(|_| next()).collect();
        assert_eq!(moved, ["b", "c"].map(str::to_owned).into());
    }
}
