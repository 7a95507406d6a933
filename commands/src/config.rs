//! Commands about configs. A config never changes: another one takes its place, under another name.

use events::{ConfigCreated, ConfigId, ConfigRemoved, ConfigSpec, Kind, OperatorRole, ServiceSpec};
use projections::{Cluster, Config};

use crate::text::quote;
use crate::validate::{self, CONFIGS_BYTES_MAX, Fault};
use crate::verb::{Asker, Verb};
use crate::{Ctx, Decision, Rejection, RejectionKind};

/// What a small config counts for against [`CONFIGS_BYTES_MAX`]: what its row and its name take.
const CONFIG_BYTES_LEAST: usize = 1024;

/// Creates a config.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CreateConfig {
    /// Its name and labels.
    pub spec: ConfigSpec,
    /// What is in it.
    pub data: Vec<u8>,
}

/// Removes a config that no service needs.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RemoveConfig {
    /// The config.
    pub config: ConfigId,
}

impl Verb for CreateConfig {
    fn name(&self) -> &'static str {
        "config.create"
    }

    fn asker(&self) -> Asker {
        Asker::Operator(OperatorRole::Operator)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        true
    }

    fn decide(&self, state: &Cluster, ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let Self { spec, data } = self;
        let subject = format!("config {}", quote(spec.name()));
        validate::config(spec, data).map_err(|fault| fault.about(&subject))?;
        if let Some(taken) = state.config_named(spec.name()) {
            let sentence = format!("the name {} is taken by config {}", taken.spec.name(), taken.id);
            let hint = "a config never changes: create one with another name, and update the services that use it";
            return Err(Rejection::new(RejectionKind::Exists, subject, sentence, hint));
        }
        let size = |data: &[u8]| data.len().max(CONFIG_BYTES_LEAST);
        let present: usize = state.configs.values().map(|config| size(&config.data)).sum();
        if present + size(data) > CONFIGS_BYTES_MAX {
            let sentence = format!("all configs together have {present} bytes; the maximum is {CONFIGS_BYTES_MAX}");
            let hint = "remove configs that no service needs with `swarmctl config rm`";
            return Err(Rejection::new(RejectionKind::Exhausted, subject, sentence, hint));
        }
        let config: ConfigId = ctx.ids.next();
        let created = ConfigCreated { config, spec: spec.clone(), data: data.clone() };
        Ok(Decision::one(config, Kind::ConfigCreated(created)))
    }
}

impl Verb for RemoveConfig {
    fn name(&self) -> &'static str {
        "config.remove"
    }

    fn asker(&self) -> Asker {
        Asker::Operator(OperatorRole::Operator)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let id = self.config;
        let config = state.configs.get(id).ok_or_else(|| Rejection::not_found("config", id))?;
        let users: Vec<&str> = state.users_of_config(id).into_iter().collect();
        if let Some(first) = users.first() {
            let name = config.spec.name();
            let others = match users.len() - 1 {
                0 => String::new(),
                1 => " and 1 other service".to_owned(),
                more => format!(" and {more} other services"),
            };
            let sentence = format!("config {name} is used by service {first}{others}");
            let hint = "a config is used by the present spec of a service, by the one that a rollback goes back to, and by \
                        what tasks still run: update or remove the services first";
            return Err(Rejection::conflict(format!("config {name}"), sentence, hint));
        }
        Ok(Decision::one(id, Kind::ConfigRemoved(ConfigRemoved { config: id })))
    }
}

