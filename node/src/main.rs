//! `swarmd`: the daemon of every node.

use std::process::ExitCode;

fn main() -> ExitCode {
    node::daemon::process::main()
}
