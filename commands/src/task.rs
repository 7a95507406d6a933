//! Commands about single tasks.

use events::{
    DesiredCause, Kind, Named, OperatorRole, TaskAccess, TaskAccessed, TaskDesiredStateSet, TaskId, TaskState,
};
use projections::Cluster;

use crate::text::quote;
use crate::verb::{AllowedActor, Verb};
use crate::{Ctx, Decision, Rejection};

/// Maximum length of a command that is run in a task, including its arguments: history stores all of it.
const ARGV_BYTES_MAX: usize = 16 << 10;
/// Maximum length of a user name.
const USER_BYTES_MAX: usize = 256;
/// Maximum length of a path.
const PATH_BYTES_MAX: usize = 4 << 10;

/// Removes one task: its node stops it, the reaper removes it, and its service creates another if needed.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RemoveTask {
    /// The task.
    pub task: TaskId,
}

impl Verb for RemoveTask {
    fn name(&self) -> &'static str {
        "task.remove"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Operator)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let id = self.task;
        let task = state.tasks.get(id).ok_or_else(|| Rejection::not_found("task", id))?;
        if task.desired >= TaskState::Remove {
            return Ok(Decision::nothing(id));
        }
        let desired = TaskState::Remove.into();
        let set = TaskDesiredStateSet { tasks: vec![id], desired, cause: DesiredCause::User.into() };
        Ok(Decision::one(id, Kind::TaskDesiredStateSet(set)))
    }
}

/// Gives access to a running task. It changes nothing: history records it before the access starts.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AccessTask {
    /// The task.
    pub task: TaskId,
    /// The kind of access.
    pub access: Access,
}

/// A kind of access to a task.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Access {
    /// Runs a command.
    Exec {
        /// The program and its arguments.
        argv: Vec<String>,
        /// The user that it runs as; `None`: that of the task.
        user: Option<String>,
    },
    /// Reads its output, and may send it input.
    Attach,
    /// Copies files.
    Copy {
        /// Their path, from the root of the task.
        path: String,
        /// Into the task; otherwise out of it.
        to_task: bool,
    },
}

impl Verb for AccessTask {
    fn name(&self) -> &'static str {
        match self.access {
            Access::Exec { .. } => "task.exec",
            Access::Attach => "task.attach",
            Access::Copy { .. } => "task.cp",
        }
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Operator)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let id = self.task;
        let task = state.tasks.get(id).ok_or_else(|| Rejection::not_found("task", id))?;
        let name = state.task_name(task);
        let Some(node) = task.node.filter(|_| task.state == TaskState::Running) else {
            let sentence = format!("task {name} is not running ({})", task.state.name());
            let hint = "`swarmctl task ls` shows which tasks run; `swarmctl task logs` shows what this one printed";
            return Err(Rejection::conflict(format!("task {name}"), sentence, hint));
        };
        let accessed =
            |access: TaskAccess| TaskAccessed { task: id, node, access: access.into(), ..Default::default() };
        let event = match &self.access {
            Access::Exec { argv, user } => {
                check_argv(argv)?;
                check_user(user.as_deref())?;
                TaskAccessed { argv: argv.clone(), user: user.clone(), ..accessed(TaskAccess::Exec) }
            }
            Access::Attach => accessed(TaskAccess::Attach),
            Access::Copy { path, to_task } => {
                check_path(path)?;
                let access = if *to_task { TaskAccess::CopyTo } else { TaskAccess::CopyFrom };
                TaskAccessed { path: Some(path.clone()), ..accessed(access) }
            }
        };
        Ok(Decision::one(id, Kind::TaskAccessed(event)))
    }
}

fn check_argv(argv: &[String]) -> Result<(), Rejection> {
    let hint = "give the program and its arguments after the task: `swarmctl task exec web.1 ls -l`";
    let refuse = |sentence: String, hint: &str| Err(Rejection::invalid("command", sentence, hint));
    if argv.first().is_none_or(String::is_empty) {
        return refuse("there is no command to run".to_owned(), hint);
    }
    if let Some(word) = argv.iter().find(|word| word.contains('\0')) {
        return refuse(format!("{} contains a zero byte, which no argument can", quote(word)), hint);
    }
    // Each argument takes some bytes of its own, even an empty one.
    let bytes: usize = argv.iter().map(|word| word.len() + 2).sum();
    if bytes > ARGV_BYTES_MAX {
        let sentence = format!("the command takes {bytes} bytes; history keeps at most {ARGV_BYTES_MAX} of it");
        return refuse(sentence, "give long input to the command's standard input, with -i");
    }
    Ok(())
}

fn check_user(user: Option<&str>) -> Result<(), Rejection> {
    let is_bad = |user: &&str| user.is_empty() || user.len() > USER_BYTES_MAX || user.contains(char::is_control);
    user.filter(is_bad).map_or(Ok(()), |user| {
        Err(Rejection::invalid("user", format!("{} is not a user", quote(user)), "write NAME, UID or USER:GROUP"))
    })
}

