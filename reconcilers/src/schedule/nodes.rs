//! The scheduler's cache of nodes between turns.

use projections::Cluster;

use super::layout::Layouts;
use super::pool::Pool;

/// The nodes, and the orders in which they are chosen.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    pub(super) pool: Pool,
    pub(super) layouts: Layouts,
}

impl Nodes {
    /// Updates the nodes from a state.
    pub(super) fn follow(&mut self, cluster: &Cluster) {
        if self.pool.is_mostly_gone() {
            *self = Self::default();
        }
        self.pool.follow(cluster);
    }
}
