//! What users ask for, read with care: defaults filled in, constraints and generic resources parsed.

pub mod constraint;
pub mod defaults;
pub mod generic;
pub mod template;

pub use constraint::{Constraint, NodeFacts};
pub use defaults::{Restart, Rollout};
