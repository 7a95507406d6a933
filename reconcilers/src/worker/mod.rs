//! The worker's half of orchestration: what an agent does next for each assigned task.
//!
//! Absent by design: the executor, the disk and the network. [`TaskMachine`] takes assignments, results and instants, and returns
//! what to do; its driver (the agent, a simulator) does that. A driver calls [`TaskMachine::advance`], acts on the result, then
//! waits for the result of the call in progress, another assignment or the wake-up time, and calls it again. [`Reports`] holds
//! the unacknowledged reports of a node.

mod machine;
mod reports;
mod step;

pub use machine::{Advance, CallError, StepOutcome, Target, TaskMachine, Then};
pub use reports::{Batch, Reports};
pub use step::{Call, Retry, Situation, Step, step};
