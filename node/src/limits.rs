//! What a node needs of its machine before it begins: threads and memory, which cannot be refused in a sentence once something
//! in the middle of its work asks for them. They are tried, not looked up: limits come from several places.

use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::failure::Failure;

/// Threads besides those that serve: of the core, of the log and its database, and those that wait for disks.
const THREADS_BESIDE: usize = 16;
/// Memory that a node with little to do takes, its log's buffers included, in bytes.
const MEMORY_BYTES: usize = 128 * 1024 * 1024;

/// Makes sure of the threads and of the memory. Both are given back at once.
///
/// # Errors
/// When this process may not have them.
pub fn require() -> Result<(), Failure> {
    require_memory(MEMORY_BYTES)?;
    require_threads(thread::available_parallelism().map_or(1, NonZero::get) + THREADS_BESIDE)
}

fn require_memory(bytes: usize) -> Result<(), Failure> {
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| {
        let mebibytes = bytes / (1024 * 1024);
        let sentence = format!("this process cannot have {mebibytes} MiB of memory, which a node needs at least");
        Failure::new(sentence, "let it have more (ulimit -v)")
    })
}

fn require_threads(needed: usize) -> Result<(), Failure> {
    let gate = Mutex::new(());
    // Held until all of them are there, since they are needed at the same time.
    let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        let _closed = closed;
        for had in 0..needed {
            let waits = || drop(gate.lock());
            thread::Builder::new().spawn_scoped(scope, waits).map_err(|error| {
                let sentence = format!("this process can have {had} more threads, and a node needs {needed}: {error}");
                Failure::new(sentence, "let it have more (TasksMax= of its unit, ulimit -u), or more memory for them")
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
        let refused = require_memory(usize::MAX / 2).expect_err("more than there is");
        assert!(refused.sentence.contains("MiB of memory"), "{refused}");
    }
}
