//! Caches that reconcilers keep between turns, derived from the state; the leader owns them and lends them to each turn. They do
//! not affect decisions, only how long these take.

use crate::replicated::Fillings;
use crate::schedule::{Crowds, Nodes};
use crate::updates::Worklists;

/// Nodes for tasks, places for rollouts, places to fill or to release, and the imbalance of tasks.
#[derive(Debug, Default)]
pub struct Candidates {
    pub(crate) nodes: Nodes,
    pub(crate) rollouts: Worklists,
    pub(crate) fillings: Fillings,
    pub(crate) crowds: Crowds,
}
