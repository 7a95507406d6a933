//! The worker's half of orchestration: what an agent does next for each task that it is given.
//!
//! Absent by design: the executor, the disk and the network. [`TaskMachine`] takes assignments, results and instants, and
//! says what to do; whoever drives it (the agent, a simulator) does that. A driver asks [`TaskMachine::advance`], acts on its
//! answer, then waits for the result of the call under way, another assignment or the wake-up time, and asks again. [`Reports`] holds what a node has to tell the managers until they have it.

mod machine;
mod reports;
mod step;

pub use machine::{Advance, CallError, StepOutcome, Target, TaskMachine, Then};
pub use reports::{Batch, Reports};
pub use step::{Call, Retry, Situation, Step, step};
