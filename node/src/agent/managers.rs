//! Which manager an agent asks next. It knows those that it was started with and those that the last session named, keeps the
//! latter over a restart, and goes through all of them in an order of its own, so that agents spread over the managers, and those
//! that lose the same one do not all move to the same other.

use rand::seq::SliceRandom;

/// Most managers that are remembered: many times more than any cluster has.
const MANAGERS_MAX: usize = 64;

/// The managers' addresses.
#[derive(Debug)]
pub(super) struct Managers {
    /// The addresses that this node was started with: they may be the only ones that lead from here to there.
    first: Vec<String>,
    /// Those that a manager named.
    named: Vec<String>,
    /// Those that are asked in this round, the next one last.
    round: Vec<String>,
    /// The one that was asked last.
    present: String,
}

impl Managers {
    pub(super) fn new(first: &[String], remembered: Vec<String>) -> Self {
        Self { first: first.to_vec(), named: remembered, round: Vec::new(), present: String::new() }
    }

    /// The next one to ask.
    pub(super) fn pick(&mut self) -> String {
        if self.round.is_empty() {
            self.begin_round();
        }
        self.present = self.round.pop().unwrap_or_default();
        self.present.clone()
    }

    /// A manager said who the managers are. Whether that is news, to be remembered.
    pub(super) fn learn(&mut self, mut addrs: Vec<String>) -> bool {
        addrs.truncate(MANAGERS_MAX);
        // In whatever order they are named: each manager names itself first.
        addrs.sort_unstable();
        if addrs.is_empty() || addrs == self.named {
            return false;
        }
        self.named = addrs;
        self.begin_round();
        true
    }

    /// What a manager named last.
    pub(super) fn named(&self) -> &[String] {
        &self.named
    }

    /// All of them in a new order; the one that was asked last comes last.
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
