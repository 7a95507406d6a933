//! Restricts this process at startup, before any thread is created: no core dumps, no attaching, no new privileges.

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// Applies the restrictions; failures are returned as messages, since a node can run without them.
pub fn harden(core_dumps: bool) -> Vec<String> {
    let mut failed = Vec::new();
    let mut note = |what: &str, done: rustix::io::Result<()>| {
        failed.extend(done.err().map(|error| format!("{what}: {error}")));
    };
    // Neither a child process nor a setuid program needs more privileges than this process.
    note("privileges can still be gained", rustix::thread::set_no_new_privs(true));
    if !core_dumps {
        // Keys, tokens and secrets are in memory, and a core dump would write them to a file. This also prevents processes of
        // the same user from attaching. An exec resets the former, and a task may raise its soft limit.
        let dumpable = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
        note("core dumps cannot be disabled", dumpable);
        let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Core);
        let limited = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
        note("core dumps cannot be limited", limited);
    }
    failed
}

#[cfg(test)]
mod tests {
    use events::{SecretBytes, SecretText, VolatilePayload};
    use projections::keyring::Secret;
    use rustix::process::{dumpable_behavior, getrlimit};
    use wire::v1::{
        BackupRequest, CreateSecret, CreateSink, EnvSecretValue, ForwardedCommand, JoinRequest, JoinTokens,
        SecretValue, UnlockKeyReply, UnlockRequest, UpdateSecret,
    };
    use zeroize::{ZeroizeOnDrop, Zeroizing};

    use super::*;
    use crate::agent::executor::RegistryAuth;
    use crate::security::seal::Seal;
    use crate::security::{JoinToken, PrivateKey, UnlockKey};

    #[test]
    fn core_dumps_are_off() {
        assert_eq!(harden(false), [""; 0]);
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        assert_eq!(dumpable_behavior().expect("it can be asked"), DumpableBehavior::NotDumpable);
        assert!(rustix::thread::no_new_privs().expect("it can be asked"));
    }

    /// Every type that holds a key, a token or the value of a secret; add new ones here.
    #[test]
    fn every_secret_is_wiped_from_memory_when_it_is_dropped() {
        fn is_wiped<T: ZeroizeOnDrop>() {}
        is_wiped::<BackupRequest>();
        is_wiped::<CreateSecret>();
        is_wiped::<CreateSink>();
        is_wiped::<EnvSecretValue>();
        is_wiped::<ForwardedCommand>();
        is_wiped::<JoinRequest>();
        is_wiped::<JoinToken>();
        is_wiped::<JoinTokens>();
        is_wiped::<PrivateKey>();
        is_wiped::<RegistryAuth>();
        is_wiped::<Seal>();
        is_wiped::<Secret>();
        is_wiped::<SecretBytes>();
        is_wiped::<SecretText>();
        is_wiped::<SecretValue>();
        is_wiped::<UnlockKey>();
        is_wiped::<UnlockKeyReply>();
        is_wiped::<UnlockRequest>();
        is_wiped::<UpdateSecret>();
        is_wiped::<VolatilePayload>();
        is_wiped::<Zeroizing<String>>();
    }
}
