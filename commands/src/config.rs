//! Commands about configs. The data of a revision never changes: it is replaced by another revision.

use std::collections::BTreeSet;

use events::{
    ConfigCreated, ConfigId, ConfigReference, ConfigRemoved, ConfigRevised, ConfigSpec, ConfigSpecUpdated, Kind,
    OperatorRole, ServiceSpec,
};
use projections::{Cluster, Config};

use crate::text::quote;
use crate::validate::{self, CONFIGS_BYTES_MAX, Fault};
use crate::verb::{AllowedActor, Verb};
use crate::version::require_version;
use crate::{Ctx, Decision, Rejection, RejectionKind, followers};

/// The minimum that a config counts against [`CONFIGS_BYTES_MAX`]: the size of its row and its name.
const CONFIG_BYTES_LEAST: usize = 1024;

/// Creates a config.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CreateConfig {
    /// Its name, labels and template driver.
    pub spec: ConfigSpec,
    /// Its contents.
    pub data: Vec<u8>,
}

/// Changes a config's labels, or adds a revision with new data, which the services that follow it roll out.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct UpdateConfig {
    /// The config.
    pub config: ConfigId,
    /// Its name and template driver, which cannot change, and its labels; `None`: unchanged.
    pub spec: Option<ConfigSpec>,
    /// The data of its next revision; `None`: no new one.
    pub data: Option<Vec<u8>>,
    /// The version that was read; `None`: any.
    pub version: Option<u64>,
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

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Operator)
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
            let hint =
                format!("choose another name, or give that config new data with `swarmctl config update {}`", taken.id);
            return Err(Rejection::new(RejectionKind::Exists, subject, sentence, hint));
        }
        fitting(state, data).map_err(|fault| fault.about(&subject))?;
        let config: ConfigId = ctx.ids.next();
        let created = ConfigCreated { config, spec: spec.clone(), data: data.clone() };
        Ok(Decision::one(config, Kind::ConfigCreated(created)))
    }
}

impl Verb for UpdateConfig {
    fn name(&self) -> &'static str {
        "config.update"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Operator)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        true
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let id = self.config;
        let config = state.configs.get(id).ok_or_else(|| Rejection::not_found("config", id))?;
        let subject = format!("config {}", config.spec.name());
        require_version(&subject, config.version, self.version)?;
        let events = self.changes(state, config).map_err(|fault| fault.about(&subject))?;
        Ok(Decision { events, ..Decision::nothing(id) })
    }
}

impl UpdateConfig {
    fn changes(&self, state: &Cluster, config: &Config) -> Result<Vec<Kind>, Fault> {
        let (spec, data) = (self.spec.as_ref().unwrap_or(&config.spec), self.data.as_deref());
        if self.spec.is_none() && data.is_none() {
            return Err(followers::nothing_asked("config"));
        }
        validate::config(spec, data.unwrap_or(config.data()))?;
        if spec.name() != config.spec.name() {
            return Err(followers::renamed("config", config.spec.name(), spec.name()));
        }
        if spec.template_driver != config.spec.template_driver {
            return Err(followers::other_driver("config", config.spec.name()));
        }
        let mut events = Vec::new();
        if *spec != *config.spec {
            events.push(Kind::ConfigSpecUpdated(ConfigSpecUpdated { config: config.id, spec: spec.clone() }));
        }
        if let Some(data) = data.filter(|data| *data != config.data()) {
            fitting(state, data)?;
            let (id, revision) = (config.id, config.newest() + 1);
            let dropped = followers::unused(config.revisions.keys().copied(), &state.used_revisions_of_config(id));
            events.push(Kind::ConfigRevised(ConfigRevised { config: id, revision, data: data.to_vec(), dropped }));
            let is_ours = |of: &ConfigReference| of.config == Some(id) && !of.pinned;
            events.extend(followers::follow(
                state,
                "config",
                |container| container.configs.iter().any(is_ours),
                |container| {
                    let ours = container.configs.iter_mut().filter(|of| is_ours(of));
                    ours.for_each(|reference| reference.revision = revision);
                },
            )?);
        }
        Ok(events)
    }
}

/// Rejects data that exceeds the total size of configs.
fn fitting(state: &Cluster, data: &[u8]) -> Result<(), Fault> {
    let size = |data: &[u8]| data.len().max(CONFIG_BYTES_LEAST);
    let revisions = state.configs.values().flat_map(|config| config.revisions.values());
    let present: usize = revisions.map(|revision| size(&revision.data)).sum();
    if present + size(data) > CONFIGS_BYTES_MAX {
        let sentence = format!("all configs together have {present} bytes; the maximum is {CONFIGS_BYTES_MAX}");
        return Err(Fault::exhausted(sentence, "remove configs that no service needs with `swarmctl config rm`"));
    }
    Ok(())
}

