//! Erases a value from history. The core reads no history: the command contains the affected frames and the hashes of their bytes
//! without the value. Here it is judged whether the cluster still needs the value.

use events::redaction::{self, FRAMES_MAX, Field};
use events::{
    HistoryRedacted, Kind, OperatorRole, RedactedBytes, SecretBytes, SecretText, ServiceId, ServiceSpec,
    VolatilePayload,
};
use projections::settings::REDACTION_KEY;
use projections::{Cluster, Service};

use crate::verb::{AllowedActor, Verb};
use crate::{Ctx, Decision, Rejection, RejectionKind, require_level};

/// Maximum total of redacted frames: the state keeps 40 bytes for each.
const REDACTED_MAX: usize = 65_536;

/// Erases a value from the frames of history that contain it in a field of a service's spec.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RedactHistory {
    /// The service.
    pub service: ServiceId,
    /// The field, as text.
    pub field: String,
    /// The value.
    pub value: SecretText,
    /// The digest that replaces it.
    pub digest: String,
    /// The key of the digest, if the cluster had none.
    pub key: Option<SecretBytes>,
    /// All frames that contain the value, with the hash of their bytes without it.
    pub frames: Vec<RedactedBytes>,
    /// Index of the last frame that was searched.
    pub read_to: u64,
}

impl Verb for RedactHistory {
    fn name(&self) -> &'static str {
        "history.redact"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Admin)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        true
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let Self { service, field, value, digest, key, frames, read_to } = self;
        let (service, subject) = (*service, format!("field {field}"));
        let named: Field = field
            .parse()
            .map_err(|why: String| Rejection::invalid(&subject, format!("no value can be erased from {field}"), why))?;
        require_level(state, redaction::FEATURE_LEVEL, &subject, "redacted frames")?;
        self.require_plausible(state)?;
        let present = state.services.get(service);
        let is_stale = present.is_some_and(|service| service.version > *read_to) || state.redacted_at() > *read_to;
        if is_stale || state.redactions.is_empty() != key.is_some() {
            let sentence = "the service or the redactions of history changed in the meantime";
            return Err(Rejection::conflict(subject, sentence, "try again"));
        }
        let holds = |spec: &ServiceSpec| named.value(spec).as_deref() == Some(value.0.as_str());
        if let Some(service) = present {
            not_needed(service, &named, holds)?;
        }
        let revisions = state.revisions.range((service, 0)..=(service, u64::MAX));
        let revisions: Vec<u64> =
            revisions.filter(|(_, revision)| holds(&revision.spec)).map(|((_, version), _)| version).collect();
        let runs = |version| move |task: &&projections::Task| task.spec_version == version && !task.state.is_terminal();
        if let Some(task) = revisions.iter().find_map(|version| state.tasks_of_service(service).find(runs(*version))) {
            let sentence = format!("task {} has not stopped yet, and has the value in {field}", task.id);
            return Err(Rejection::conflict(
                subject,
                sentence,
                "wait until it has stopped, or remove it: `swarmctl task rm`",
            ));
        }
        let name = present.map_or_else(|| service.to_string(), |service| service.spec.name().to_owned());
        let unit = if frames.len() == 1 { "frame" } else { "frames" };
        let what = format!("{field} of {name} in {} {unit} of history", frames.len());
        let (field, digest, frames) = (field.clone(), digest.clone(), frames.clone());
        let redacted = HistoryRedacted { service, field, digest, frames, revisions };
        let volatile = key.iter().map(|key| VolatilePayload::keep(REDACTION_KEY, key.0.as_slice())).collect();
        Ok(Decision { volatile, ..Decision::one(what, Kind::HistoryRedacted(redacted)) })
    }
}

