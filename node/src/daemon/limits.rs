//! Checks at startup the resources of the machine that a node needs: threads and memory, whose lack later cannot be reported as
//! an error. Threads are created as a test rather than looked up, because limits on them have several sources.

use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::process::{Resource, getrlimit};

use crate::daemon::failure::Failure;

/// Threads in addition to the worker threads: of the core, of the log and its database, and for blocking I/O.
const THREADS_BESIDE: usize = 16;
/// Address space of an almost idle node, in MiB: most of it is reserved by the allocator and by the log's cache, and never
/// used. With 1,024 the log's database aborts the process.
const ADDRESS_SPACE_MIB: u64 = 1_536;

/// Checks the threads, which are then released, and the memory.
///
/// # Errors
/// When this process may not use them.
pub fn require() -> Result<(), Failure> {
    require_memory(getrlimit(Resource::As).current)?;
    require_threads(thread::available_parallelism().map_or(1, NonZero::get) + THREADS_BESIDE)
}

/// Checks the limit of the address space, if there is one.
fn require_memory(limit: Option<u64>) -> Result<(), Failure> {
    let Some(mebibytes) = limit.map(|bytes| bytes / (1024 * 1024)).filter(|had| *had < ADDRESS_SPACE_MIB) else {
        return Ok(());
    };
    let sentence =
        format!("this process may use {mebibytes} MiB of address space; a node needs {ADDRESS_SPACE_MIB} MiB");
    Err(Failure::new(sentence, "raise the limit (LimitAS= of its unit, ulimit -v)"))
}

fn require_threads(needed: usize) -> Result<(), Failure> {
    let gate = Mutex::new(());
    // Held until all threads exist, since they are needed at the same time.
    let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        let _closed = closed;
        for had in 0..needed {
            let waits = || drop(gate.lock());
            thread::Builder::new().spawn_scoped(scope, waits).map_err(|error| {
                let sentence = format!("this process can start {had} more threads; a node needs {needed}: {error}");
                Failure::new(sentence, "raise the limit (TasksMax= of its unit, ulimit -u), or more memory for them")
            })?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_refused_and_the_rest_given_back() {
        assert_eq!(require(), Ok(()));
        assert_eq!(require_memory(None), Ok(()));
        assert_eq!(require_memory(Some(ADDRESS_SPACE_MIB << 20)), Ok(()));
        let refused = require_memory(Some(1 << 30)).expect_err("too little");
        assert!(refused.sentence.contains("may use 1024 MiB"), "{refused}");
    }
}
