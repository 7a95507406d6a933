//! Values erased from history: the frame that announced the redaction, the affected frames, and the hashes of their new bytes.
//!
//! The state needs none of the erased values: the command that decides on a redaction checks that no spec that is or may become
//! current contains the value. Only specs that are retained for finished tasks lose it here. So a history whose frames are
//! already redacted yields the same state, from the announcing frame on.

use std::collections::BTreeMap;

use events::frame::FrameHash;
use events::redaction::Field;
use events::{HistoryRedacted, ServiceId};
use serde::{Deserialize, Serialize};

use crate::{Cluster, Stamp};

/// One erased value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redaction {
    /// The service whose spec contained it.
    pub service: ServiceId,
    /// The field that contained it.
    pub field: String,
    /// The digest that replaces it.
    pub digest: String,
    /// The frames, each with the SHA-256 of its new bytes, in order.
    pub frames: Vec<(u64, FrameHash)>,
}

impl Redaction {
    /// The hash of the frame at this index; `None` if the redaction does not affect it.
    pub fn sha256_at(&self, index: u64) -> Option<FrameHash> {
        let place = self.frames.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        Some(self.frames[place].1)
    }
}

impl Cluster {
    /// The redactions of the frame at this index, oldest first.
    pub fn redactions_of(&self, index: u64) -> impl Iterator<Item = &Redaction> {
        self.redactions.values().filter(move |redaction| redaction.sha256_at(index).is_some())
    }

    /// The hashes that the bytes of redacted frames may have, by index: one for each value erased from a frame.
    pub fn redacted_frames(&self) -> BTreeMap<u64, Vec<FrameHash>> {
        let mut frames: BTreeMap<u64, Vec<FrameHash>> = BTreeMap::new();
        for (index, sha256) in self.redactions.values().flat_map(|redaction| &redaction.frames) {
            frames.entry(*index).or_default().push(*sha256);
        }
        frames
    }

    /// Index of the frame that announced the last redaction; 0 if there was none.
    pub fn redacted_at(&self) -> u64 {
        self.redactions.iter().next_back().map_or(0, |(index, _)| index)
    }
}

pub(crate) fn redacted(cluster: &mut Cluster, event: &HistoryRedacted, at: &Stamp) {
    let HistoryRedacted { service, field, digest, frames, revisions } = event;
    let named = field.parse::<Field>().unwrap_or_else(|_| panic!("the field {field} was redacted and cannot be"));
    for version in revisions {
        let erased = cluster
            .revisions
            .update((*service, *version), |revision| named.erase(std::sync::Arc::make_mut(&mut revision.spec), digest));
        assert_eq!(erased, Some(true), "revision {version} of service {service} has no {field} to be redacted");
    }
    let frames: Vec<(u64, FrameHash)> = frames
        .iter()
        .map(|frame| {
            let sha256 = frame.sha256.as_slice().try_into();
            (frame.index, sha256.unwrap_or_else(|_| panic!("frame {} was redacted without a hash", frame.index)))
        })
        .collect();
    let in_order = frames.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let is_before = frames.last().is_some_and(|(last, _)| *last < at.index);
    assert!(in_order && is_before, "the redaction at index {} is not about frames before it, in order", at.index);
    let redaction = Redaction { service: *service, field: field.clone(), digest: digest.clone(), frames };
    assert!(!cluster.redactions.contains(at.index), "two values were redacted in frame {}", at.index);
    cluster.redactions.insert(at.index, redaction);
}

#[cfg(test)]
mod tests {
    use events::{Event, Kind, RedactedBytes, ServiceSpec, ServiceSpecUpdated};

    use super::*;
    use crate::samples::{SERVICE, Sample};
    use crate::{check, snapshot};

    fn with_password(value: &str) -> ServiceSpec {
        let mut spec = ServiceSpec::clone(&Sample::after(&[]).cluster.services.get(SERVICE).expect("it is there").spec);
        let container = spec.task.as_mut().expect("it is there").container.as_mut().expect("it is there");
        container.env = vec![format!("PASSWORD={value}")];
        spec
    }

    /// A service that had this value, then others, with a finished task from that time.
    fn cluster(value: &str) -> Cluster {
        let mut sample = Sample::after(&[]);
        let update = |spec| {
            Kind::ServiceSpecUpdated(Box::new(ServiceSpecUpdated { service: SERVICE, spec, ..Default::default() }))
        };
        sample.apply(update(with_password(value)));
        sample.apply_words("make 1");
        sample.apply(update(with_password("another")));
        sample.apply(update(with_password("a third")));
        sample.cluster
    }

    #[test]
    fn a_redacted_history_makes_the_same_state_from_the_redaction_on() {
        let (mut plain, mut redacted) = (cluster("hunter2"), cluster("gone"));
        assert_ne!(plain.state_hash(), redacted.state_hash());
        let version = plain.revisions.iter().next().expect("it is there").0.1;
        let frames = vec![RedactedBytes { index: version, sha256: vec![7; 32] }];
        let event = HistoryRedacted {
            service: SERVICE,
            field: "env.PASSWORD".to_owned(),
            digest: "gone".to_owned(),
            frames,
            revisions: vec![version],
        };
        for cluster in [&mut plain, &mut redacted] {
            let at = Stamp { index: cluster.position.index + 1, ..cluster.position };
            cluster.apply(&Event::by_command(0, Kind::HistoryRedacted(event.clone())), &at);
            assert_eq!(check::check(cluster), Vec::<String>::new());
        }
        assert_eq!(plain.state_hash(), redacted.state_hash());
        assert!(
            plain.redactions_of(version).eq(redacted.redactions.values()) && plain.redactions_of(1).next().is_none()
        );
        let read = snapshot::read(snapshot::chunks(&plain)).expect("it is there");
        assert_eq!((read.state_hash(), read.redacted_at()), (plain.state_hash(), plain.position.index + 1));
    }
}
