//! `swarmd`: the daemon of every node.

use std::process::ExitCode;

/// glibc's allocator is slow where one thread frees what another allocated, as for each command. RocksDB uses this one too. Its
/// settings are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    node::daemon::process::main()
}
