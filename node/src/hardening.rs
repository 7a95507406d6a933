//! What this process gives up at its start, before any thread: being dumped, being looked into, and gaining privileges.

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// Gives it up; whatever does not work is returned as a sentence, since a node runs without it too.
pub fn harden(core_dumps: bool) -> Vec<String> {
    let mut failed = Vec::new();
    let mut note = |what: &str, done: rustix::io::Result<()>| {
        failed.extend(done.err().map(|error| format!("{what}: {error}")));
    };
    // Neither what we start nor a program with the setuid bit needs more than we have.
    note("privileges can still be gained", rustix::thread::set_no_new_privs(true));
    if !core_dumps {
        // Keys, tokens and secrets are in memory, and a core dump is a file. This also keeps processes of the same user from
        // attaching. An exec undoes the first, and a task may raise its soft limit.
        let dumpable = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
        note("core dumps cannot be switched off", dumpable);
        let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Core);
        let limited = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
        note("core dumps cannot be limited", limited);
    }
    failed
}