fn check_path(path: &str) -> Result<(), Rejection> {
    if path.starts_with('/') && path.len() <= PATH_BYTES_MAX && !path.contains('\0') {
        return Ok(());
    }
    let shown: String = path.chars().take(64).collect();
    Err(Rejection::invalid("path", format!("{} is not a path in a task", quote(&shown)), "write TASK:/PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fixture, operator, web, worker};
    use crate::{Command, RejectionKind};
    use events::Id;

    fn exec(task: TaskId, argv: &[&str], user: Option<&str>) -> Command {
        let (argv, user) = (argv.iter().map(|word| (*word).to_owned()).collect(), user.map(str::to_owned));
        Command::AccessTask(AccessTask { task, access: Access::Exec { argv, user } })
    }

    fn copy(task: TaskId, path: &str, to_task: bool) -> Command {
        Command::AccessTask(AccessTask { task, access: Access::Copy { path: path.to_owned(), to_task } })
    }

    #[test]
    fn a_command_in_a_running_task_is_noted_as_it_is() {
        let mut fixture = Fixture::with_worker();
        let service = fixture.service(&web());
        let task = fixture.task(1, service, Some((worker(), TaskState::Running)));
        let noted = TaskAccessed {
            task,
            node: worker(),
            access: TaskAccess::Exec.into(),
            argv: vec!["ls".to_owned(), String::new()],
            user: Some("0:0".to_owned()),
            path: None,
        };
        let decision = fixture.accept(&operator(), exec(task, &["ls", ""], Some("0:0")));
        assert_eq!(decision.events, [Kind::TaskAccessed(noted)]);
        let attach = Command::AccessTask(AccessTask { task, access: Access::Attach });
        let noted = TaskAccessed { task, node: worker(), access: TaskAccess::Attach.into(), ..TaskAccessed::default() };
        assert_eq!(fixture.accept(&operator(), attach).events, [Kind::TaskAccessed(noted)]);
        for (to_task, access) in [(true, TaskAccess::CopyTo), (false, TaskAccess::CopyFrom)] {
            let path = Some("/etc/hosts".to_owned());
            let noted = TaskAccessed { task, node: worker(), access: access.into(), path, ..TaskAccessed::default() };
            assert_eq!(
                fixture.accept(&operator(), copy(task, "/etc/hosts", to_task)).events,
                [Kind::TaskAccessed(noted)]
            );
        }
    }

    #[test]
    fn a_command_that_cannot_run_is_refused() {
        let mut fixture = Fixture::with_worker();
        let service = fixture.service(&web());
        let running = fixture.task(1, service, Some((worker(), TaskState::Running)));
        let (waiting, ended) =
            (fixture.task(2, service, None), fixture.task(3, service, Some((worker(), TaskState::Complete))));
        let (long, many) = ("x".repeat(ARGV_BYTES_MAX), vec![""; ARGV_BYTES_MAX]);
        let many: Vec<&str> = std::iter::once("x").chain(many).collect();
        let rows: [(Command, RejectionKind, &str); 12] = [
            (exec(TaskId::from_bits(99), &["ls"], None), RejectionKind::NotFound, "there is no task"),
            (exec(waiting, &["ls"], None), RejectionKind::Conflict, "is not running ("),
            (exec(ended, &["ls"], None), RejectionKind::Conflict, "is not running (complete)"),
            (exec(running, &[], None), RejectionKind::Invalid, "no command"),
            (exec(running, &[""], None), RejectionKind::Invalid, "no command"),
            (exec(running, &["a", "b\0"], None), RejectionKind::Invalid, "zero byte"),
            (exec(running, &[&long], None), RejectionKind::Invalid, "16386 bytes"),
            (exec(running, &many, None), RejectionKind::Invalid, "bytes; history keeps"),
            (exec(running, &["ls"], Some("a\nb")), RejectionKind::Invalid, "is not a user"),
            (copy(running, "srv", true), RejectionKind::Invalid, "\"srv\" is not a path"),
            (copy(running, &format!("/{long}"), true), RejectionKind::Invalid, "is not a path"),
            (copy(waiting, "/srv", false), RejectionKind::Conflict, "is not running ("),
        ];
        for (command, kind, words) in rows {
            let refused = fixture.refuse(&operator(), command);
            assert_eq!(refused.kind, kind, "{refused}");
            assert!(refused.sentence.contains(words), "{refused}");
        }
    }

    #[test]
    fn a_task_is_asked_once_to_stop() {
        let mut fixture = Fixture::with_worker();
        let service = fixture.service(&web());
        let task = fixture.task(1, service, None);
        let desired = TaskState::Remove.into();
        let set = TaskDesiredStateSet { tasks: vec![task], desired, cause: DesiredCause::User.into() };
        let decision = fixture.accept(&operator(), Command::RemoveTask(crate::RemoveTask { task }));
        assert_eq!(decision.events, [Kind::TaskDesiredStateSet(set)]);
        assert_eq!(fixture.accept(&operator(), Command::RemoveTask(crate::RemoveTask { task })).events, []);
    }

    #[test]
    fn a_task_that_is_not_there_is_not_found() {
        let task = TaskId::from_bits(9);
        let refused = Fixture::with_worker().refuse(&operator(), Command::RemoveTask(crate::RemoveTask { task }));
        assert_eq!(refused.kind, RejectionKind::NotFound);
    }
}
