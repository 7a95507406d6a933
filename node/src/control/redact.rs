//! Erases a value from history: finds the value and its frames, and their bytes without it.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_lc_rs::hmac;
use bytes::Bytes;
use commands::{Rejection, RejectionKind, SecretBytes, SecretText};
use events::redaction::{self, Field};
use events::{Frame, RedactedBytes, ServiceId, codec};
use projections::settings::REDACTION_KEY;
use wire::v1::{EventsRequest, RedactHistory};

use super::event_reader::EventReader;
use super::unlock::redaction_key;
use super::{Control, unreadable};
use crate::log::frame_at;
use crate::manager::redactor;

/// The event kinds that contain a service spec.
const SPEC_KINDS: [&str; 2] = ["service_created", "service_spec_updated"];

impl Control {
    /// The command that erases the value of a field in a frame from all frames of the service with the same value. Blocks on
    /// disk I/O.
    ///
    /// # Errors
    /// When the frame has no value for the field, or history cannot be read.
    pub(super) fn redact_history(&self, asked: RedactHistory) -> Result<commands::RedactHistory, Rejection> {
        let RedactHistory { index, field, service } = asked;
        let subject = format!("field {field}");
        let named: Field = field.parse().map_err(|why: String| {
            Rejection::invalid(&subject, format!("no value can be erased from {}", events::escape::line(&field)), why)
        })?;
        let cluster = &self.state.cluster;
        let given = values_in(&self.frame(index)?.1, &named);
        let (service, value) = self.choose_service(given, service.as_deref(), index, &field)?;
        if redaction::is_digest(&value.0) {
            let sentence = format!("what frame {index} gave {field} was erased already");
            return Err(Rejection::conflict(
                subject,
                sentence,
                "`swarmctl events --kind history_redacted` shows by whom",
            ));
        }
        let present = self.state.keyring.get(REDACTION_KEY).map(|key| SecretBytes(key.reveal().to_vec()));
        let (key, new) = match present {
            Some(key) => (key, None),
            None => {
                let key = redaction_key()?;
                (key.clone(), Some(key))
            }
        };
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key.0), value.0.as_bytes());
        let tag = tag
            .as_ref()
            .try_into()
            .map_err(|_| Rejection::invalid(&subject, "the digest is no SHA-256", "report this as a bug"))?;
        let (digest, read_to) = (redaction::digest(&tag), cluster.position.index);
        let mut frames = Vec::new();
        for index in self.frames_with(service, &named, &value, read_to)? {
            let failed = |reason: String| {
                Rejection::new(RejectionKind::Unavailable, "history", reason, "see the manager's own log")
            };
            let before =
                redactor::redacted(cluster.redactions_of(index), index, &self.frame(index)?.0).map_err(failed)?;
            let bytes = redaction::redact(&before, service, &named, &digest).map_err(failed)?;
            frames.push(RedactedBytes { index, sha256: redaction::sha256(&bytes).to_vec() });
        }
        Ok(commands::RedactHistory { service, field, value, digest, key: new, frames, read_to })
    }

    /// The service whose value is to be erased, of those with a value in the frame.
    fn choose_service(
        &self,
        mut given: Vec<(ServiceId, String)>,
        reference: Option<&str>,
        index: u64,
        field: &str,
    ) -> Result<(ServiceId, SecretText), Rejection> {
        let name = |id: ServiceId| {
            let service = self.state.cluster.services.get(id);
            service.map_or_else(|| id.to_string(), |service| service.spec.name().to_owned())
        };
        if let Some(reference) = reference {
            given.retain(|(id, _)| id.to_string() == reference || name(*id).eq_ignore_ascii_case(reference));
        }
        let (last, names) = (given.pop(), given.iter().map(|(id, _)| name(*id)).collect::<Vec<_>>());
        let Some((service, value)) = last else {
            let of = reference.map_or_else(String::new, |of| format!(" of {}", events::escape::line(of)));
            let sentence = format!("frame {index} gave {}{of} no value", events::escape::line(field));
            let hint = "`swarmctl blame service NAME --all` shows which frame gave which field its value";
            return Err(Rejection::new(RejectionKind::NotFound, format!("frame {index}"), sentence, hint));
        };
        if names.is_empty() {
            return Ok((service, SecretText(value)));
        }
        let sentence = format!("frame {index} gave {field} a value for {} services", names.len() + 1);
        let hint = format!("say which is meant with --service: {}, {}", names.join(", "), name(service));
        Err(Rejection::invalid(format!("frame {index}"), sentence, hint))
    }

    /// The frames in which a field of a service has this value, in order.
    fn frames_with(
        &self,
        service: ServiceId,
        field: &Field,
        value: &SecretText,
        read_to: u64,
    ) -> Result<BTreeSet<u64>, Rejection> {
        let cluster = &self.state.cluster;
        let kinds = SPEC_KINDS.map(str::to_owned).to_vec();
        let request =
            EventsRequest { object: Some(service.to_string()), kinds, to: Some(read_to), ..Default::default() };
        let mut reader = EventReader::open(Arc::clone(&self.store), cluster, request)?;
        let mut found = BTreeSet::new();
        while let Some(page) = reader.page(cluster)? {
            for record in page {
                let given = record.event.kind.as_ref().and_then(redaction::spec_set_by);
                let given = given.filter(|(of, _)| *of == service).and_then(|(_, spec)| field.value(spec));
                if given.is_some_and(|given| given == value.0) {
                    found.insert(record.index);
                }
            }
        }
        Ok(found)
    }

    /// The frame at an index, with its stored bytes.
    fn frame(&self, index: u64) -> Result<(Bytes, Frame), Rejection> {
        let stored = frame_at(&*self.store, index).map_err(|error| unreadable(&error))?.ok_or_else(|| {
            let hint = "`swarmctl events` shows indexes that have one; some carry no frame, such as those of elections";
            let sentence = format!("history has no frame at index {index}");
            Rejection::new(RejectionKind::NotFound, format!("frame {index}"), sentence, hint)
        })?;
        let frame = codec::decode_frame(&stored).map_err(|error| super::past::broken(&error))?;
        Ok((stored, frame))
    }
}

/// The services with a value for this field in a frame, each with its last value.
fn values_in(frame: &Frame, field: &Field) -> Vec<(ServiceId, String)> {
    let mut found: Vec<(ServiceId, String)> = Vec::new();
    for kind in codec::kinds(frame) {
        let Some((service, spec)) = redaction::spec_set_by(kind) else { continue };
        let Some(value) = field.value(spec) else { continue };
        found.retain(|(known, _)| *known != service);
        found.push((service, value));
    }
    found
}
