//! Given events, when a command about a service, then events or a rejection.

use super::*;
use crate::Command;
use crate::testing::{Fixture, operator, replicated, web};
use events::{EnvSecret, GlobalMode, Id, PortConfig, PublishMode, SecretText};

fn create(spec: &ServiceSpec, auth: Option<&str>) -> Command {
    Command::CreateService(crate::CreateService { spec: Box::new(spec.clone()), secrets: auth_only(auth) })
}

fn update(service: ServiceId, spec: &ServiceSpec, version: Option<u64>, auth: Option<&str>) -> Command {
    Command::UpdateService(crate::UpdateService {
        service,
        spec: Box::new(spec.clone()),
        version,
        secrets: auth_only(auth),
    })
}

fn auth_only(auth: Option<&str>) -> ServiceSecrets {
    ServiceSecrets { registry_auth: auth.map(|auth| SecretText(auth.into())), ..Default::default() }
}

/// Secret variables that come with a command.
fn env(values: &[(&str, &str)]) -> ServiceSecrets {
    let env = values.iter().map(|(name, value)| ((*name).to_owned(), SecretText((*value).to_owned())));
    ServiceSecrets { env: env.collect(), ..Default::default() }
}

fn scale(service: ServiceId, replicas: u64) -> Command {
    Command::ScaleService(crate::ScaleService { service, replicas })
}

fn with_key(spec: &ServiceSpec, key: &str) -> ServiceSpec {
    with_credentials(spec, key.to_owned())
}

fn with_image(image: &str) -> ServiceSpec {
    let mut spec = web();
    spec.task.get_or_insert_default().container.get_or_insert_default().image = image.into();
    spec
}

fn global(name: &str) -> ServiceSpec {
    ServiceSpec { mode: Some(Mode::Global(GlobalMode {})), ..replicated(name, 1) }
}

fn spec_of(fixture: &Fixture, id: ServiceId) -> &ServiceSpec {
    &fixture.state.services.get(id).expect("the service").spec
}

#[test]
fn a_service_is_made_as_its_user_wrote_it() {
    let mut fixture = Fixture::with_worker();
    let spec = web();
    let decision = fixture.accept(&operator(), create(&spec, None));
    let id: ServiceId = decision.subject.expect("a subject").parse().expect("a service's id");
    assert_eq!(decision.events, [Kind::ServiceCreated(Box::new(ServiceCreated { service: id, spec: spec.clone() }))]);
    assert_eq!(decision.volatile, []);
    assert_eq!(*spec_of(&fixture, id), spec);
}

#[test]
fn names_are_taken_without_regard_to_case() {
    let mut fixture = Fixture::with_worker();
    let id = fixture.service(&web());
    let refused = fixture.refuse(&operator(), create(&replicated("WEB", 1), None));
    assert_eq!(refused.kind, RejectionKind::Exists);
    assert!(refused.sentence.contains(&id.to_string()), "{}", refused.sentence);
    fixture.accept(&operator(), Command::RemoveService(crate::RemoveService { service: id }));
    fixture.service(&replicated("WEB", 1));
}

#[test]
fn an_unsound_spec_is_refused_by_create_and_update() {
    let mut fixture = Fixture::with_worker();
    let id = fixture.service(&web());
    let spec = with_image("Not An Image");
    for command in [create(&spec, None), update(id, &spec, None, None)] {
        let refused = fixture.refuse(&operator(), command);
        assert_eq!((refused.kind, refused.subject.as_str()), (RejectionKind::Invalid, "service web"));
    }
    let named = fixture.refuse(&operator(), create(&replicated(&"x\n".repeat(500), 1), None));
    assert!(named.subject.len() < 200 && !named.subject.contains('\n'), "{}", named.subject);
}

