//! Commands about secrets. Their data is stored in the keyring only: it travels as a volatile payload.

use events::spec::secret_key;
use events::{
    Kind, OperatorRole, SecretBytes, SecretCreated, SecretId, SecretReference, SecretRemoved, SecretRevised,
    SecretSpec, SecretSpecUpdated, ServiceSpec, VolatilePayload,
};
use projections::{Cluster, ClusterSecret};

use crate::config::unused;
use crate::text::quote;
use crate::validate::{self, Fault, SECRETS_KIB_MAX};
use crate::verb::{AllowedActor, Verb};
use crate::version::require_version;
use crate::{Ctx, Decision, Rejection, RejectionKind, followers};

/// The unit of recorded sizes.
const KIB: usize = 1024;
/// The revision number of a secret's initial data.
const FIRST_REVISION: u64 = 1;

/// Creates a secret.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CreateSecret {
    /// Its name, labels and template driver.
    pub spec: SecretSpec,
    /// Its contents.
    pub data: SecretBytes,
}

/// Changes a secret's labels, or adds a revision with new data, which the services that follow it roll out.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct UpdateSecret {
    /// The secret.
    pub secret: SecretId,
    /// Its name and template driver, which cannot change, and its labels; `None`: unchanged.
    pub spec: Option<SecretSpec>,
    /// The data of its next revision; `None`: no new one.
    pub data: Option<SecretBytes>,
    /// The version that was read; `None`: any.
    pub version: Option<u64>,
}

/// Removes a secret that no service needs, and destroys its data.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RemoveSecret {
    /// The secret.
    pub secret: SecretId,
}

impl Verb for CreateSecret {
    fn name(&self) -> &'static str {
        "secret.create"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Operator)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        true
    }

    fn decide(&self, state: &Cluster, ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let Self { spec, data } = self;
        let subject = format!("secret {}", quote(spec.name()));
        let sound = validate::secret_spec(spec).and_then(|()| validate::secret_data(spec, &data.0));
        sound.map_err(|fault| fault.about(&subject))?;
        if let Some(taken) = state.secret_named(spec.name()) {
            let sentence = format!("the name {} is taken by secret {}", taken.spec.name(), taken.id);
            let hint =
                format!("choose another name, or give that secret new data with `swarmctl secret update {}`", taken.id);
            return Err(Rejection::new(RejectionKind::Exists, subject, sentence, hint));
        }
        let size_kib = fitting(state, &data.0).map_err(|fault| fault.about(&subject))?;
        let secret: SecretId = ctx.ids.next();
        let created = SecretCreated { secret, spec: spec.clone(), size_kib };
        let payload = VolatilePayload::keep(secret_key(secret, FIRST_REVISION), data.0.as_slice());
        Ok(Decision { volatile: vec![payload], ..Decision::one(secret, Kind::SecretCreated(created)) })
    }
}

impl Verb for UpdateSecret {
    fn name(&self) -> &'static str {
        "secret.update"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Operator)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        true
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let id = self.secret;
        let secret = state.secrets.get(id).ok_or_else(|| Rejection::not_found("secret", id))?;
        let subject = format!("secret {}", secret.spec.name());
        require_version(&subject, secret.version, self.version)?;
        let mut decision = Decision::nothing(id);
        self.relabel(secret, &mut decision).map_err(|fault| fault.about(&subject))?;
        self.revise(state, secret, &mut decision).map_err(|fault| fault.about(&subject))?;
        Ok(decision)
    }
}

impl UpdateSecret {
    fn relabel(&self, secret: &ClusterSecret, decision: &mut Decision) -> Result<(), Fault> {
        let Some(spec) = &self.spec else {
            return if self.data.is_some() { Ok(()) } else { Err(followers::nothing_asked("secret")) };
        };
        validate::secret_spec(spec)?;
        if spec.name() != secret.spec.name() {
            return Err(followers::renamed("secret", secret.spec.name(), spec.name()));
        }
        if spec.template_driver != secret.spec.template_driver {
            return Err(followers::other_driver("secret", secret.spec.name()));
        }
        if *spec != *secret.spec {
            let updated = SecretSpecUpdated { secret: secret.id, spec: spec.clone() };
            decision.events.push(Kind::SecretSpecUpdated(updated));
        }
        Ok(())
    }

