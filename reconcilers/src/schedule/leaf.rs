//! The nodes with the same values of all preferred labels, and which of them is best.
//!
//! A better node has fewer recent failures of the service (once there are many); then more of what the tasks prefer to be near or
//! apart from; then, to spread, fewer tasks of the service; then the smaller score of the strategy. Ties go to the smaller id, so that
//! the same state gives the same choice everywhere.
//!
//! Most nodes have neither failures nor tasks of the service, nor anything of which an affinity speaks: they are taken from the order
//! that the layout keeps, as far as they are needed. Only those that have are ranked for each group again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, btree_set};

use events::{NodeId, TaskId};

use super::filters::Filters;
use super::layout::Rank;
use super::order::{Order, mixed, scattered};
use super::run::Run;

/// Points of the circle that a task at random has, of which the one counts that is nearest to a node: with 21 the most frequent
/// node is chosen 5 % more often than the average one (Appleton and O'Reilly, "Multi-probe consistent hashing").
pub(super) const POINTS: u64 = 21;

/// Rank of a node, the smallest first: failures, what it lacks of what is preferred, tasks of the service where these count, its
/// score, its id, and its number.
pub(super) type Entry = Reverse<(u64, u64, u64, u64, NodeId, usize)>;

/// What the nodes are looked at with.
pub(super) struct Look<'w, 'r, 'a> {
    /// Failures of the service that count, by the number of the node.
    pub failures: &'w BTreeMap<usize, u64>,
    pub filters: &'w Filters<'a>,
    pub run: &'w mut Run<'r>,
}

/// How good a node is.
pub(super) fn rank(number: usize, dislike: u64, look: &mut Look<'_, '_, '_>) -> Entry {
    let failures = look.failures.get(&number).copied().unwrap_or(0);
    let of_service = match look.filters.order() {
        Order::Pack(_) => 0,
        Order::Spread | Order::Random => look.run.active_of_service(number),
    };
    let lacks = dislike + look.filters.affinities().lack(number, look.run);
    let candidate = look.run.pool.get(number);
    let score = look.filters.order().score(candidate);
    Reverse((failures, lacks, of_service, score, candidate.id, number))
}

impl Look<'_, '_, '_> {
    /// Whether a node is found in the order of the layout: nothing is particular about it.
    fn is_ordinary(&mut self, number: usize) -> bool {
        let counts_tasks = self.filters.order() != Order::Random;
        let has_tasks = counts_tasks && self.run.active_of_service(number) > 0;
        let is_known = has_tasks || self.failures.contains_key(&number);
        !is_known && !self.filters.affinities().concern(number, self.run)
    }

    fn fits(&mut self, number: usize) -> bool {
        self.filters.judge_again(number, self.run).is_ok()
    }
}

pub(super) struct Leaf<'l> {
    all: &'l BTreeSet<Rank>,
    /// Ordinary nodes, best first.
    order: btree_set::Range<'l, Rank>,
    /// Nodes with a smaller score are full.
    first: u64,
    /// Whether ordinary nodes will not do.
    limited: bool,
    /// The best ordinary node that will do.
    unused: Option<Rank>,
    /// The others that will do.
    used: BinaryHeap<Entry>,
}

impl<'l> Leaf<'l> {
    /// The nodes of a leaf; those that are not ordinary are still to be put in.
    pub(super) fn new(all: &'l BTreeSet<Rank>, filters: &Filters<'_>, run: &mut Run<'_>) -> Self {
        let first = filters.order().first(filters.reserved(), run.pool.most());
        let limited = filters.affinities().is_limited(run);
        Self { all, order: all.range(..), first, limited, unused: None, used: BinaryHeap::new() }
    }

    pub(super) fn has_room(&self) -> bool {
        self.unused.is_some() || !self.used.is_empty()
    }

    /// The best node, and what makes it so. Only where the order is that of an even spread: others have no best node for all tasks.
    pub(super) fn best(&self, filters: &Filters<'_>) -> Option<Entry> {
        let ordinary = self.unused.map(|(dislike, score, id, number)| {
            Reverse((0, dislike + filters.affinities().lack_of_others(), 0, score, id, number))
        });
        self.used.peek().copied().into_iter().chain(ordinary).max()
    }

    /// Takes the best node for a task out.
    pub(super) fn next(&mut self, task: TaskId, look: &mut Look<'_, '_, '_>) -> Option<usize> {
        let Some((dislike, score, id, number)) = self.unused else { return self.pop() };
        let lacks = dislike + look.filters.affinities().lack_of_others();
        let is_random = look.filters.order() == Order::Random;
        let ordinary = Reverse(if is_random { (0, lacks, 0, 0, id, 0) } else { (0, lacks, 0, score, id, number) });
        if self.used.peek().is_some_and(|used| *used > ordinary) {
            return self.pop();
        }
        if is_random {
            return Some(self.at_random(task, dislike, look).unwrap_or(number));
        }
        self.advance(look);
        Some(number)
    }

    fn pop(&mut self) -> Option<usize> {
        self.used.pop().map(|Reverse((_, _, _, _, _, number))| number)
    }

    /// Puts a node in on which one more task fits, unless it is found in the order.
    pub(super) fn put(&mut self, number: usize, dislike: u64, look: &mut Look<'_, '_, '_>) {
        if !self.limited && look.is_ordinary(number) {
            return;
        }
        self.used.push(rank(number, dislike, look));
    }

    /// A task went to a node: if that was the best ordinary one, it may be so no longer.
    pub(super) fn check(&mut self, number: usize, look: &mut Look<'_, '_, '_>) {
        let is_unused = self.unused.is_some_and(|(_, _, _, unused)| unused == number);
        if is_unused && !(look.is_ordinary(number) && look.fits(number)) {
            self.advance(look);
        }
    }

    /// Finds the next ordinary node that will do. Full nodes, which come first where tasks are packed, are passed over at once.
    pub(super) fn advance(&mut self, look: &mut Look<'_, '_, '_>) {
        self.unused = None;
        while let Some(rank) = self.order.next().copied().filter(|_| !self.limited) {
            let (dislike, score, _, number) = rank;
            if score < self.first {
                self.order = self.all.range((dislike, self.first, NodeId::default(), 0)..);
            } else if look.is_ordinary(number) && look.fits(number) {
                self.unused = Some(rank);
                return;
            }
        }
    }

    /// The node that is nearest to one of the task's points, among those that come after the points on the circle and will do, and
    /// have as much of what is preferred as the best.
    fn at_random(&self, task: TaskId, dislike: u64, look: &mut Look<'_, '_, '_>) -> Option<usize> {
        let points = (0..POINTS).map(|point| mixed(scattered(task) ^ point));
        let mut near: Vec<(u64, usize)> = points.filter_map(|point| self.after(dislike, point)).collect();
        near.sort_unstable();
        near.into_iter().map(|(_, number)| number).find(|number| look.is_ordinary(*number) && look.fits(*number))
    }

    /// The first node after a point of the circle, and how far it is.
    fn after(&self, dislike: u64, point: u64) -> Option<(u64, usize)> {
        let from = |point| (dislike, point, NodeId::default(), 0);
        let after = self.all.range(from(point)..).next().filter(|(other, _, _, _)| *other == dislike);
        let after = after.or_else(|| self.all.range(from(0)..).next());
        after.map(|(_, score, _, number)| (score.wrapping_sub(point), *number))
    }
}
