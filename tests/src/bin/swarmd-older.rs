//! `swarmd` as built for the previous feature level, for tests of upgrades.

use std::process::ExitCode;

use events::frame::FEATURE_LEVEL;

fn main() -> ExitCode {
    node::level::know_only(FEATURE_LEVEL - 1);
    node::daemon::process::main()
}