    /// It is unknown whether the data has changed: secrets are never compared.
    fn revise(&self, state: &Cluster, secret: &ClusterSecret, decision: &mut Decision) -> Result<(), Fault> {
        let Some(data) = &self.data else { return Ok(()) };
        validate::secret_data(&secret.spec, &data.0)?;
        let (id, revision, size_kib) = (secret.id, secret.newest() + 1, fitting(state, &data.0)?);
        let dropped = followers::unused(secret.revisions.keys().copied(), &state.used_revisions_of_secret(id));
        decision.volatile.push(VolatilePayload::keep(secret_key(id, revision), data.0.as_slice()));
        let gone = dropped.iter().map(|dropped| VolatilePayload::destroy(secret_key(id, *dropped)));
        decision.volatile.extend(gone);
        decision.events.push(Kind::SecretRevised(SecretRevised { secret: id, revision, size_kib, dropped }));
        let is_ours = |of: &SecretReference| of.secret == Some(id) && !of.pinned;
        decision.events.extend(followers::follow(
            state,
            "secret",
            |container| container.secrets.iter().any(is_ours),
            |container| {
                let ours = container.secrets.iter_mut().filter(|of| is_ours(of));
                ours.for_each(|reference| reference.revision = revision);
            },
        )?);
        Ok(())
    }
}

impl Verb for RemoveSecret {
    fn name(&self) -> &'static str {
        "secret.remove"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Operator)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let id = self.secret;
        let secret = state.secrets.get(id).ok_or_else(|| Rejection::not_found("secret", id))?;
        unused("secret", secret.spec.name(), &state.users_of_secret(id))?;
        let volatile = secret.keys().map(VolatilePayload::destroy).collect();
        Ok(Decision { volatile, ..Decision::one(id, Kind::SecretRemoved(SecretRemoved { secret: id })) })
    }
}

/// The size of data in KiB, if the total size of secrets allows it.
fn fitting(state: &Cluster, data: &[u8]) -> Result<u32, Fault> {
    let size = u32::try_from(data.len().div_ceil(KIB)).unwrap_or(u32::MAX);
    let revisions = state.secrets.values().flat_map(|secret| secret.revisions.values());
    let present: u64 = revisions.map(|revision| u64::from(revision.size_kib)).sum();
    if present + u64::from(size) > SECRETS_KIB_MAX {
        let sentence = format!("all secrets together have {present} KiB; the maximum is {SECRETS_KIB_MAX}");
        let hint = "remove secrets that no service needs with `swarmctl secret rm`";
        return Err(Fault::exhausted(sentence, hint));
    }
    Ok(size)
}

