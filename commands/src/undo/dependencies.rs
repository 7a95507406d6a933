//! Restores services after those that they depend on, and not at all if these are permanently gone.

use events::ServiceSpec;
use projections::Cluster;

use super::{Inverse, Key};
use crate::service::dependencies::judge;
use crate::validate::Fault;

/// Sorts the services to restore so that each comes after its dependencies. Those for which that is impossible are removed from
/// the list, and returned with the reason.
pub(super) fn order(now: &Cluster, commands: &mut Vec<(Key, Inverse)>) -> Vec<(Key, Fault)> {
    let is_of_service = |(_, command): &(Key, Inverse)| spec(command).is_some();
    let first = commands.iter().position(is_of_service).unwrap_or_default();
    let mut left: Vec<(Key, Inverse)> = commands.extract_if(.., |command| is_of_service(command)).collect();
    let mut ordered = Vec::with_capacity(left.len());
    while let Some(next) = left.iter().position(|(_, command)| fault(now, &ordered, command).is_none()) {
        ordered.push(left.remove(next));
    }
    let refused = left.into_iter().filter_map(|(key, command)| Some((key, fault(now, &ordered, &command)?))).collect();
    commands.splice(first..first, ordered);
    refused
}

/// The reason against a command after these were carried out.
fn fault(now: &Cluster, done: &[(Key, Inverse)], command: &Inverse) -> Option<Fault> {
    let wanted = spec(command)?;
    let find = |name: &str| {
        let mut made = done.iter().filter_map(|(_, command)| spec(command));
        let made = made.find(|spec| spec.name().eq_ignore_ascii_case(name));
        made.or_else(|| Some(&*now.service_named(name)?.spec))
    };
    judge(&find, wanted, find(wanted.name())).err()
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
        | Inverse::RevokeOperator { .. }
        | Inverse::TagHistory { .. }
        | Inverse::UntagHistory { .. } => None,
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
        assert!(order(&Cluster::default(), &mut commands).is_empty());
        let names: Vec<&Key> = commands.iter().map(|(key, _)| key).collect();
        let expected = ["db", "api", "web", "old"].map(|name| Key::Service(name.to_owned()));
        assert_eq!(names, expected.iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_service_that_depended_on_what_is_gone_does_not_come_back_and_neither_does_what_depends_on_it() {
        let mut commands = vec![create("web", &["api"]), create("api", &["DB"]), create("log", &[])];
        let refused = order(&Cluster::default(), &mut commands);
        let refused: Vec<Key> = refused.into_iter().map(|(key, _)| key).collect();
        assert_eq!(refused, ["web", "api"].map(|name| Key::Service(name.to_owned())));
        assert_eq!(commands, [create("log", &[])]);
    }
}
