//! Stub.

pub mod worker;
