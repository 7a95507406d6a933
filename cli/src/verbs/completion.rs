//! `swarmctl completion`.

use clap::ValueEnum;
use clap_complete::env::{Bash, EnvCompleter, Fish, Powershell, Zsh};

use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// Print the completion script of a shell
///
/// It completes commands, flags and the names of existing objects. For bash: `source <(swarmctl completion bash)`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Powershell,
}

pub(super) fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let shell: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
        Shell::Powershell => &Powershell,
    };
    Ok(shell.write_registration("COMPLETE", "swarmctl", "swarmctl", "swarmctl", &mut session.env.out)?)
}
