//! Interactions with simulated tasks: `echo` prints its arguments, `exit` ends with the given code, and there are no other
//! programs. Recording and authorization are the real code of `swarmd`.

use cli::{Failure, TaskOutputs};
use commands::Actor;
use wire::v1::interaction::What;
use wire::v1::task_output::Output;
use wire::v1::{CopySpec, CopyTarget, ExecSpec, Interaction};

use crate::socket::{Socket, refuse};
use crate::world::LogsUnavailable;

/// The exit code in a shell if a program does not exist.
const NOT_FOUND: i32 = 127;

impl Socket {
    /// Performs an interaction with a task.
    ///
    /// # Errors
    /// When it is refused, or the task's node does not answer.
    pub(crate) fn interact_with(&mut self, actor: Actor, wanted: &Interaction) -> Result<TaskOutputs, Failure> {
        let (task, noted) = self.control()?.access(actor, wanted).map_err(refuse)?;
        self.submit(noted)?;
        let control = self.control()?;
        let node = control.node_of_task(task).map_err(refuse)?;
        let silence = self.world.borrow().printed(node, task).err();
        match silence {
            Some(LogsUnavailable::Node) => {
                Err(refuse(control.unreachable_task(task, "it did not call back within 10 s")))
            }
            Some(LogsUnavailable::Task) => Err(refuse(control.refused_by_node(task, "its container is gone"))),
            None => {
                let outputs = wanted.what.iter().flat_map(|what| match what {
                    What::Exec(exec) => run(exec),
                    // It prints nothing more, and ends.
                    What::Attach(_) => vec![Output::ExitCode(0)],
                    What::Copy(copy) => vec![Output::Target(target(copy)), Output::ExitCode(0)],
                });
                let outputs = outputs.map(Ok);
                Ok(Box::pin(futures_util::stream::iter(outputs.collect::<Vec<_>>())))
            }
        }
    }
}

/// Every path is an empty directory that accepts all data.
fn target(copy: &CopySpec) -> CopyTarget {
    let name = copy.path.rsplit('/').next().unwrap_or_default().to_owned();
    CopyTarget { exists: true, is_directory: true, name }
}

fn run(exec: &ExecSpec) -> Vec<Output> {
    let words: Vec<&str> = exec.argv.iter().map(String::as_str).collect();
    match words[..] {
        ["echo", ref words @ ..] => {
            vec![Output::Stdout(format!("{}\n", words.join(" ")).into_bytes()), Output::ExitCode(0)]
        }
        ["exit", code] => vec![Output::ExitCode(code.parse().unwrap_or(NOT_FOUND))],
        _ => {
            let words = format!("exec: \"{}\": No such file or directory (os error 2)\n", exec.argv.concat());
            vec![Output::Stderr(words.into_bytes()), Output::ExitCode(NOT_FOUND)]
        }
    }
}
