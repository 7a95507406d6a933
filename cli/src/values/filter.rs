//! Filters of lists: `name=web`, `label=team=blue`, `mode=global`.

use events::{Annotations, Availability, Named, Role, TaskState};
use wire::v1::{LabelFilter, ListTasksRequest, Selection, ServiceMode};

use super::Invalid;
use crate::failure::{Failure, Kind};

/// One condition on listed objects.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// A prefix of the name.
    Name(String),
    /// A prefix of the id.
    Id(String),
    /// A label, with any value or a given one.
    Label(LabelFilter),
    /// The mode of a service.
    Mode(ServiceMode),
    /// The role of a node.
    Role(Role),
    /// The availability of a node.
    Availability(Availability),
    /// The service of a task, by reference.
    Service(String),
    /// The node of a task, by reference.
    Node(String),
    /// The desired state of a task.
    Desired(TaskState),
}

/// The possible desired states of a task.
const DESIRED_STATES: [TaskState; 4] = [TaskState::Ready, TaskState::Running, TaskState::Shutdown, TaskState::Remove];

const SERVICE_HINT: &str =
    "filters of services are name=PREFIX, id=PREFIX, label=KEY[=VALUE] and mode=replicated or mode=global";
const NODE_HINT: &str = "filters of nodes are name=PREFIX, id=PREFIX, label=KEY[=VALUE], role=manager or role=worker, and \
                         availability=active, pause or drain";
const TASK_HINT: &str = "filters of tasks are name=PREFIX, id=PREFIX, label=KEY[=VALUE] of the service, service=SERVICE, node=NODE, \
                         and desired-state=ready, running, shutdown or remove";

const FILE_HINT: &str = "filters of configs and secrets are name=PREFIX, id=PREFIX and label=KEY[=VALUE]";

/// Reads a filter of services.
///
/// # Errors
/// When services do not have this filter.
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
/// When nodes do not have this filter.
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
/// When tasks do not have this filter.
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

/// Reads a filter of configs or secrets.
///
/// # Errors
/// When they do not have this filter.
pub fn of_files(text: &str) -> Result<Filter, Invalid> {
    read(text, FILE_HINT, |_, _| None)
}

/// Whether filters match a config or a secret, by the rule of all lists: one of the names, one of the ids, and all labels.
pub fn selects(filters: &[Filter], id: &str, named: &Annotations) -> bool {
    let Some(Selection { names, ids, labels }) = selection(filters) else { return true };
    let begins = |text: &str, start: &String| {
        text.get(..start.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(start))
    };
    let has = |wanted: &LabelFilter| {
        let found = named.labels.get(&wanted.key);
        found.is_some_and(|value| wanted.value.as_ref().is_none_or(|wanted| wanted == value))
    };
    (names.is_empty() || names.iter().any(|start| begins(&named.name, start)))
        && (ids.is_empty() || ids.iter().any(|start| begins(id, start)))
        && labels.iter().all(has)
}

/// The request for a filtered list of tasks.
///
/// # Errors
/// When a filter that can be given once is repeated.
pub fn tasks(filters: &[Filter]) -> Result<ListTasksRequest, Failure> {
    let service = |filter: &Filter| if let Filter::Service(of) = filter { Some(of.clone()) } else { None };
    let node = |filter: &Filter| if let Filter::Node(of) = filter { Some(of.clone()) } else { None };
    let desired = |filter: &Filter| if let Filter::Desired(state) = filter { Some((*state).into()) } else { None };
    Ok(ListTasksRequest {
        service: one(filters, "service", service)?,
        node: one(filters, "node", node)?,
        desired: one(filters, "desired-state", desired)?,
        select: selection(filters),
        ..ListTasksRequest::default()
    })
}

/// The failure if a filter repeats an argument.
pub fn said_twice(key: &str) -> Failure {
    let failure =
        Failure::new(Kind::Usage, format!("the filter {key} is for `swarmctl task ls`: the {key} is given already"));
    failure.hint(format!("omit the filter {key}"))
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

/// The filters that all lists share.
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
/// When it is repeated.
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
    fn one_name_one_id_and_all_labels_select_a_config() {
        let labels = [("team".to_owned(), "blue".to_owned())].into();
        let named = Annotations { name: "web.conf".to_owned(), labels };
        for (filters, expected) in [
            (&[][..], true),
            (&["name=Web"], true),
            (&["name=db", "name=web"], true),
            (&["name=eb"], false),
            (&["id=0a"], true),
            (&["id=a"], false),
            (&["label=team"], true),
            (&["label=team=red"], false),
            (&["name=web", "label=tier"], false),
        ] {
            let read: Vec<Filter> = filters.iter().map(|text| of_files(text).expect(text)).collect();
            assert_eq!(selects(&read, "0abc", &named), expected, "{filters:?}");
        }
        assert!(of_files("mode=global").is_err_and(|invalid| invalid.hint.contains("configs and secrets")));
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
