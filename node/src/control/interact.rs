//! Interactions with a running task: the event that records them, and the node to ask.

use commands::{Access, AccessTask, Actor, Command, Rejection, RejectionKind};
use events::{NodeId, TaskId};
use projections::views::overview::resolve_task;
use wire::v1::interaction::What;
use wire::v1::{ExecSpec, Interaction};

use super::Control;
use super::command::check_reason;
use crate::manager::replica::Request;

/// Maximum bytes of the environment variables of one command.
const ENV_BYTES_MAX: usize = 64 << 10;
/// Maximum bytes of a path.
const PATH_BYTES_MAX: usize = 4 << 10;

impl Control {
    /// The task of an interaction, and the core request that records it, which must be committed before the node is asked.
    ///
    /// # Errors
    /// When there is no such task, or the request is invalid.
    pub fn access(&self, actor: Actor, wanted: &Interaction) -> Result<(TaskId, Request), Rejection> {
        let Interaction { task, reason, what } = wanted;
        check_reason(reason.as_deref())?;
        let task = resolve_task(&self.state.cluster, task)?;
        let access = match what {
            Some(What::Exec(exec)) => {
                check_exec(exec)?;
                Access::Exec { argv: exec.argv.clone(), user: exec.user.clone() }
            }
            Some(What::Attach(_)) => Access::Attach,
            Some(What::Copy(copy)) => Access::Copy { path: copy.path.clone(), to_task: copy.to_task },
            None => {
                let sentence = "this manager does not support this request";
                return Err(Rejection::invalid("task", sentence, "use a swarmctl of the version of the managers"));
            }
        };
        let noted = Request::unnamed(actor, Command::AccessTask(AccessTask { task, access }));
        Ok((task, Request { reason: reason.clone(), ..noted }))
    }

    /// The node of a running task.
    ///
    /// # Errors
    /// When the node is unreachable, or the task is not on a node.
    pub fn node_of_task(&self, id: TaskId) -> Result<NodeId, Rejection> {
        let task = self.state.cluster.tasks.get(id).ok_or_else(|| Rejection::not_found("task", id))?;
        let asked = self.nodes_of(std::iter::once(task)).pop_first();
        let (node, known) = asked.ok_or_else(|| Rejection::not_found("task", id))?;
        known.session.map(|_| node).map_err(|why| self.unreachable_task(id, &why))
    }

    /// The rejection when a node is unreachable.
    pub fn unreachable_task(&self, task: TaskId, why: &str) -> Rejection {
        let (name, node) = self.names_of(task);
        let sentence = format!("node {node} cannot be asked about task {name}: {why}");
        let hint = format!("`swarmctl node inspect {node}` shows its state");
        Rejection::new(RejectionKind::Unavailable, format!("task {name}"), sentence, hint)
    }

    /// The rejection of a node, with its message.
    pub fn refused_by_node(&self, task: TaskId, why: &str) -> Rejection {
        let (name, node) = self.names_of(task);
        let hint = format!("`swarmctl task inspect {name}` shows the state of the task");
        Rejection::conflict(format!("task {name}"), format!("node {node} refused for task {name}: {why}"), hint)
    }

    /// The names of a task and its node.
    fn names_of(&self, id: TaskId) -> (String, String) {
        let cluster = &self.state.cluster;
        let task = cluster.tasks.get(id);
        let node = task.and_then(|task| cluster.nodes.get(task.node?)).map(super::views::node_name);
        let name = task.map_or_else(|| id.to_string(), |task| cluster.task_name(task));
        (name, node.unwrap_or("--").to_owned())
    }
}

/// Checks what is not recorded in history: the rest is judged with the command that records it.
fn check_exec(exec: &ExecSpec) -> Result<(), Rejection> {
    let bytes: usize = exec.env.iter().map(|variable| variable.len() + 1).sum();
    if bytes > ENV_BYTES_MAX {
        let sentence = format!("the variables take {bytes} bytes; a command gets at most {ENV_BYTES_MAX}");
        return Err(Rejection::invalid("environment", sentence, "give long input to the command with -i"));
    }
    let is_pair = |variable: &&String| {
        variable
            .split_once('=')
            .is_some_and(|(key, value)| !key.is_empty() && !key.contains('\0') && !value.contains('\0'))
    };
    // It may contain a secret, so it is not repeated in the message.
    if !exec.env.iter().all(|variable| is_pair(&variable)) {
        return Err(Rejection::invalid("environment", "a variable is malformed", "write KEY=VALUE"));
    }
    let is_path = |dir: &str| dir.starts_with('/') && dir.len() <= PATH_BYTES_MAX && !dir.contains('\0');
    match exec.dir.as_deref() {
        Some(dir) if !is_path(dir) => {
            Err(Rejection::invalid("directory", "the working directory is not an absolute path", "write it as /PATH"))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_cannot_be_started_is_refused_without_its_variables() {
        let exec = |env: &[&str], dir: Option<&str>| ExecSpec {
            env: env.iter().map(|variable| (*variable).to_owned()).collect(),
            dir: dir.map(str::to_owned),
            ..ExecSpec::default()
        };
        let long = format!("A={}", "x".repeat(ENV_BYTES_MAX));
        let far = format!("/{}", "x".repeat(PATH_BYTES_MAX));
        assert_eq!(check_exec(&exec(&["A=b=c", "B="], Some("/srv"))), Ok(()));
        let rows = [
            (exec(&["TOKEN"], None), "a variable is malformed"),
            (exec(&["=x"], None), "a variable is malformed"),
            (exec(&["A=\0"], None), "a variable is malformed"),
            (exec(&[&long], None), "the variables take 65539 bytes; a command gets at most 65536"),
            (exec(&[], Some("srv")), "the working directory is not an absolute path"),
            (exec(&[], Some(&far)), "the working directory is not an absolute path"),
        ];
        for (exec, sentence) in rows {
            let refused = check_exec(&exec).expect_err("refused");
            assert_eq!((refused.kind, refused.sentence.as_str()), (RejectionKind::Invalid, sentence));
        }
    }
}