#[test]
fn credentials_are_kept_apart_from_the_spec_and_destroyed_with_the_service() {
    let mut fixture = Fixture::with_worker();
    let decision = fixture.accept(&operator(), create(&web(), Some("user:pass")));
    let id: ServiceId = decision.subject.expect("a subject").parse().expect("a service's id");
    let key = format!("registry-auth/{id}");
    assert_eq!(decision.volatile, [VolatilePayload::keep(key.as_str(), "user:pass")]);
    assert_eq!(*spec_of(&fixture, id), with_key(&web(), &key));

    // Without new ones the old ones are kept, whatever name the client writes.
    for written in ["", key.as_str(), "root-ca/key"] {
        let decision = fixture.accept(&operator(), update(id, &with_key(&web(), written), None, None));
        assert_eq!((decision.events, decision.volatile), (vec![], vec![]), "{written}");
    }
    let decision = fixture.accept(&operator(), update(id, &web(), None, Some("user:new")));
    assert_eq!(decision.events.len(), 1);
    assert_eq!(decision.volatile, [VolatilePayload::keep(key.as_str(), "user:new")]);

    let decision = fixture.accept(&operator(), Command::RemoveService(crate::RemoveService { service: id }));
    assert_eq!(decision.volatile, [VolatilePayload::destroy(key)]);
}

#[test]
fn credentials_have_a_limit_and_are_not_repeated() {
    let mut fixture = Fixture::with_worker();
    let longest = "s".repeat(validate::CREDENTIALS_BYTES_MAX);
    let too_long = format!("{longest}s");
    let refused = fixture.refuse(&operator(), create(&web(), Some(&too_long)));
    assert_eq!(refused.kind, RejectionKind::Exhausted);
    assert_eq!(refused.sentence, "the registry credentials have 65537 bytes; the maximum is 65536");
    fixture.accept(&operator(), create(&web(), Some(&longest)));
    let id = fixture.state.service_named("web").expect("the service").id;
    assert_eq!(fixture.refuse(&operator(), update(id, &web(), None, Some(&too_long))).kind, RejectionKind::Exhausted);
}

#[test]
fn no_user_names_a_secret_of_the_cluster() {
    let mut fixture = Fixture::with_worker();
    let id = fixture.service(&with_key(&web(), "root-ca/key"));
    assert_eq!(spec_of(&fixture, id).template().container().registry_auth_key, "");
    let removed = fixture.accept(&operator(), Command::RemoveService(crate::RemoveService { service: id }));
    assert_eq!(removed.volatile, [VolatilePayload::destroy(format!("registry-auth/{id}"))]);
}

#[test]
fn an_update_needs_the_present_version_and_a_difference() {
    let mut fixture = Fixture::with_worker();
    let id = fixture.service(&web());
    let version = fixture.state.services.get(id).expect("the service").version;
    assert_eq!(fixture.accept(&operator(), update(id, &web(), Some(version), None)).events, []);

    let spec = with_image("busybox:next");
    let decision = fixture.accept(&operator(), update(id, &spec, Some(version), None));
    let change = SpecChange::Update.into();
    assert_eq!(
        decision.events,
        [Kind::ServiceSpecUpdated(Box::new(ServiceSpecUpdated { service: id, spec, change, ..Default::default() }))]
    );
    let stale = fixture.refuse(&operator(), update(id, &web(), Some(version), None));
    assert_eq!(stale.kind, RejectionKind::Conflict);
    assert!(stale.sentence.contains("out of sequence"), "{}", stale.sentence);

    let mut forced = with_image("busybox:next");
    forced.task.get_or_insert_default().force_update = 1;
    assert_eq!(fixture.accept(&operator(), update(id, &forced, None, None)).events.len(), 1);
}

#[test]
fn a_service_keeps_its_name_and_its_mode() {
    let mut fixture = Fixture::with_worker();
    let id = fixture.service(&web());
    for (spec, word) in
        [(replicated("api", 1), "renamed"), (replicated("Web", 1), "renamed"), (global("web"), "become")]
    {
        let refused = fixture.refuse(&operator(), update(id, &spec, None, None));
        assert_eq!(refused.kind, RejectionKind::Invalid);
        assert!(refused.sentence.contains(word), "{}", refused.sentence);
    }
    // A spec without a mode means one replica, so stating that explicitly is no change of mode.
    let modeless = ServiceSpec { mode: None, ..web() };
    assert_eq!(fixture.accept(&operator(), update(id, &modeless, None, None)).events.len(), 1);
}

