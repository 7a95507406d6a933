//! How messages that carry secrets print: everything but the secrets, wherever in the program somebody writes `{:?}`.

use std::fmt;

use zeroize::Zeroize;

use crate::schema::{ContainerSpec, VolatilePayload};

/// Stands for a secret in what [`discreet!`](crate::discreet) prints.
pub struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A text that is never printed, and is wiped from memory when it is dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretText(pub String);

impl Drop for SecretText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretText {
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
macro_rules! discreet {
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

discreet! {
    ContainerSpec
    shows [
        image, labels, command, args, hostname, dir, user, groups, privileges, init, tty, open_stdin, read_only,
        stop_signal, mounts, stop_grace_period_ns, registry_auth_key, hosts, dns, healthcheck, isolation, pids_limit,
        sysctls, capability_add, capability_drop, ulimits, oom_score_adj, env_secrets, configs
    ]
    hides [env]
}

discreet! { VolatilePayload shows [key] hides [value] }
