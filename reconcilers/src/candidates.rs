//! What reconcilers keep between turns: caches of the state, which whoever leads owns and lends to each turn. What is decided does
//! not depend on them, only how long that takes.

use crate::replicated::Fillings;
use crate::schedule::{Crowds, Nodes};
use crate::updates::Worklists;

/// Nodes for tasks, places for rollouts, places to fill or to give up, and how unevenly tasks are spread.
#[derive(Debug, Default)]
pub struct Candidates {
    pub(crate) nodes: Nodes,
    pub(crate) rollouts: Worklists,
    pub(crate) fillings: Fillings,
    pub(crate) crowds: Crowds,
}
