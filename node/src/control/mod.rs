//! What a manager answers, in plain types and free of transports: gRPC and the simulated cluster's socket translate it.
//!
//! Messages of the wire schema serve as plain types: they are data, made by prost, and a second set of the same shapes would
//! only be copied from one to the other. Clients, servers, statuses and streams of tonic have no place here.

pub mod lists;
pub mod views;

mod select;
