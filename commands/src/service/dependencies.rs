//! Dependencies of services: they must exist, and must not be circular.

use std::collections::BTreeSet;

use events::ServiceSpec;
use projections::Cluster;

use crate::text::quote;
use crate::validate::Fault;

/// Maximum number of dependencies of a service: with more, they no longer define a useful start order.
const DEPENDENCIES_MAX: usize = 64;

/// Finds the spec of the service with a name, if it exists.
pub(crate) type Find<'a> = dyn Fn(&str) -> Option<&'a ServiceSpec> + 'a;

/// Checks the dependencies in a spec.
pub(crate) fn exist(state: &Cluster, spec: &ServiceSpec, present: Option<&ServiceSpec>) -> Result<(), Fault> {
    judge(&|name| Some(&*state.service_named(name)?.spec), spec, present)
}

/// The same, with services found by `find`. A dependency that the present spec already names may have been removed since: that
/// does not block other changes.
pub(crate) fn judge(find: &Find<'_>, spec: &ServiceSpec, present: Option<&ServiceSpec>) -> Result<(), Fault> {
    if spec.depends_on.len() > DEPENDENCIES_MAX {
        let sentence = format!("a service can depend on at most {DEPENDENCIES_MAX} others");
        return Err(Fault::invalid(sentence, "name only those that it cannot start without"));
    }
    for name in &spec.depends_on {
        if name.eq_ignore_ascii_case(spec.name()) {
            return Err(Fault::invalid("a service cannot depend on itself", "leave it out"));
        }
        let is_new = !present.is_some_and(|present| present.depends_on.contains(name));
        if is_new && find(name).is_none() {
            let sentence = format!("there is no service {} to depend on", quote(name));
            return Err(Fault::invalid(sentence, "create that service first; `swarmctl service ls` shows what exists"));
        }
    }
    match find_cycle(find, spec) {
        Some(name) => {
            let sentence = format!("service {} already waits for {}", quote(&name), quote(spec.name()));
            Err(Fault::invalid(sentence, "services that wait for each other would never start: leave one of them out"))
        }
        None => Ok(()),
    }
}

/// The dependency that depends, perhaps indirectly, on this service, and its next dependency on the way.
fn find_cycle(find: &Find<'_>, spec: &ServiceSpec) -> Option<String> {
    let key = |name: &str| name.to_ascii_lowercase();
    let (mut seen, mut open) = (BTreeSet::new(), spec.depends_on.clone());
    while let Some(name) = open.pop() {
        if !seen.insert(key(&name)) {
            continue;
        }
        let Some(found) = find(&name) else { continue };
        if found.depends_on.iter().any(|next| key(next) == key(spec.name())) {
            return Some(name);
        }
        open.extend(found.depends_on.iter().cloned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fixture, operator, replicated};
    use crate::{Command, CreateService, ServiceSecrets, UpdateService};

    fn spec(name: &str, depends_on: &[&str]) -> Box<ServiceSpec> {
        let depends_on = depends_on.iter().map(|name| (*name).to_owned()).collect();
        Box::new(ServiceSpec { depends_on, ..replicated(name, 1) })
    }

    fn create(name: &str, depends_on: &[&str]) -> Command {
        Command::CreateService(CreateService { spec: spec(name, depends_on), secrets: ServiceSecrets::default() })
    }

    #[test]
    fn services_depend_on_others_that_exist_and_never_on_each_other() {
        let mut fixture = Fixture::with_worker();
        fixture.refuse(&operator(), create("web", &["db"]));
        fixture.refuse(&operator(), create("db", &["DB"]));
        fixture.accept(&operator(), create("db", &[]));
        fixture.accept(&operator(), create("api", &["DB"]));
        fixture.accept(&operator(), create("web", &["api"]));
        let service = fixture.state.service_named("db").expect("it was made").id;
        let update = |depends_on: &[&str]| {
            let (spec, secrets) = (spec("db", depends_on), ServiceSecrets::default());
            Command::UpdateService(UpdateService { service, spec, version: None, secrets })
        };
        let refusal = fixture.refuse(&operator(), update(&["web"]));
        assert!(refusal.sentence.contains("already waits for"), "{refusal}");
        fixture.accept(&operator(), create("log", &[]));
        fixture.accept(&operator(), update(&["log"]));
        let log = fixture.state.service_named("log").expect("it was made").id;
        fixture.accept(&operator(), Command::RemoveService(crate::RemoveService { service: log }));
        fixture.accept(&operator(), update(&["log"]));
        fixture.refuse(&operator(), update(&["log", "gone"]));
    }
}
