//! Frames from which values were erased: what is removed, what stays, and that the result is deterministic.

use super::*;
use crate::{Annotations, ContainerSpec, Event, FrameHeader, Id, ServiceCreated, ServiceSpecUpdated, TaskSpec};

fn spec() -> ServiceSpec {
    let texts = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
    let container = ContainerSpec {
        env: texts(&["LOG=info", "PASSWORD=hunter2", "PASSWORD_FILE=/run/x", "INHERITED"]),
        labels: [("key".to_owned(), "hunter2".to_owned())].into(),
        command: texts(&["sh"]),
        args: texts(&["--password", "hunter2"]),
        ..ContainerSpec::default()
    };
    let annotations = Annotations { name: "web".to_owned(), labels: [("a.b".to_owned(), "hunter2".to_owned())].into() };
    let task = TaskSpec { container: Some(container), ..TaskSpec::default() };
    ServiceSpec { annotations: Some(annotations), task: Some(task), ..ServiceSpec::default() }
}

fn stored(kinds: Vec<Kind>) -> Vec<u8> {
    let events = kinds.into_iter().map(|kind| Event::by_command(0, kind)).collect();
    let header = FrameHeader { index: 7, format: 1, feature_level: 1, ..FrameHeader::default() };
    Frame { header, commands: Vec::new(), events }.encode_to_vec()
}

/// The specs that a frame sets for a service.
fn specs(frame: &Frame, service: ServiceId) -> Vec<&ServiceSpec> {
    codec::kinds(frame).filter_map(spec_set_by).filter(|(of, _)| *of == service).map(|(_, spec)| spec).collect()
}

fn service() -> ServiceId {
    ServiceId::from_bits(3)
}

fn created() -> Vec<u8> {
    stored(vec![Kind::ServiceCreated(Box::new(ServiceCreated { service: service(), spec: spec() }))])
}

#[test]
fn fields_are_named_as_they_are_shown_and_lose_their_value_alone() {
    let table = [
        ("env.PASSWORD", Some("hunter2")),
        ("env.INHERITED", None),
        ("env.PASS", None),
        ("labels.a.b", Some("hunter2")),
        ("labels.a", None),
        ("container.labels.key", Some("hunter2")),
        ("command", Some("sh\0")),
        ("args", Some("--password\0hunter2\0")),
    ];
    for (name, value) in table {
        let field: Field = name.parse().expect("it was just made");
        assert_eq!(field.to_string(), name);
        let mut erased = spec();
        assert_eq!(field.value(&erased).as_deref(), value, "{name}");
        assert_eq!(field.erase(&mut erased, "gone"), value.is_some(), "{name}");
        let shown = field.value(&erased);
        assert_eq!(shown.as_deref().map(|shown| shown.trim_end_matches('\0')), value.map(|_| "gone"), "{name}");
        let others = table.iter().filter(|(other, _)| *other != name);
        for (other, value) in others {
            assert_eq!(
                other.parse::<Field>().expect("it was just made").value(&erased).as_deref(),
                *value,
                "{other} after {name}"
            );
        }
    }
    for name in ["", "env", "env.", "labels.", "image", "replicas", "container.env.A"] {
        assert!(name.parse::<Field>().is_err(), "{name}");
    }
}

#[test]
fn a_redacted_frame_is_read_as_any_other_and_keeps_its_place_in_chain_and_tree() {
    let (plain, field) = (created(), Field::Env("PASSWORD".to_owned()));
    let redacted = redact(&plain, service(), &field, "gone").expect("it was just made");
    assert_eq!((frame::hash(&redacted), frame::leaf(&redacted)), (sha256(&plain), frame::leaf(&plain)));
    assert_ne!(sha256(&redacted), sha256(&plain));
    let frame = codec::decode_frame(&redacted).expect("it was just made");
    assert_eq!(frame.header, codec::decode_frame(&plain).expect("it was just made").header);
    assert_eq!(field.value(specs(&frame, service())[0]).expect("it was just made"), "gone");
    // A second value is erased in the same way, and repeating it changes nothing.
    let both = redact(&redacted, service(), &Field::Args, "gone too").expect("it was just made");
    assert_eq!((frame::hash(&both), frame::leaf(&both)), (frame::hash(&plain), frame::leaf(&plain)));
    assert_eq!(redact(&redacted, service(), &field, "gone").expect("it was just made"), redacted);
    let text = String::from_utf8_lossy(&both);
    // Its labels still contain it.
    assert_eq!(text.matches("hunter2").count(), 2);
}

#[test]
fn only_the_service_that_is_meant_is_redacted() {
    let other = ServiceId::from_bits(4);
    let updated = |service| {
        Kind::ServiceSpecUpdated(Box::new(ServiceSpecUpdated { service, spec: spec(), ..Default::default() }))
    };
    let plain = stored(vec![updated(other), updated(service())]);
    let redacted = redact(&plain, service(), &Field::Args, "gone").expect("it was just made");
    let frame = codec::decode_frame(&redacted).expect("it was just made");
    assert_eq!(specs(&frame, other), [&spec()]);
    assert_ne!(specs(&frame, service()), [&spec()]);
    let refused = redact(&plain, ServiceId::from_bits(5), &Field::Args, "gone").expect_err("it has no such field");
    assert!(refused.contains("frame 7 does not set args"), "{refused}");
    let refused = redact(&plain, service(), &Field::Env("NONE".to_owned()), "gone").expect_err("it has no such field");
    assert!(refused.contains("env.NONE"), "{refused}");
    assert!(redact(b"no frame", service(), &Field::Args, "gone").is_err());
}

#[test]
fn no_other_bytes_are_those_of_a_redacted_frame() {
    let plain = created();
    assert_eq!(original(&plain), None);
    let redacted = redact(&plain, service(), &Field::Args, "gone").expect("it was just made");
    assert!(original(&redacted).is_some());
    for place in [0, 1, 2, 3, 36, 37] {
        let mut changed = redacted.clone();
        changed[place] ^= 1;
        assert_eq!(original(&changed), None, "byte {place}");
        assert_eq!(frame::hash(&changed), sha256(&changed));
    }
    for length in 0..70 {
        assert_eq!(original(&redacted[..length]), None, "{length} bytes");
    }
}

#[test]
fn a_spec_of_the_past_says_what_was_erased_from_it() {
    assert_eq!(redacted_field(&spec()), None);
    for name in ["env.PASSWORD", "labels.a.b", "container.labels.key", "command", "args"] {
        let (mut erased, field) = (spec(), name.parse::<Field>().expect("it was just made"));
        field.erase(&mut erased, &digest(&[1; 32]));
        assert_eq!(redacted_field(&erased), Some(field));
    }
}

#[test]
fn digests_are_known_by_their_form() {
    let made = digest(&[0xab; 32]);
    assert_eq!(made.len(), DIGEST_PREFIX.len() + DIGEST_DIGITS);
    assert!(is_digest(&made) && !is_digest(&made.to_uppercase()) && !is_digest(&made[..80]) && !is_digest("hunter2"));
}
