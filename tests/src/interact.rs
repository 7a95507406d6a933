//! What people do in simulated tasks: `echo` prints its words, `exit` ends with the code that it is given, and there is no other
//! program. What is noted and who is asked is the code of `swarmd`.

use cli::{Failure, TaskOutputs};
use commands::Actor;
use wire::v1::interaction::What;
use wire::v1::task_output::Output;
use wire::v1::{CopySpec, CopyTarget, ExecSpec, Interaction};

use crate::socket::{Socket, refuse};
use crate::world::Silence;

/// What a shell gives for a program that is not there.
const NOT_FOUND: i32 = 127;

impl Socket {
    /// Does what is wanted in a task.
    ///
    /// # Errors
    /// When it is refused, or the task's node is silent.
    pub(crate) fn interact_with(&mut self, actor: Actor, wanted: &Interaction) -> Result<TaskOutputs, Failure> {
        let (task, noted) = self.control()?.access(actor, wanted).map_err(refuse)?;
        self.submit(noted)?;
        let control = self.control()?;
        let node = control.node_of_task(task).map_err(refuse)?;
        let silence = self.world.borrow().printed(node, task).err();
        match silence {
            Some(Silence::Node) => Err(refuse(control.unreachable_task(task, "it did not call back within 10 s"))),
            Some(Silence::Task) => Err(refuse(control.refused_by_node(task, "its container is gone"))),
            None => {
                let outputs = wanted.what.iter().flat_map(|what| match what {
                    What::Exec(exec) => run(exec),
                    // It prints no more, and ends.
                    What::Attach(_) => vec![Output::ExitCode(0)],
                    What::Copy(copy) => vec![Output::Target(target(copy)), Output::ExitCode(0)],
                });
                let outputs = outputs.map(Ok);
                Ok(Box::pin(futures_util::stream::iter(outputs.collect::<Vec<_>>())))
            }
        }
    }
}

/// Every path is that of a directory that takes whatever is given, and out of which nothing comes.
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
