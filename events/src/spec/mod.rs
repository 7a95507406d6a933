//! Interpretation of users' specs: defaults filled in, constraints and generic resources parsed, and the rules shared by clients
//! and managers.

pub mod affinity;
mod capability;
pub mod constraint;
pub mod defaults;
mod empty;
mod file;
pub mod generic;
mod hostname;
pub mod limits;
mod pattern;
pub mod template;
mod timetable;
mod version;

pub use capability::{CAPABILITY_HINT, is_capability};
pub use constraint::{Constraint, NodeFacts};
pub use defaults::{Autoscaling, Completions, Rebalancing, Restart, Rollout};
pub use file::{ConfigKey, FileReference, secret_key};
pub use hostname::{CONTAINER_HOSTNAME_HINT, is_container_hostname};
pub use timetable::{SCHEDULE_HINT, Timetable, TimetableError, ZONE_HINT};
