//! `swarmctl explain`: the same as `task explain` and `service explain`.

use super::service::explain as service;
use super::task::explain as task;

super::verbs! {
    Task(task::Args) => task,
    Service(service::Args) => service,
}
