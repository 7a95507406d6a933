//! The worker's half of orchestration: what an agent does next for each task that it is given.
//!
//! Absent by design: the executor, the disk and the network. [`TaskMachine`] takes assignments, results and instants, and
//! gives actions; whoever drives it (the agent's pump, a simulator) acts on them. A driver asks [`TaskMachine::next`]
//! again and again until it says [`Action::Sleep`], then waits for the result of the call under way, another assignment
//! or the wake-up time. [`Reports`] holds what a node has to tell the managers until they have it.

mod machine;
mod reports;
mod step;

pub use machine::{Action, Failure, StepOutcome, TaskMachine};
pub use reports::{Batch, Reports};
pub use step::{Call, Retry, Situation, Step, step};
