//! The nodes with the same values of all preferred labels, and their ranking.
//!
//! A better node has fewer recent failures of the service (once there are many); then fewer unmet preferred affinities; then,
//! when spreading, fewer tasks of the service; then the smaller score of the strategy. Ties are broken by the smaller id, so that
//! the same state gives the same choice everywhere.
//!
//! Most nodes have neither failures nor tasks of the service, nor are they affected by an affinity: these ordinary nodes are
//! taken from the order of the layout, as far as they are needed. Only the others are ranked again for each group.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, btree_set};

use events::{NodeId, TaskId};

use super::filters::Filters;
use super::layout::Rank;
use super::order::{Order, mixed, scattered};
use super::run::Run;

/// Number of points on the circle for each task with random placement; the one nearest to a node counts: with 21 points the most
/// frequent node is chosen 5 % more often than the average one (Appleton and O'Reilly, "Multi-probe consistent hashing").
pub(super) const POINTS: u64 = 21;

/// Rank of a node, the smallest first: failures, the weight of unmet preferences, tasks of the service if these count, its score,
/// its id, and its number.
pub(super) type Entry = Reverse<(u64, u64, u64, u64, NodeId, usize)>;

/// The context of ranking.
pub(super) struct Look<'w, 'r, 'a> {
    /// Failures of the service that count, by node number.
    pub failures: &'w BTreeMap<usize, u64>,
    pub filters: &'w Filters<'a>,
    pub run: &'w mut Run<'r>,
}

/// The rank of a node.
pub(super) fn rank(number: usize, penalty: u64, look: &mut Look<'_, '_, '_>) -> Entry {
    let failures = look.failures.get(&number).copied().unwrap_or(0);
    let of_service = match look.filters.order() {
        Order::Pack(_) => 0,
        Order::Spread | Order::Random => look.run.active_of_service(number),
    };
    let lacks = penalty + look.filters.affinities().unmet_weight(number, look.run);
    let candidate = look.run.pool.get(number);
    let score = look.filters.order().score(candidate);
    Reverse((failures, lacks, of_service, score, candidate.id, number))
}

impl Look<'_, '_, '_> {
    /// Whether a node is ordinary, so that it is found in the order of the layout.
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
    /// Whether ordinary nodes are not suitable.
    limited: bool,
    /// The best suitable ordinary node.
    unused: Option<Rank>,
    /// The other suitable nodes.
    used: BinaryHeap<Entry>,
}

impl<'l> Leaf<'l> {
    /// The nodes of a leaf; those that are not ordinary must still be added.
    pub(super) fn new(all: &'l BTreeSet<Rank>, filters: &Filters<'_>, run: &mut Run<'_>) -> Self {
        let first = filters.order().first(filters.reserved(), run.pool.most());
        let limited = filters.affinities().is_limited(run);
        Self { all, order: all.range(..), first, limited, unused: None, used: BinaryHeap::new() }
    }

    pub(super) fn has_room(&self) -> bool {
        self.unused.is_some() || !self.used.is_empty()
    }

    /// The best node with its rank. Only for spreading: other strategies have no best node for all tasks.
    pub(super) fn best(&self, filters: &Filters<'_>) -> Option<Entry> {
        let ordinary = self.unused.map(|(penalty, score, id, number)| {
            Reverse((0, penalty + filters.affinities().unmet_weight_of_ordinary(), 0, score, id, number))
        });
        self.used.peek().copied().into_iter().chain(ordinary).max()
    }

    /// Removes and returns the best node for a task.
    pub(super) fn next(&mut self, task: TaskId, look: &mut Look<'_, '_, '_>) -> Option<usize> {
        let Some((penalty, score, id, number)) = self.unused else { return self.pop() };
        let lacks = penalty + look.filters.affinities().unmet_weight_of_ordinary();
        let is_random = look.filters.order() == Order::Random;
        let ordinary = Reverse(if is_random { (0, lacks, 0, 0, id, 0) } else { (0, lacks, 0, score, id, number) });
        if self.used.peek().is_some_and(|used| *used > ordinary) {
            return self.pop();
        }
        if is_random {
            return Some(self.at_random(task, penalty, look).unwrap_or(number));
        }
        self.advance(look);
        Some(number)
    }

    fn pop(&mut self) -> Option<usize> {
        self.used.pop().map(|Reverse((_, _, _, _, _, number))| number)
    }

    /// Adds a node with room for one more task, unless it is found in the order.
    pub(super) fn put(&mut self, number: usize, penalty: u64, look: &mut Look<'_, '_, '_>) {
        if !self.limited && look.is_ordinary(number) {
            return;
        }
        self.used.push(rank(number, penalty, look));
    }

    /// A task was placed on a node: if that was the best ordinary one, it may no longer be.
    pub(super) fn check(&mut self, number: usize, look: &mut Look<'_, '_, '_>) {
        let is_unused = self.unused.is_some_and(|(_, _, _, unused)| unused == number);
        if is_unused && !(look.is_ordinary(number) && look.fits(number)) {
            self.advance(look);
        }
    }

    /// Finds the next suitable ordinary node. Full nodes, which come first when tasks are packed, are skipped at once.
    pub(super) fn advance(&mut self, look: &mut Look<'_, '_, '_>) {
        self.unused = None;
        while let Some(rank) = self.order.next().copied().filter(|_| !self.limited) {
            let (penalty, score, _, number) = rank;
            if score < self.first {
                self.order = self.all.range((penalty, self.first, NodeId::default(), 0)..);
            } else if look.is_ordinary(number) && look.fits(number) {
                self.unused = Some(rank);
                return;
            }
        }
    }

    /// The node nearest to one of the task's points, among the suitable ones that come after the points on the circle and meet as
    /// many preferences as the best.
    fn at_random(&self, task: TaskId, penalty: u64, look: &mut Look<'_, '_, '_>) -> Option<usize> {
        let points = (0..POINTS).map(|point| mixed(scattered(task) ^ point));
        let mut near: Vec<(u64, usize)> = points.filter_map(|point| self.after(penalty, point)).collect();
        near.sort_unstable();
        near.into_iter().map(|(_, number)| number).find(|number| look.is_ordinary(*number) && look.fits(*number))
    }

    /// The first node after a point of the circle, and its distance.
    fn after(&self, penalty: u64, point: u64) -> Option<(u64, usize)> {
        let from = |point| (penalty, point, NodeId::default(), 0);
        let after = self.all.range(from(point)..).next().filter(|(other, _, _, _)| *other == penalty);
        let after = after.or_else(|| self.all.range(from(0)..).next());
        after.map(|(_, score, _, number)| (score.wrapping_sub(point), *number))
    }
}
