//! Services that come back after those that they depend on, and not at all if these are gone for good.

use std::collections::BTreeSet;

use events::ServiceSpec;
use projections::Cluster;

use super::{Inverse, Key};
use crate::service::dependencies::exist;

/// Why a service cannot depend again on what it depended on: that is gone and does not come back either, or waits for it by now.
pub(super) fn obstacle(now: &Cluster, key: &Key, command: &Inverse, back: &BTreeSet<String>) -> Option<String> {
    let mut spec = spec(command)?.clone();
    spec.depends_on.retain(|name| !back.contains(&name.to_ascii_lowercase()));
    let present = now.service_named(spec.name()).map(|service| &*service.spec);
    exist(now, &spec, present).err().map(|fault| fault.about(&key.text(now)).sentence)
}

/// Puts the services that come back behind those that they depend on.
pub(super) fn order(commands: &mut Vec<(Key, Inverse)>) {
    let creates = |(_, command): &(Key, Inverse)| matches!(command, Inverse::CreateService { .. });
    let Some(first) = commands.iter().position(creates) else { return };
    let mut left: Vec<(Key, Inverse)> = commands.extract_if(.., |command| creates(command)).collect();
    let mut ordered = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let waits = |(_, command): &(Key, Inverse)| {
            let others = left.iter().filter_map(|(_, other)| spec(other)).map(|other| other.name());
            spec(command).is_some_and(|spec| others.into_iter().any(|other| names(spec, other)))
        };
        let next = left.iter().position(|command| !waits(command)).unwrap_or_default();
        ordered.push(left.remove(next));
    }
    commands.splice(first..first, ordered);
}

fn names(spec: &ServiceSpec, other: &str) -> bool {
    spec.depends_on.iter().any(|name| name.eq_ignore_ascii_case(other))
}

fn spec(command: &Inverse) -> Option<&ServiceSpec> {
    match command {
        Inverse::CreateService { spec } | Inverse::UpdateService { spec, .. } => Some(spec),
        Inverse::CreateConfig { .. }
        | Inverse::UpdateConfig { .. }
        | Inverse::UpdateSecret { .. }
        | Inverse::UpdateCluster { .. }
        | Inverse::UpdateNode { .. }
        | Inverse::ResumeUpdate { .. }
        | Inverse::PauseUpdate { .. }
        | Inverse::RemoveService { .. }
        | Inverse::RemoveConfig { .. }
        | Inverse::RemoveSecret { .. }
        | Inverse::RevokeOperator { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::replicated;

    fn create(name: &str, depends_on: &[&str]) -> (Key, Inverse) {
        let depends_on = depends_on.iter().map(|name| (*name).to_owned()).collect();
        let spec = Box::new(ServiceSpec { depends_on, ..replicated(name, 1) });
        (Key::Service(name.to_owned()), Inverse::CreateService { spec })
    }

    #[test]
    fn services_come_back_after_those_that_they_depend_on() {
        let remove = (Key::Service("old".to_owned()), Inverse::RemoveService { service: events::ServiceId::default() });
        let mut commands = vec![create("api", &["DB"]), create("db", &[]), create("web", &["api"]), remove];
        commands.swap(0, 2);
        order(&mut commands);
        let names: Vec<&Key> = commands.iter().map(|(key, _)| key).collect();
        let expected = ["db", "api", "web", "old"].map(|name| Key::Service(name.to_owned()));
        assert_eq!(names, expected.iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_service_that_depended_on_what_is_gone_does_not_come_back_alone() {
        let (now, (key, command)) = (Cluster::default(), create("web", &["DB"]));
        assert!(obstacle(&now, &key, &command, &BTreeSet::new()).is_some());
        assert_eq!(obstacle(&now, &key, &command, &["db".to_owned()].into()), None);
    }
}