#[test]
fn scaling_changes_the_number_only() {
    let mut fixture = Fixture::with_worker();
    let id = fixture.service(&replicated("web", 3));
    let template = fixture.state.services.get(id).expect("the service").template_version;
    let decision = fixture.accept(&operator(), scale(id, 6));
    assert_eq!(decision.events, [Kind::ServiceScaled(ServiceScaled { service: id, from: 3, to: 6, reason: None })]);
    let service = fixture.state.services.get(id).expect("the service");
    assert_eq!((service.spec.replicas(), service.template_version), (Some(6), template));
    assert_eq!(fixture.accept(&operator(), scale(id, 6)).events, []);
    assert_eq!(fixture.accept(&operator(), scale(id, 0)).events.len(), 1);
    let updated = fixture.accept(&operator(), update(id, &replicated("web", 3), None, None));
    assert_eq!(updated.events, [Kind::ServiceScaled(ServiceScaled { service: id, from: 0, to: 3, reason: None })]);
    assert_eq!(fixture.refuse(&operator(), scale(id, validate::REPLICAS_MAX + 1)).kind, RejectionKind::Exhausted);
}

#[test]
fn a_global_service_is_not_scaled() {
    let mut fixture = Fixture::with_worker();
    let id = fixture.service(&global("agent"));
    let refused = fixture.refuse(&operator(), scale(id, 2));
    assert_eq!(refused.kind, RejectionKind::Invalid);
    assert!(refused.sentence.contains("global"), "{}", refused.sentence);
}

#[test]
fn what_is_not_there_is_not_found() {
    let fixture = Fixture::with_worker();
    let id = ServiceId::from_bits(9);
    for command in
        [update(id, &web(), None, None), scale(id, 2), Command::RemoveService(crate::RemoveService { service: id })]
    {
        assert_eq!(fixture.refuse(&operator(), command).kind, RejectionKind::NotFound);
    }
}

#[test]
fn two_services_may_publish_the_same_port_on_their_nodes() {
    let mut fixture = Fixture::with_worker();
    let host = PublishMode::Host.into();
    for name in ["one", "two"] {
        let mut spec = replicated(name, 1);
        let port = PortConfig { target_port: 80, published_port: 8080, publish_mode: host, ..Default::default() };
        spec.endpoint.get_or_insert_default().ports.push(port);
        fixture.service(&spec);
    }
}

/// The names and keys of the secret variables in a service's current spec.
fn env_of(fixture: &Fixture, id: ServiceId) -> Vec<EnvSecret> {
    spec_of(fixture, id).template().container().env_secrets.clone()
}

fn update_env(
    fixture: &mut Fixture,
    id: ServiceId,
    edit: impl FnOnce(&mut ServiceSpec),
    values: &[(&str, &str)],
) -> Decision {
    let mut spec = spec_of(fixture, id).clone();
    edit(&mut spec);
    let update = Command::UpdateService(crate::UpdateService {
        service: id,
        spec: Box::new(spec),
        version: None,
        secrets: env(values),
    });
    fixture.accept(&operator(), update)
}

#[test]
fn values_of_secret_variables_are_kept_apart_from_spec_and_events() {
    let mut fixture = Fixture::with_worker();
    let secrets = env(&[("TOKEN", "the-marker"), ("OTHER", "the-marker-too")]);
    let decision =
        fixture.accept(&operator(), Command::CreateService(crate::CreateService { spec: Box::new(web()), secrets }));
    let id: ServiceId = decision.subject.expect("a subject").parse().expect("a service's id");
    let placed = env_of(&fixture, id);
    assert_eq!(placed.iter().map(|secret| secret.name.as_str()).collect::<Vec<_>>(), ["OTHER", "TOKEN"]);
    let values =
        [&placed[0], &placed[1]].map(|secret| secret.key.as_str()).into_iter().zip(["the-marker-too", "the-marker"]);
    assert_eq!(decision.volatile, values.map(|(key, value)| VolatilePayload::keep(key, value)).collect::<Vec<_>>());
    for kind in decision.events {
        let bytes = prost::Message::encode_to_vec(&events::Event::by_command(0, kind));
        assert!(!bytes.windows(10).any(|window| window == b"the-marker"));
    }
    let removed = fixture.accept(&operator(), Command::RemoveService(crate::RemoveService { service: id }));
    let destroyed =
        removed.volatile.into_iter().filter(|payload| payload.value.is_none()).map(|payload| payload.key.clone());
    assert!(placed.iter().all(|secret| destroyed.clone().any(|key| key == secret.key)));
}

