//! `swarmd`: the daemon of every node.

use std::process::ExitCode;

/// The state is persistent trees: each turn makes and drops thousands of small nodes, on other threads than those that made
/// them, which the C library's allocator does under a lock.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    node::daemon::process::main()
}
