//! Templates in a spec, tried on an example task: one that does not expand here is unlikely to expand on a node.

use std::borrow::Cow;

use events::spec::template::{self, TemplateScope};
use events::{ContainerSpec, Id, NodeId, Platform, ServiceId, ServiceSpec, TaskId};

use super::Fault;

/// A host name of typical length, for templates that take a part of it.
const HOSTNAME: &str = "node-in-some-data-centre";

/// Calls `act` with the fields of an example task.
pub(crate) fn with_example<T>(spec: &ServiceSpec, act: impl FnOnce(&TemplateScope<'_>) -> T) -> T {
    let platform = Platform { architecture: "x86_64".to_owned(), os: "linux".to_owned() };
    let task = TaskId::from_bits(1);
    act(&TemplateScope {
        service: ServiceId::from_bits(1),
        spec,
        node: NodeId::from_bits(1),
        hostname: HOSTNAME,
        platform: &platform,
        task,
        task_name: &format!("{}.1.{task}", spec.name()),
        slot: 1,
    })
}

/// The container as a node would create it.
pub(super) fn tried<'a>(spec: &ServiceSpec, container: &'a ContainerSpec) -> Result<Cow<'a, ContainerSpec>, Fault> {
    with_example(spec, |scope| template::expand(container, scope)).map_err(|error| {
        let fields = "use fields like {{.Node.Hostname}} and {{.Task.Slot}}, and {{\"{{\"}} for plain braces";
        // The reason may repeat a secret, so only the caller gets it: the main message is logged.
        Fault::invalid(error.to_string(), format!("{}; {fields}", error.reason))
    })
}

#[cfg(test)]
mod tests {
    use events::{Mount, MountType, TaskSpec};

    use super::super::service;
    use crate::validate::Verdict;

    use super::*;

    fn judge(change: impl FnOnce(&mut ContainerSpec)) -> Verdict {
        let mut container = ContainerSpec { image: "busybox".into(), ..Default::default() };
        change(&mut container);
        let task = TaskSpec { container: Some(container), ..Default::default() };
        let mut spec = ServiceSpec { task: Some(task), ..Default::default() };
        spec.annotations.get_or_insert_default().name = "web".into();
        service(&spec)
    }

    #[test]
    fn a_template_that_no_node_could_expand_is_refused() {
        assert_eq!(judge(|container| container.hostname = "{{.Node.Hostname}}-{{.Task.Slot}}".into()), Ok(()));
        let fault =
            judge(|container| container.env = vec!["A={{.Task.Slt}}".into()]).expect_err("there is no such field");
        assert!(fault.sentence.contains("variable A") && fault.hint.contains("Slt"), "{fault:?}");
    }

    #[test]
    fn a_mount_is_judged_as_it_will_be() {
        let mount = |source: &str, target: &str| Mount {
            r#type: MountType::Volume.into(),
            source: source.into(),
            target: target.into(),
            ..Default::default()
        };
        assert_eq!(
            judge(|container| container.mounts = vec![mount("data-{{.Task.Slot}}", "/{{.Service.Name}}")]),
            Ok(())
        );
        assert!(judge(|container| container.mounts = vec![mount("data", "{{.Service.Name}}")]).is_err());
        let twice = vec![mount("a", "/web"), mount("b", "/{{.Service.Name}}")];
        assert!(judge(|container| container.mounts = twice).is_err());
    }
}
