//! The RPC schema that `swarmd` and `swarmctl` share, and a client for the control socket.

/// The messages and services of `node/wire/proto`, as tonic and prost make them.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("swarmlog.wire.v1");
}

mod client;
pub mod cloudevents;
mod codec;
mod freshness;
mod json;
mod passphrase;
pub mod plan;
mod redacted_debug;
pub mod redaction;
mod refusal;

pub use client::{ConnectError, DEFAULT_SOCKET, Timeouts, channel, connect, connect_with, control_client, is_silence};
pub use freshness::Freshness;
pub use passphrase::read_passphrase;
