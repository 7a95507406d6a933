//! How messages that carry secrets print: everything but the secrets, wherever in the program somebody writes `{:?}`. And how
//! they go: those that are nothing but a secret are wiped from memory when they are dropped.
//!
//! Copies that nothing here can wipe: the buffers in which gRPC, TLS and the engine's client encode and decode messages, an
//! entry's bytes on their way through raft and the log, and plain variables of a spec, which are no secrets. Core dumps are
//! off for their sake.

use std::fmt;

use crate::schema::{ContainerSpec, VolatilePayload};

/// Stands for a secret in what [`redacted_debug!`](crate::redacted_debug) prints.
pub struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A text that is never printed, and is wiped from memory when it is dropped. Serialized it is in clear: only what managers say
/// to each other over mutual TLS may be.
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SecretText(pub String);

/// Bytes that are never printed, and are wiped from memory when they are dropped. Serialized they are in clear, like [`SecretText`].
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SecretBytes(pub Vec<u8>);

/// Wipes these fields of a type when it is dropped.
#[macro_export]
macro_rules! wiped {
    ($type:ident [$($field:tt),+]) => {
        impl ::core::ops::Drop for $type {
            fn drop(&mut self) {
                $(::zeroize::Zeroize::zeroize(&mut self.$field);)+
            }
        }

        impl ::zeroize::ZeroizeOnDrop for $type {}
    };
}

wiped! { SecretText [0] }
wiped! { SecretBytes [0] }

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hidden.fmt(f)
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hidden.fmt(f)
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Implements `Debug` for a message whose derived one is left out by the build script (`skip_debug`). Every field has to be
/// named, so that a new one is shown or hidden by choice.
#[macro_export]
macro_rules! redacted_debug {
    ($message:ident shows [$($shown:ident),*] hides [$($hidden:ident),+]) => {
        impl ::core::fmt::Debug for $message {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                let Self { $($shown,)* $($hidden: _,)+ } = self;
                f.debug_struct(stringify!($message))
                    $(.field(stringify!($shown), $shown))*
                    $(.field(stringify!($hidden), &$crate::Hidden))+
                    .finish()
            }
        }
    };
}

redacted_debug! {
    ContainerSpec
    shows [
        image, labels, command, args, hostname, dir, user, groups, privileges, init, tty, open_stdin, read_only,
        stop_signal, mounts, stop_grace_period_ns, registry_auth_key, hosts, dns, healthcheck, isolation, pids_limit,
        sysctls, capability_add, capability_drop, ulimits, oom_score_adj, env_secrets, configs, devices,
        device_requests, device_cgroup_rules, privileged, shm_size_bytes, cgroup_parent, pull_policy, secrets, network
    ]
    hides [env]
}

redacted_debug! { VolatilePayload shows [key] hides [value] }
wiped! { VolatilePayload [value] }
