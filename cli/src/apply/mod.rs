//! Applies several objects at once: compares the desired objects with the existing ones and changes only what differs. All
//! changes belong to one operation.

pub mod document;
mod order;
mod plan;
mod planned;
mod run;
mod sources;

pub use plan::{OwnedFile, Wanted, WantedConfig, WantedSecret, files_of_stack, in_stack, plan, plan_change};
pub use planned::carry_out;
pub use run::{report, run};
pub use sources::Sources;

use events::ServiceSpec;

use crate::wait::Goal;

/// What to wait for after a service was changed.
pub fn goal(present: &ServiceSpec, spec: &ServiceSpec) -> Goal {
    let scaled = present.replicas() != spec.replicas() && ServiceSpec { mode: spec.mode, ..present.clone() } == *spec;
    if scaled { Goal::Count } else { Goal::Spec }
}
