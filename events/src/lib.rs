//! What happened: the vocabulary of Swarmlog.
//!
//! Ids, time, specs and events, and the frame that carries them through the log. The `.proto` files beside this crate are
//! the one schema of all of it; the modules here add what a schema cannot say. Depends on none of our crates and does no
//! I/O, reads no clock and draws no randomness.

pub mod id;
pub mod time;

pub mod spec;

pub mod catalogue;
pub mod certificate;
pub mod codec;
pub mod escape;
pub mod frame;
mod json;
mod redacted_debug;
pub mod redaction;

/// The messages of `events/proto`, as prost makes them.
#[allow(missing_docs, clippy::all)]
mod schema {
    include!(concat!(env!("OUT_DIR"), "/swarmlog.v1.rs"));
}

pub use id::{
    ClusterId, CommandId, ConfigId, Id, IdGenerator, NodeId, OperatorId, SecretId, ServiceId, SessionId, SinkId, TaskId,
};
pub use json::{Named, serialize_name, serialize_optional_hex, serialize_optional_name};
pub use redacted_debug::{Hidden, SecretBytes, SecretText};
pub use schema::*;
pub use time::{Duration, Timestamp};

/// What kind of fact an [`Event`] states: one variant for each event of the catalogue.
pub use schema::event::{Cause, Kind};