impl RedactHistory {
    /// Checks that a manager's reading of history is plausible.
    fn require_plausible(&self, state: &Cluster) -> Result<(), Rejection> {
        let (frames, subject) = (&self.frames, format!("field {}", self.field));
        let in_order = frames.windows(2).all(|pair| pair[0].index < pair[1].index);
        let is_read =
            frames.last().is_some_and(|last| last.index <= self.read_to) && self.read_to <= state.position.index;
        let hashed = frames.iter().all(|frame| frame.sha256.len() == size_of::<events::frame::FrameHash>());
        if !(in_order && is_read && hashed && redaction::is_digest(&self.digest)) {
            let sentence =
                "the frames to be redacted are not frames of this history, in their order, with a hash and a digest";
            return Err(Rejection::invalid(subject, sentence, "use the swarmctl and swarmd of this version"));
        }
        let before: usize = state.redactions.values().map(|redaction| redaction.frames.len()).sum();
        let (most, many) = if frames.len() > FRAMES_MAX {
            (FRAMES_MAX, format!("{} frames have the value", frames.len()))
        } else if before + frames.len() > REDACTED_MAX {
            (REDACTED_MAX, format!("{before} frames are redacted, and {} more would be", frames.len()))
        } else {
            return Ok(());
        };
        let hint = "restore a backup from before the value was set as another cluster, if the value must go";
        Err(Rejection::new(RejectionKind::Exhausted, subject, format!("{many}; the maximum is {most}"), hint))
    }
}

/// Neither the current spec nor the target of a rollback may contain the value: it would reappear.
fn not_needed(service: &Service, field: &Field, holds: impl Fn(&ServiceSpec) -> bool) -> Result<(), Rejection> {
    let name = service.spec.name();
    let (whose, hint) = if holds(&service.spec) {
        ("now", format!("update it first, so that {field} has another value or none: `swarmctl service update {name}`"))
    } else if service.previous.as_deref().is_some_and(holds) {
        let hint = format!(
            "let another update complete first, such as `swarmctl service update --force {name}`: a rollback goes back to the \
             spec before that then"
        );
        ("in the spec that a rollback would restore", hint)
    } else {
        return Ok(());
    };
    let sentence = format!("service {name} has the value in {field} {whose}");
    Err(Rejection::conflict(format!("service {name}"), sentence, hint))
}

#[cfg(test)]
mod tests {
    use events::{TaskReported, TaskState, TaskStatus, UpdateCompleted};

    use super::*;
    use crate::testing::{Fixture, operator, web};
    use crate::{Command, ServiceSecrets, UpdateService};

    fn with_password(value: &str) -> ServiceSpec {
        let mut spec = web();
        let container = spec.task.as_mut().expect("it is there").container.as_mut().expect("it is there");
        container.env = vec![format!("PASSWORD={value}")];
        spec
    }

    fn update(fixture: &mut Fixture, service: ServiceId, value: &str) {
        let version = Some(fixture.state.services.get(service).expect("it is there").version);
        let spec = Box::new(with_password(value));
        let command = UpdateService { service, spec, version, secrets: ServiceSecrets::default() };
        fixture.accept(&operator(), Command::UpdateService(command));
        fixture.given([Kind::UpdateCompleted(UpdateCompleted { service, rollback: None })]);
    }

    fn redact(fixture: &Fixture, service: ServiceId, value: &str) -> RedactHistory {
        let first = fixture.state.services.get(service).expect("it is there").spec_changes[0];
        RedactHistory {
            service,
            field: "env.PASSWORD".to_owned(),
            value: SecretText(value.to_owned()),
            digest: redaction::digest(&[7; 32]),
            key: fixture.state.redactions.is_empty().then(|| SecretBytes(vec![7; 32])),
            frames: vec![RedactedBytes { index: first, sha256: vec![7; 32] }],
            read_to: fixture.state.position.index,
        }
    }

    /// A cluster with the required feature level and a service that has this value.
    fn fixture() -> (Fixture, ServiceId) {
        let mut fixture = Fixture::with_worker();
        let level = events::FeatureLevelRaised { level: redaction::FEATURE_LEVEL };
        fixture.given([Kind::FeatureLevelRaised(level)]);
        let service = fixture.service(&with_password("hunter2"));
        (fixture, service)
    }

