//! The nodes with the same values of all preferred labels, and which of them is best.
//!
//! A better node has fewer recent failures of the service (once there are many); then, to spread, fewer tasks of the service; then
//! the smaller score of the strategy. Ties go to the smaller id, so that the same state gives the same choice everywhere.
//!
//! Most nodes have neither failures nor tasks of the service: they are taken from the order that the layout keeps, as far as
//! they are needed. Only those that have are ranked for each group again.

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

/// Rank of a node, the smallest first: failures, tasks of the service where these count, its score, its id, and its number.
type Entry = Reverse<(u64, u64, u64, NodeId, usize)>;

/// Failures of the service that count, by the number of the node.
pub(super) type Failures = BTreeMap<usize, u64>;

pub(super) struct Leaf<'l> {
    all: &'l BTreeSet<Rank>,
    /// Nodes that may be new to the service, best first.
    order: btree_set::Range<'l, Rank>,
    /// The best of them that will do.
    unused: Option<Rank>,
    /// The others that will do: those with failures of the service, and unless nodes are chosen at random with tasks of it.
    used: BinaryHeap<Entry>,
}

impl<'l> Leaf<'l> {
    /// The nodes of a leaf; those with tasks or failures of the service are still to be put in.
    pub(super) fn new(all: &'l BTreeSet<Rank>, filters: &Filters<'_>, run: &Run<'_>) -> Self {
        let first = filters.order().first(filters.reserved(), run.pool.most());
        Self { all, order: all.range((first, NodeId::default(), 0)..), unused: None, used: BinaryHeap::new() }
    }

    pub(super) fn has_room(&self) -> bool {
        self.unused.is_some() || !self.used.is_empty()
    }

    /// Takes the best node for a task out.
    pub(super) fn next(
        &mut self,
        task: TaskId,
        failures: &Failures,
        filters: &Filters<'_>,
        run: &mut Run<'_>,
    ) -> Option<usize> {
        let Some((score, id, number)) = self.unused else {
            return self.used.pop().map(|Reverse((_, _, _, _, number))| number);
        };
        if filters.order() == Order::Random {
            return Some(self.at_random(task, failures, filters, run).unwrap_or(number));
        }
        match self.used.peek() {
            Some(used) if *used > Reverse((0, 0, score, id, number)) => {
                self.used.pop().map(|Reverse((_, _, _, _, number))| number)
            }
            Some(_) | None => {
                self.advance(failures, filters, run);
                Some(number)
            }
        }
    }

    /// Puts a node in on which one more task fits.
    pub(super) fn put(&mut self, number: usize, failures: &Failures, filters: &Filters<'_>, run: &Run<'_>) {
        let failures = failures.get(&number).copied().unwrap_or(0);
        let of_service = match filters.order() {
            Order::Spread => run.active_of_service(number),
            Order::Pack(_) => 0,
            // It is found like any other node.
            Order::Random if failures == 0 => return,
            Order::Random => 0,
        };
        let candidate = run.pool.get(number);
        let score = filters.order().score(candidate);
        self.used.push(Reverse((failures, of_service, score, candidate.id, number)));
    }

    /// No more tasks fit on a node.
    pub(super) fn close(&mut self, number: usize, failures: &Failures, filters: &Filters<'_>, run: &mut Run<'_>) {
        if self.unused.is_some_and(|(_, _, unused)| unused == number) {
            self.advance(failures, filters, run);
        }
    }

    /// Finds the next node that is new to the service and will do. At random, the same as before may do again.
    pub(super) fn advance(&mut self, failures: &Failures, filters: &Filters<'_>, run: &mut Run<'_>) {
        let is_random = filters.order() == Order::Random;
        self.unused = self.order.by_ref().copied().find(|(_, _, number)| {
            let is_new = is_random || run.active_of_service(*number) == 0;
            is_new && !failures.contains_key(number) && filters.judge_again(*number, run).is_ok()
        });
    }

    /// The node that is nearest to one of the task's points, among those that come after the points on the circle and will do.
    fn at_random(&self, task: TaskId, failures: &Failures, filters: &Filters<'_>, run: &mut Run<'_>) -> Option<usize> {
        let mut near: Vec<(u64, usize)> =
            (0..POINTS).filter_map(|point| self.after(mixed(scattered(task) ^ point))).collect();
        near.sort_unstable();
        let mut numbers = near.into_iter().map(|(_, number)| number);
        numbers.find(|number| !failures.contains_key(number) && filters.judge_again(*number, run).is_ok())
    }

    /// The first node after a point of the circle, and how far it is.
    fn after(&self, point: u64) -> Option<(u64, usize)> {
        let after = self.all.range((point, NodeId::default(), 0)..).next().or_else(|| self.all.first());
        after.map(|(score, _, number)| (score.wrapping_sub(point), *number))
    }
}
