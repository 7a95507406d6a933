//! Read-only views of a state, for dispatchers, operators and auditors.

pub mod assignments;
pub mod awaited;
pub mod difference;
pub mod history;
pub mod objects;
pub mod overview;
pub mod progress;
pub mod quorum;
pub mod specs;
pub mod terms;
