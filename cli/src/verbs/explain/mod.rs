//! `swarmctl explain`: an alias of `task explain` and `service explain`.

use crate::failure::{Failure, Kind};

use super::service::explain as service;
use super::task::explain as task;

super::verbs! {
    Task(task::Args) => task,
    Service(service::Args) => service,
}

/// Adds a hint for an object that does not exist but may have existed: how to find it, and that its past can be explained, too.
pub(super) fn of_the_past(failure: Failure, reading: &str) -> Failure {
    if failure.kind != Kind::NotFound {
        return failure;
    }
    let hint = format!(
        "{}; for removed objects, `{reading}` shows the history, and --at explains an earlier state",
        failure.hint
    );
    failure.hint(hint)
}