#[test]
fn a_new_value_replaces_tasks_and_the_old_one_stays_as_long_as_it_may_be_needed() {
    let mut fixture = Fixture::with_worker();
    let create =
        Command::CreateService(crate::CreateService { spec: Box::new(web()), secrets: env(&[("A", "1"), ("B", "1")]) });
    let id = fixture.accept(&operator(), create).subject.expect("a subject").parse().expect("a service's id");
    let first = env_of(&fixture, id);
    let template = fixture.state.services.get(id).expect("the service").template_version;
    // A spec as a client reads it and sends it back, without values.
    assert_eq!(update_env(&mut fixture, id, |_| (), &[]).events, []);
    let second = update_env(&mut fixture, id, |_| (), &[("A", "2")]);
    assert!(second.volatile.iter().all(|payload| payload.value.is_some()), "the spec before may be rolled back to");
    let placed = env_of(&fixture, id);
    assert_ne!(placed[0].key, first[0].key);
    assert_eq!(placed[1], first[1], "the other one stays");
    assert!(fixture.state.services.get(id).expect("the service").template_version > template, "tasks are replaced");
    let third = update_env(&mut fixture, id, |_| (), &[("A", "3")]);
    assert!(third.volatile.iter().all(|payload| payload.value.is_some()), "tasks may still run the second");
    let without = |spec: &mut ServiceSpec| {
        spec.task.get_or_insert_default().container.get_or_insert_default().env_secrets.clear();
    };
    let fourth = update_env(&mut fixture, id, without, &[]);
    // The first was the last one rolled out, so a rollback returns to it; nothing returns to the second.
    assert_eq!(fourth.volatile, [VolatilePayload::destroy(&placed[0].key)]);
    let kept = &fixture.state.services.get(id).expect("the service").env_secrets;
    assert!(kept.contains(&first[0].key) && !kept.contains(&placed[0].key));
    assert_eq!(env_of(&fixture, id), []);
}

#[test]
fn a_secret_variable_needs_a_value_of_its_own_service() {
    let mut fixture = Fixture::with_worker();
    let create = |name: &str| {
        Command::CreateService(crate::CreateService {
            spec: Box::new(replicated(name, 1)),
            secrets: env(&[("A", "1")]),
        })
    };
    let other: ServiceId = fixture.accept(&operator(), create("other")).subject.expect("one").parse().expect("an id");
    let stolen = env_of(&fixture, other).remove(0).key;
    for key in ["root-ca/key", stolen.as_str()] {
        let mut spec = web();
        let secret = EnvSecret { name: "A".into(), key: key.into() };
        spec.task.get_or_insert_default().container.get_or_insert_default().env_secrets.push(secret);
        let refused = fixture.refuse(&operator(), super::tests::create(&spec, None));
        assert_eq!(refused.sentence, "the secret variable \"A\" has no value");
    }
    let given_twice = with_env("A=1");
    let command =
        Command::CreateService(crate::CreateService { spec: Box::new(given_twice), secrets: env(&[("A", "1")]) });
    assert!(fixture.refuse(&operator(), command).sentence.contains("given twice"));
}

fn with_env(entry: &str) -> ServiceSpec {
    let mut spec = web();
    spec.task.get_or_insert_default().container.get_or_insert_default().env = vec![entry.into()];
    spec
}

fn rollback(service: ServiceId, to: Option<(u64, ServiceSpec)>) -> Command {
    let to = to.map(|(revision, spec)| Box::new(crate::RevisionSpec { revision, spec }));
    Command::RollbackService(crate::RollbackService { service, to })
}

/// Every task has the current spec.
fn complete(fixture: &mut Fixture, service: ServiceId) {
    fixture.given([Kind::UpdateCompleted(events::UpdateCompleted { service, rollback: None })]);
}

fn image_of(fixture: &Fixture, id: ServiceId) -> &str {
    &spec_of(fixture, id).template().container().image
}