/// Resolves each reference to a secret without a revision to the newest, and with `renewed` also each that follows the secret.
/// Rejects references to a missing secret or revision, or to a secret with another name.
pub(crate) fn resolve(state: &Cluster, spec: &mut ServiceSpec, renewed: bool) -> Result<(), Fault> {
    let Some(container) = spec.task.as_mut().and_then(|task| task.container.as_mut()) else { return Ok(()) };
    for reference in &mut container.secrets {
        // A secret created by an earlier command of the same turn had no id when this one was issued.
        reference.secret = reference.secret.or_else(|| state.secret_named(&reference.name).map(|secret| secret.id));
        let known = reference.secret.and_then(|id| state.secrets.get(id));
        let known = known.filter(|secret| secret.spec.name() == reference.name).map(|secret| &secret.revisions);
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
        let data = SecretBytes(data.to_vec());
        Command::CreateSecret(CreateSecret { spec: SecretSpec { annotations, ..Default::default() }, data })
    }

    fn created(fixture: &mut Fixture, name: &str) -> SecretId {
        let decision = fixture.accept(&operator(), create(name, b"data"));
        decision.subject.expect("a subject").parse().expect("a secret's id")
    }

    fn remove(secret: SecretId) -> Command {
        Command::RemoveSecret(RemoveSecret { secret })
    }

    /// The spec of `web` with these secrets.
    fn with(secrets: &[(&str, SecretId)]) -> ServiceSpec {
        let mut spec = web();
        let reference = |(name, secret): &(&str, SecretId)| SecretReference {
            secret: Some(*secret),
            name: (*name).to_owned(),
            ..SecretReference::default()
        };
        let container = spec.task.get_or_insert_default().container.get_or_insert_default();
        container.secrets = secrets.iter().map(reference).collect();
        spec
    }

    fn update(service: ServiceId, spec: ServiceSpec) -> Command {
        let (spec, secrets) = (Box::new(spec), ServiceSecrets::default());
        Command::UpdateService(UpdateService { service, spec, version: None, secrets })
    }

    #[test]
    fn the_data_of_a_secret_is_in_the_keyring_alone() {
        let mut fixture = Fixture::with_worker();
        let decision = fixture.accept(&operator(), create("key", b"data"));
        let secret: SecretId = decision.subject.as_deref().expect("a subject").parse().expect("a secret's id");
        let key = format!("secret/{secret}/1");
        assert_eq!(decision.volatile, [VolatilePayload::keep(key.clone(), "data")]);
        assert!(!format!("{:?}", decision.events).contains("data"), "{:?}", decision.events);
        let removed = fixture.accept(&operator(), remove(secret));
        assert_eq!(removed.volatile, [VolatilePayload::destroy(key)]);
    }

    #[test]
    fn names_are_unique_without_regard_to_case() {
        let mut fixture = Fixture::with_worker();
        created(&mut fixture, "key");
        let taken = fixture.refuse(&operator(), create("Key", b"other"));
        assert_eq!(taken.kind, RejectionKind::Exists);
        assert!(taken.sentence.starts_with("the name key is taken by secret"), "{taken}");
    }

    #[test]
    fn all_secrets_together_have_a_limit() {
        let mut fixture = Fixture::with_worker();
        let most = vec![0; validate::SECRET_BYTES_MAX];
        for number in 0..SECRETS_KIB_MAX / 500 {
            fixture.accept(&operator(), create(&format!("s{number}"), &most));
        }
        let refused = fixture.refuse(&operator(), create("more", &most));
        assert_eq!(refused.kind, RejectionKind::Exhausted);
        assert!(refused.sentence.contains("the maximum is 65536"), "{refused}");
    }

    #[test]
    fn a_reference_names_a_secret_by_id_and_name_and_is_given_the_newest_revision() {
        let mut fixture = Fixture::with_worker();
        let secret = created(&mut fixture, "key");
        let ask = |spec: ServiceSpec| {
            let (spec, secrets) = (Box::new(spec), ServiceSecrets::default());
            Command::CreateService(CreateService { spec, secrets })
        };
        for wrong in [("key", SecretId::default()), ("other", secret)] {
            let refused = fixture.refuse(&operator(), ask(with(&[wrong])));
            assert_eq!(refused.kind, RejectionKind::Invalid);
            assert!(refused.sentence.starts_with(&format!("there is no secret \"{}\"", wrong.0)), "{refused}");
        }
        let mut newer = with(&[("key", secret)]);
        newer.task.as_mut().and_then(|task| task.container.as_mut()).expect("a container").secrets[0].revision = 2;
        assert_eq!(fixture.refuse(&operator(), ask(newer)).sentence, "secret key has no revision 2");
        let service = fixture.service(&with(&[("key", secret)]));
        let spec = &fixture.state.services.get(service).expect("it was created").spec;
        assert_eq!(spec.template().container().secrets[0].revision, 1);
    }

    #[test]
    fn a_secret_stays_as_long_as_a_service_may_need_it() {
        let mut fixture = Fixture::with_worker();
        let [old, new] = ["old", "new"].map(|name| created(&mut fixture, name));
        let service = fixture.service(&with(&[("old", old)]));
        let refused = fixture.refuse(&operator(), remove(old));
        assert_eq!(
            (refused.kind, refused.sentence.as_str()),
            (RejectionKind::Conflict, "secret old is used by service web")
        );
        fixture.accept(&operator(), update(service, with(&[("new", new)])));
        assert_eq!(
            fixture.refuse(&operator(), remove(old)).kind,
            RejectionKind::Conflict,
            "a rollback goes back to it"
        );
        fixture.accept(&operator(), Command::RemoveService(RemoveService { service }));
        for secret in [old, new] {
            fixture.accept(&operator(), remove(secret));
            assert_eq!(fixture.refuse(&operator(), remove(secret)).kind, RejectionKind::NotFound);
        }
    }

    #[test]
    fn new_data_goes_to_the_services_that_follow_and_old_data_is_destroyed_once_nothing_needs_it() {
        let mut fixture = Fixture::with_worker();
        let secret = created(&mut fixture, "key");
        let service = fixture.service(&with(&[("key", secret)]));
        let revise = |data: &[u8]| {
            let data = Some(SecretBytes(data.to_vec()));
            Command::UpdateSecret(UpdateSecret { secret, spec: None, data, version: None })
        };
        let decision = fixture.accept(&operator(), revise(b"new"));
        let names: Vec<&str> = decision.events.iter().map(Kind::name).collect();
        assert_eq!(names, ["secret_revised", "service_spec_updated"]);
        let key = |revision| secret_key(secret, revision);
        assert_eq!(decision.volatile, [VolatilePayload::keep(key(2), "new")], "a rollback goes back to the first");
        let spec = &fixture.state.services.get(service).expect("the service").spec;
        assert_eq!(spec.template().container().secrets[0].revision, 2);
        fixture.accept(&operator(), Command::RemoveService(RemoveService { service }));
        let decision = fixture.accept(&operator(), revise(b"newest"));
        let gone = [1, 2].map(|revision| VolatilePayload::destroy(key(revision)));
        assert_eq!(decision.volatile, [[VolatilePayload::keep(key(3), "newest")].as_slice(), &gone].concat());
    }
}
