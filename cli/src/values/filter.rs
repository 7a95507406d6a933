//! What lists are narrowed down to: `name=web`, `label=team=blue`, `mode=global`.

use events::{Availability, Named, Role, TaskState};
use wire::v1::{LabelFilter, Selection, ServiceMode};

use super::Invalid;
use crate::failure::{Failure, Kind};

/// One condition on what is listed.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// The beginning of a name.
    Name(String),
    /// The beginning of an id.
    Id(String),
    /// A label, with any value or with one.
    Label(LabelFilter),
    /// The mode of a service.
    Mode(ServiceMode),
    /// The role of a node.
    Role(Role),
    /// The availability of a node.
    Availability(Availability),
    /// The service of a task, as a reference.
    Service(String),
    /// The node of a task, as a reference.
    Node(String),
    /// The desired state of a task.
    Desired(TaskState),
}

/// What can be desired of a task.
const DESIRED_STATES: [TaskState; 4] = [TaskState::Ready, TaskState::Running, TaskState::Shutdown, TaskState::Remove];

const SERVICE_HINT: &str =
    "filters of services are name=PREFIX, id=PREFIX, label=KEY[=VALUE] and mode=replicated or mode=global";
const NODE_HINT: &str = "filters of nodes are name=PREFIX, id=PREFIX, label=KEY[=VALUE], role=manager or role=worker, and \
                         availability=active, pause or drain";
const TASK_HINT: &str = "filters of tasks are name=PREFIX, id=PREFIX, label=KEY[=VALUE] of the service, service=SERVICE, node=NODE, \
                         and desired-state=ready, running, shutdown or remove";

/// Reads a filter of services.
///
/// # Errors
/// When services have no such filter.
pub fn of_services(text: &str) -> Result<Filter, Invalid> {
    read(text, SERVICE_HINT, |key, value| match key {
        "mode" => [
            ("replicated", ServiceMode::Replicated),
            ("global", ServiceMode::Global),
            ("replicated-job", ServiceMode::ReplicatedJob),
            ("global-job", ServiceMode::GlobalJob),
        ]
        .into_iter()
        .find_map(|(name, mode)| (name == value).then_some(Filter::Mode(mode))),
        _ => None,
    })
}

/// Reads a filter of nodes.
///
/// # Errors
/// When nodes have no such filter.
pub fn of_nodes(text: &str) -> Result<Filter, Invalid> {
    read(text, NODE_HINT, |key, value| match (key, value) {
        ("role", "manager") => Some(Filter::Role(Role::Manager)),
        ("role", "worker") => Some(Filter::Role(Role::Worker)),
        ("availability", "active") => Some(Filter::Availability(Availability::Active)),
        ("availability", "pause") => Some(Filter::Availability(Availability::Pause)),
        ("availability", "drain") => Some(Filter::Availability(Availability::Drain)),
        _ => None,
    })
}

/// Reads a filter of tasks.
///
/// # Errors
/// When tasks have no such filter.
pub fn of_tasks(text: &str) -> Result<Filter, Invalid> {
    read(text, TASK_HINT, |key, value| match key {
        "service" => Some(Filter::Service(value.to_owned())),
        "node" => Some(Filter::Node(value.to_owned())),
        "desired-state" => {
            DESIRED_STATES.into_iter().find(|state| state.name().eq_ignore_ascii_case(value)).map(Filter::Desired)
        }
        _ => None,
    })
}

fn read(text: &str, hint: &'static str, own: impl Fn(&str, &str) -> Option<Filter>) -> Result<Filter, Invalid> {
    let invalid = || Invalid::new(format!("\"{text}\" is not a filter of this list"), hint);
    let (key, value) = text.split_once('=').filter(|(_, value)| !value.is_empty()).ok_or_else(invalid)?;
    match key {
        "name" => Ok(Filter::Name(value.to_owned())),
        "id" => Ok(Filter::Id(value.to_owned())),
        "label" => {
            let (key, value) =
                value.split_once('=').map_or((value, None), |(key, value)| (key, Some(value.to_owned())));
            Ok(Filter::Label(LabelFilter { key: key.to_owned(), value }))
        }
        _ => own(key, value).ok_or_else(invalid),
    }
}

/// The filters that every list has.
pub fn selection(filters: &[Filter]) -> Option<Selection> {
    let mut select = Selection::default();
    for filter in filters {
        match filter {
            Filter::Name(name) => select.names.push(name.clone()),
            Filter::Id(id) => select.ids.push(id.clone()),
            Filter::Label(label) => select.labels.push(label.clone()),
            Filter::Mode(_)
            | Filter::Role(_)
            | Filter::Availability(_)
            | Filter::Service(_)
            | Filter::Node(_)
            | Filter::Desired(_) => {}
        }
    }
    Some(select).filter(|select| *select != Selection::default())
}

/// The value of a filter that can be given once.
///
/// # Errors
/// When it is given more often.
pub fn one<T>(filters: &[Filter], key: &str, value: impl Fn(&Filter) -> Option<T>) -> Result<Option<T>, Failure> {
    let mut values = filters.iter().filter_map(value);
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(Failure::new(Kind::Usage, format!("the filter {key} is given twice"))
            .hint(format!("name one {key}: nothing matches two"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_list_has_its_filters() {
        let label = |value: Option<&str>| {
            Filter::Label(LabelFilter { key: "team".to_owned(), value: value.map(str::to_owned) })
        };
        let name = || Ok(Filter::Name("web".to_owned()));
        assert_eq!(of_services("name=web"), name());
        assert_eq!(of_nodes("name=web"), name());
        assert_eq!(of_tasks("name=web"), name());
        assert_eq!(of_services("label=team"), Ok(label(None)));
        assert_eq!(of_services("label=team=blue=x"), Ok(label(Some("blue=x"))));
        assert_eq!(of_services("mode=global"), Ok(Filter::Mode(ServiceMode::Global)));
        assert_eq!(of_nodes("role=manager"), Ok(Filter::Role(Role::Manager)));
        assert_eq!(of_nodes("availability=drain"), Ok(Filter::Availability(Availability::Drain)));
        assert_eq!(of_tasks("node=n1"), Ok(Filter::Node("n1".to_owned())));
        for text in ["desired-state=shutdown", "desired-state=SHUTDOWN"] {
            assert_eq!(of_tasks(text), Ok(Filter::Desired(TaskState::Shutdown)));
        }
        assert!(of_tasks("desired-state=failed").is_err_and(|invalid| invalid.hint.contains("ready, running")));
        for text in ["", "name", "name=", "colour=red", "mode=x", "role=worker", "=x"] {
            assert!(of_services(text).is_err_and(|invalid| invalid.hint.contains("mode=global")), "{text}");
        }
        assert!(of_nodes("role=boss").is_err() && of_nodes("mode=global").is_err() && of_tasks("role=worker").is_err());
    }

    #[test]
    fn filters_of_every_list_are_sent_together_and_others_once() {
        let filters = ["name=a", "name=b", "label=x", "mode=global"].map(|text| of_services(text).expect(text));
        let select = selection(&filters).expect("a selection");
        assert_eq!((select.names.len(), select.ids.len(), select.labels.len()), (2, 0, 1));
        assert_eq!(selection(&filters[3..]), None);
        let mode = |filter: &Filter| if let Filter::Mode(mode) = filter { Some(*mode) } else { None };
        assert_eq!(one(&filters, "mode", mode), Ok(Some(ServiceMode::Global)));
        assert_eq!(one(&filters[..3], "mode", mode), Ok(None));
        assert!(one(&[filters[3].clone(), filters[3].clone()], "mode", mode).is_err());
    }
}