#[test]
fn a_rollback_goes_back_to_what_was_rolled_out_last_and_keeps_the_number_of_replicas() {
    let mut fixture = Fixture::with_worker();
    let id = fixture.service(&web());
    let refused = fixture.refuse(&operator(), rollback(id, None));
    assert_eq!(refused.kind, RejectionKind::Conflict);
    assert_eq!(refused.sentence, "service web has no earlier spec whose rollout was completed");

    // An update that was not completed is no target of a rollback.
    for image in ["busybox:2", "busybox:3"] {
        fixture.accept(&operator(), update(id, &with_image(image), None, None));
    }
    fixture.accept(&operator(), scale(id, 6));
    let decision = fixture.accept(&operator(), rollback(id, None));
    assert_eq!(
        decision.events.iter().map(Kind::name).collect::<Vec<_>>(),
        ["service_spec_updated", "rollback_started"]
    );
    assert_eq!(image_of(&fixture, id), web().template().container().image);
    assert_eq!(spec_of(&fixture, id).replicas(), Some(6));
    assert_eq!(fixture.refuse(&operator(), rollback(id, None)).kind, RejectionKind::Conflict);

    complete(&mut fixture, id);
    fixture.accept(&operator(), update(id, &with_image("busybox:4"), None, None));
    complete(&mut fixture, id);
    fixture.accept(&operator(), rollback(id, None));
    assert_eq!(image_of(&fixture, id), web().template().container().image);
    // Two rollbacks cancel each other.
    fixture.accept(&operator(), rollback(id, None));
    assert_eq!(image_of(&fixture, id), "busybox:4");
}

#[test]
fn a_rollback_to_a_revision_takes_its_spec_from_history() {
    let mut fixture = Fixture::with_worker();
    let id = fixture.service(&web());
    let first = (fixture.state.services.get(id).expect("the service").version, web());
    fixture.accept(&operator(), update(id, &with_image("busybox:2"), None, None));
    let decision = fixture.accept(&operator(), rollback(id, Some(first.clone())));
    let Some(Kind::ServiceSpecUpdated(updated)) = decision.events.first() else { panic!("a spec is put back") };
    assert_eq!((updated.restored, updated.change()), (Some(first.0), SpecChange::ManualRollback));
    let refused = fixture.refuse(&operator(), rollback(id, Some(first.clone())));
    assert_eq!(refused.sentence, format!("service web already has the spec of revision {}", first.0));
    let other = (first.0, global("web"));
    assert_eq!(fixture.refuse(&operator(), rollback(id, Some(other))).kind, RejectionKind::Invalid);
}

#[test]
fn a_rollback_needs_the_secret_values_of_its_revision() {
    let mut fixture = Fixture::with_worker();
    let with_env = |spec: &ServiceSpec| {
        Command::CreateService(crate::CreateService { spec: Box::new(spec.clone()), secrets: env(&[("TOKEN", "a")]) })
    };
    let decision = fixture.accept(&operator(), with_env(&web()));
    let id: ServiceId = decision.subject.expect("a subject").parse().expect("a service's id");
    let first = (1, spec_of(&fixture, id).clone());
    // The variable is removed, and its value once no rollback can need it.
    for image in ["busybox:2", "busybox:3", "busybox:4"] {
        fixture.accept(&operator(), update(id, &with_image(image), None, None));
        complete(&mut fixture, id);
    }
    let refused = fixture.refuse(&operator(), rollback(id, Some(first)));
    assert_eq!(refused.kind, RejectionKind::Conflict);
    assert!(refused.sentence.contains("TOKEN") && refused.sentence.contains("destroyed"), "{}", refused.sentence);
}

#[test]
fn only_an_update_that_is_under_way_is_paused_and_only_a_paused_one_resumed() {
    let mut fixture = Fixture::with_worker();
    let id = fixture.service(&web());
    let (pause, resume) = (
        || Command::PauseUpdate(crate::PauseUpdate { service: id }),
        || Command::ResumeUpdate(crate::ResumeUpdate { service: id }),
    );
    for command in [pause(), resume()] {
        assert_eq!(fixture.refuse(&operator(), command).kind, RejectionKind::Conflict);
    }
    fixture.accept(&operator(), update(id, &with_image("busybox:2"), None, None));
    assert_eq!(fixture.accept(&operator(), resume()).events, []);
    let reason = "update paused on request".to_owned();
    let paused = Kind::UpdatePaused(events::UpdatePaused { service: id, reason, rollback: None });
    assert_eq!(fixture.accept(&operator(), pause()).events, [paused]);
    assert_eq!(fixture.accept(&operator(), pause()).events, []);
    let resumed = Kind::UpdateResumed(events::UpdateResumed { service: id, rollback: None });
    assert_eq!(fixture.accept(&operator(), resume()).events, [resumed]);
    complete(&mut fixture, id);
    assert_eq!(fixture.refuse(&operator(), pause()).kind, RejectionKind::Conflict);
}