/// Refuses a spec that refers to a config that is not there, or that has another name.
pub(crate) fn exist(state: &Cluster, spec: &ServiceSpec) -> Result<(), Fault> {
    for reference in &spec.template().container().configs {
        let known = reference.config.and_then(|id| state.configs.get(id));
        let is_it = |config: &&Config| config.spec.name() == reference.name;
        if known.filter(is_it).is_none() {
            let sentence =
                format!("there is no config {} with the id that the spec has for it", quote(&reference.name));
            return Err(Fault::invalid(sentence, "`swarmctl config ls` shows what exists"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use events::{Annotations, ConfigReference, ServiceId};

    use super::*;
    use crate::testing::{Story, operator, web};
    use crate::{Command, CreateService, RemoveService, ServiceSecrets, UpdateService};

    fn create(name: &str, data: &[u8]) -> Command {
        let annotations = Some(Annotations { name: name.into(), ..Annotations::default() });
        Command::CreateConfig(CreateConfig { spec: ConfigSpec { annotations }, data: data.to_vec() })
    }

    fn created(story: &mut Story, name: &str) -> ConfigId {
        let decision = story.accept(&operator(), create(name, b"data"));
        decision.subject.expect("a subject").parse().expect("a config's id")
    }

    fn remove(config: ConfigId) -> Command {
        Command::RemoveConfig(RemoveConfig { config })
    }

    /// The spec of `web` with these configs.
    fn with(configs: &[(&str, ConfigId)]) -> ServiceSpec {
        let mut spec = web();
        let reference = |(name, config): &(&str, ConfigId)| ConfigReference {
            config: Some(*config),
            name: (*name).to_owned(),
            file: None,
        };
        let container = spec.task.get_or_insert_default().container.get_or_insert_default();
        container.configs = configs.iter().map(reference).collect();
        spec
    }

    fn update(service: ServiceId, spec: ServiceSpec) -> Command {
        let (spec, secrets) = (Box::new(spec), ServiceSecrets::default());
        Command::UpdateService(UpdateService { service, spec, version: None, secrets })
    }

    #[test]
    fn names_are_unique_without_regard_to_case() {
        let mut story = Story::with_worker();
        created(&mut story, "web.conf");
        let taken = story.refuse(&operator(), create("Web.conf", b"other"));
        assert_eq!(taken.kind, RejectionKind::Exists);
        assert!(taken.sentence.starts_with("the name web.conf is taken by config"), "{taken}");
    }

    #[test]
    fn all_configs_together_have_a_limit() {
        let mut story = Story::with_worker();
        let most = vec![0; validate::CONFIG_BYTES_MAX];
        let count = CONFIGS_BYTES_MAX / most.len();
        for number in 0..count {
            story.accept(&operator(), create(&format!("c{number}"), &most));
        }
        let refused = story.refuse(&operator(), create("more", &most));
        assert_eq!(refused.kind, RejectionKind::Exhausted);
        assert!(refused.sentence.contains("the maximum is 67108864"), "{refused}");
    }

    #[test]
    fn a_reference_names_a_config_by_id_and_name() {
        let mut story = Story::with_worker();
        let config = created(&mut story, "web.conf");
        let ask = |configs: &[(&str, ConfigId)]| {
            let (spec, secrets) = (Box::new(with(configs)), ServiceSecrets::default());
            Command::CreateService(CreateService { spec, secrets })
        };
        for wrong in [("web.conf", ConfigId::default()), ("other", config)] {
            let refused = story.refuse(&operator(), ask(&[wrong]));
            assert_eq!(refused.kind, RejectionKind::Invalid);
            assert!(refused.sentence.starts_with(&format!("there is no config \"{}\"", wrong.0)), "{refused}");
        }
        story.accept(&operator(), ask(&[("web.conf", config)]));
    }

    #[test]
    fn a_config_stays_as_long_as_a_service_may_need_it() {
        let mut story = Story::with_worker();
        let [old, new] = ["old", "new"].map(|name| created(&mut story, name));
        let service = story.service(&with(&[("old", old)]));
        let refused = story.refuse(&operator(), remove(old));
        assert_eq!(
            (refused.kind, refused.sentence.as_str()),
            (RejectionKind::Conflict, "config old is used by service web")
        );
        story.accept(&operator(), update(service, with(&[("new", new)])));
        assert_eq!(story.refuse(&operator(), remove(old)).kind, RejectionKind::Conflict, "a rollback goes back to it");
        story.accept(&operator(), Command::RemoveService(RemoveService { service }));
        for config in [old, new] {
            story.accept(&operator(), remove(config));
            assert_eq!(story.refuse(&operator(), remove(config)).kind, RejectionKind::NotFound);
        }
    }
}
