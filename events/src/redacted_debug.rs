//! Debug output of messages that contain secrets: everything except the secrets, wherever the program uses `{:?}`. And wiping:
//! messages that consist of a secret are wiped from memory when they are dropped.
//!
//! Copies that cannot be wiped here: the buffers in which gRPC, TLS and the engine's client encode and decode messages, the bytes
//! of an entry in raft and the log, and plain variables of a spec, which are no secrets. Core dumps are disabled because of them.

use std::fmt;

use crate::schema::{ContainerSpec, VolatilePayload};

/// Placeholder for a secret in the output of [`redacted_debug!`](crate::redacted_debug).
pub struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A text that is never printed, and is wiped from memory when it is dropped. It is serialized in clear: only messages between
/// managers over mutual TLS may contain it.
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SecretText(pub String);

/// Bytes that are never printed, and are wiped from memory when they are dropped. They are serialized in clear, like
/// [`SecretText`].
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

/// Implements `Debug` for a message for which the build script omits the derived one (`skip_debug`). Every field must be listed,
/// so that a new one is shown or hidden on purpose.
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