    #[test]
    fn a_value_goes_once_nothing_can_need_it() {
        let (mut fixture, service) = fixture();
        let node = events::Id::from_bits(2);
        let task = fixture.task(7, service, Some((node, TaskState::Running)));
        let refuse = |fixture: &Fixture, sentence: &str| {
            let refused = fixture.refuse(&operator(), Command::RedactHistory(redact(fixture, service, "hunter2")));
            assert!(refused.kind == RejectionKind::Conflict && refused.sentence.contains(sentence), "{refused:?}");
            assert!(!format!("{refused:?}").contains("hunter2"));
        };
        refuse(&fixture, "has the value in env.PASSWORD now");
        update(&mut fixture, service, "another");
        refuse(&fixture, "in the spec that a rollback would restore");
        update(&mut fixture, service, "a third");
        refuse(&fixture, "has not stopped yet");
        let status = TaskStatus { state: TaskState::Shutdown.into(), ..crate::testing::status(TaskState::Shutdown) };
        fixture.given([Kind::TaskReported(TaskReported { task, status })]);
        let decision = fixture.accept(&operator(), Command::RedactHistory(redact(&fixture, service, "hunter2")));
        let Kind::HistoryRedacted(event) = &decision.events[0] else { panic!("{decision:?}") };
        assert_eq!((event.revisions.len(), decision.volatile.len()), (1, 1), "the finished task's spec, and the key");
        let spec = &fixture.state.revisions.get((service, event.revisions[0])).expect("it is there").spec;
        assert_eq!(spec.template().container().env, [format!("PASSWORD={}", redaction::digest(&[7; 32]))]);
        // The key is kept, and another value may be erased.
        let second = redact(&fixture, service, "another");
        assert_eq!(second.key, None);
        refuse_stale(&fixture, &second);
    }

    fn refuse_stale(fixture: &Fixture, redact: &RedactHistory) {
        for stale in [
            RedactHistory { read_to: redact.read_to - 1, ..redact.clone() },
            RedactHistory { key: Some(SecretBytes(vec![8; 32])), ..redact.clone() },
        ] {
            let refused = fixture.refuse(&operator(), Command::RedactHistory(stale));
            assert!(refused.sentence.contains("changed in the meantime"), "{refused:?}");
        }
    }

    #[test]
    fn what_was_not_read_of_this_history_is_refused() {
        let (fixture, service) = fixture();
        let sound = redact(&fixture, service, "never set");
        let frame = |index| RedactedBytes { index, sha256: vec![7; 32] };
        let table: [fn(&mut RedactHistory); 7] = [
            |redact| redact.field = "image".to_owned(),
            |redact| redact.frames.clear(),
            |redact| redact.frames[0].sha256.truncate(31),
            |redact| redact.digest.truncate(60),
            |redact| redact.read_to += 1,
            |redact| redact.frames = vec![redact.frames[0].clone(); 2],
            |redact| redact.frames[0].index = redact.read_to + 1,
        ];
        for (number, spoil) in table.into_iter().enumerate() {
            let mut redact = sound.clone();
            spoil(&mut redact);
            assert_eq!(
                fixture.refuse(&operator(), Command::RedactHistory(redact)).kind,
                RejectionKind::Invalid,
                "row {number}"
            );
        }
        let mut many = sound.clone();
        many.frames = (0..=FRAMES_MAX as u64).map(frame).collect();
        many.read_to = fixture.state.position.index;
        let refused = fixture.refuse(&operator(), Command::RedactHistory(many));
        assert_eq!(refused.kind, RejectionKind::Invalid, "history is not that long: {refused:?}");
    }

    #[test]
    fn a_cluster_below_the_level_refuses() {
        let mut fixture = Fixture::with_worker();
        let service = fixture.service(&with_password("hunter2"));
        if fixture.state.feature_level() < redaction::FEATURE_LEVEL {
            let refused = fixture.refuse(&operator(), Command::RedactHistory(redact(&fixture, service, "none")));
            assert!(refused.sentence.contains("not every manager"), "{refused:?}");
        } else {
            panic!("a fixture is at the lowest level until it is raised");
        }
    }
}
