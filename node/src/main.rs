//! `swarmd`: the daemon of every node.

use std::process::ExitCode;

/// The C library's is slow for what one thread allocates and another frees, as each command is. RocksDB uses this one, too; what
/// it keeps and for how long is set in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    node::daemon::process::main()
}