impl Verb for RemoveConfig {
    fn name(&self) -> &'static str {
        "config.remove"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Operator)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let id = self.config;
        let config = state.configs.get(id).ok_or_else(|| Rejection::not_found("config", id))?;
        unused("config", config.spec.name(), &state.users_of_config(id))?;
        Ok(Decision::one(id, Kind::ConfigRemoved(ConfigRemoved { config: id })))
    }
}

/// Refuses to remove an object that services still use.
pub(crate) fn unused(noun: &str, name: &str, users: &BTreeSet<&str>) -> Result<(), Rejection> {
    let Some(first) = users.first() else { return Ok(()) };
    let others = match users.len() - 1 {
        0 => String::new(),
        1 => " and 1 other service".to_owned(),
        more => format!(" and {more} other services"),
    };
    let sentence = format!("{noun} {name} is used by service {first}{others}");
    let hint = format!(
        "a {noun} is used by the present spec of a service, by the one that a rollback goes back to, and by what tasks still run: \
         update or remove the services first"
    );
    Err(Rejection::conflict(format!("{noun} {name}"), sentence, hint))
}

/// Resolves each reference to a config without a revision to the newest, and with `renewed` also each that follows the config.
/// Rejects references to a missing config or revision, or to a config with another name.
pub(crate) fn resolve(state: &Cluster, spec: &mut ServiceSpec, renewed: bool) -> Result<(), Fault> {
    let Some(container) = spec.task.as_mut().and_then(|task| task.container.as_mut()) else { return Ok(()) };
    for reference in &mut container.configs {
        // A config created by an earlier command of the same turn had no id when this one was issued.
        reference.config = reference.config.or_else(|| state.config_named(&reference.name).map(|config| config.id));
        let known = reference.config.and_then(|id| state.configs.get(id));
        let known = known.filter(|config| config.spec.name() == reference.name).map(|config| &config.revisions);
        let asked = ((reference.pinned || !renewed) && reference.revision != 0).then_some(reference.revision);
        reference.revision = followers::revision(reference, asked, known)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use events::{Annotations, ServiceId};

    use super::*;
    use crate::testing::{Fixture, operator, web};
    use crate::{Command, CreateService, RemoveService, ServiceSecrets, UpdateService};

    fn create(name: &str, data: &[u8]) -> Command {
        let annotations = Some(Annotations { name: name.into(), ..Annotations::default() });
        Command::CreateConfig(CreateConfig {
            spec: ConfigSpec { annotations, ..Default::default() },
            data: data.to_vec(),
        })
    }

    fn created(fixture: &mut Fixture, name: &str) -> ConfigId {
        let decision = fixture.accept(&operator(), create(name, b"data"));
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
            ..ConfigReference::default()
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
        let mut fixture = Fixture::with_worker();
        created(&mut fixture, "web.conf");
        let taken = fixture.refuse(&operator(), create("Web.conf", b"other"));
        assert_eq!(taken.kind, RejectionKind::Exists);
        assert!(taken.sentence.starts_with("the name web.conf is taken by config"), "{taken}");
    }

    #[test]
    fn all_configs_together_have_a_limit() {
        let mut fixture = Fixture::with_worker();
        let most = vec![0; validate::CONFIG_BYTES_MAX];
        let count = CONFIGS_BYTES_MAX / most.len();
        for number in 0..count {
            fixture.accept(&operator(), create(&format!("c{number}"), &most));
        }
        let refused = fixture.refuse(&operator(), create("more", &most));
        assert_eq!(refused.kind, RejectionKind::Exhausted);
        assert!(refused.sentence.contains("the maximum is 67108864"), "{refused}");
    }

    #[test]
    fn a_reference_names_a_config_by_id_and_name() {
        let mut fixture = Fixture::with_worker();
        let config = created(&mut fixture, "web.conf");
        let ask = |configs: &[(&str, ConfigId)]| {
            let (spec, secrets) = (Box::new(with(configs)), ServiceSecrets::default());
            Command::CreateService(CreateService { spec, secrets })
        };
        for wrong in [("web.conf", ConfigId::default()), ("other", config)] {
            let refused = fixture.refuse(&operator(), ask(&[wrong]));
            assert_eq!(refused.kind, RejectionKind::Invalid);
            assert!(refused.sentence.starts_with(&format!("there is no config \"{}\"", wrong.0)), "{refused}");
        }
        fixture.accept(&operator(), ask(&[("web.conf", config)]));
    }

    #[test]
    fn a_config_stays_as_long_as_a_service_may_need_it() {
        let mut fixture = Fixture::with_worker();
        let [old, new] = ["old", "new"].map(|name| created(&mut fixture, name));
        let service = fixture.service(&with(&[("old", old)]));
        let refused = fixture.refuse(&operator(), remove(old));
        assert_eq!(
            (refused.kind, refused.sentence.as_str()),
            (RejectionKind::Conflict, "config old is used by service web")
        );
        fixture.accept(&operator(), update(service, with(&[("new", new)])));
        assert_eq!(
            fixture.refuse(&operator(), remove(old)).kind,
            RejectionKind::Conflict,
            "a rollback goes back to it"
        );
        fixture.accept(&operator(), Command::RemoveService(RemoveService { service }));
        for config in [old, new] {
            fixture.accept(&operator(), remove(config));
            assert_eq!(fixture.refuse(&operator(), remove(config)).kind, RejectionKind::NotFound);
        }
    }

    fn revise(config: ConfigId, data: &[u8]) -> Command {
        Command::UpdateConfig(UpdateConfig { config, spec: None, data: Some(data.to_vec()), version: None })
    }

    /// The revision of a service's first config.
    fn revision(fixture: &Fixture, service: ServiceId) -> u64 {
        let spec = &fixture.state.services.get(service).expect("the service").spec;
        spec.template().container().configs[0].revision
    }

    #[test]
    fn a_new_revision_goes_to_the_services_that_follow_in_the_same_frame() {
        let mut fixture = Fixture::with_worker();
        let config = created(&mut fixture, "web.conf");
        let follower = fixture.service(&with(&[("web.conf", config)]));
        let mut pinned = with(&[("web.conf", config)]);
        pinned.annotations.get_or_insert_default().name = "pinned".into();
        let container = pinned.task.get_or_insert_default().container.get_or_insert_default();
        (container.configs[0].revision, container.configs[0].pinned) = (1, true);
        let pinned = fixture.service(&pinned);
        let decision = fixture.accept(&operator(), revise(config, b"new"));
        let names: Vec<&str> = decision.events.iter().map(Kind::name).collect();
        assert_eq!(names, ["config_revised", "service_spec_updated"]);
        assert_eq!((revision(&fixture, follower), revision(&fixture, pinned)), (2, 1));
        let same = fixture.accept(&operator(), revise(config, b"new"));
        assert_eq!(same.events, [], "the data is the same");
        // The first is used by the pinned one, the second by the target of a rollback.
        fixture.accept(&operator(), revise(config, b"newer"));
        fixture.accept(&operator(), Command::RemoveService(RemoveService { service: pinned }));
        fixture.accept(&operator(), Command::RemoveService(RemoveService { service: follower }));
        fixture.accept(&operator(), revise(config, b"newest"));
        let kept: Vec<u64> = fixture.state.configs.get(config).expect("the config").revisions.keys().copied().collect();
        assert_eq!(kept, [4], "nothing needs the others");
    }

    #[test]
    fn a_job_is_given_the_newest_revision_when_it_runs_again() {
        let mut fixture = Fixture::with_worker();
        let config = created(&mut fixture, "web.conf");
        let mut job = with(&[("web.conf", config)]);
        job.mode = Some(events::service_spec::Mode::ReplicatedJob(events::ReplicatedJobMode::default()));
        let service = fixture.service(&job);
        fixture.accept(&operator(), revise(config, b"new"));
        assert_eq!(revision(&fixture, service), 1);
        let mut again = (*fixture.state.services.get(service).expect("the job").spec).clone();
        again.annotations.get_or_insert_default().labels.insert("team".into(), "shop".into());
        fixture.accept(&operator(), update(service, again.clone()));
        assert_eq!(revision(&fixture, service), 1, "it does not run for a label");
        again.task.get_or_insert_default().force_update += 1;
        fixture.accept(&operator(), update(service, again));
        assert_eq!(revision(&fixture, service), 2);
    }

    #[test]
    fn a_config_keeps_its_name_and_an_update_says_something() {
        let mut fixture = Fixture::with_worker();
        let config = created(&mut fixture, "web.conf");
        let ask = |name: Option<&str>, data: Option<&[u8]>, version| {
            let annotations = |name: &str| Some(Annotations { name: name.into(), ..Annotations::default() });
            let spec = name.map(|name| ConfigSpec { annotations: annotations(name), ..Default::default() });
            Command::UpdateConfig(UpdateConfig { config, spec, data: data.map(<[u8]>::to_vec), version })
        };
        for (command, sentence) in [
            (ask(None, None, None), "nothing to update"),
            (ask(Some("other"), None, None), "config web.conf cannot be renamed to \"other\""),
            (ask(None, Some(b""), None), "the config is empty"),
            (ask(None, Some(b"x"), Some(1)), "update out of sequence: config web.conf is at version"),
        ] {
            let refused = fixture.refuse(&operator(), command);
            assert!(refused.sentence.starts_with(sentence), "{refused}");
        }
    }
}
