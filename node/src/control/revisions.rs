//! Revisions of services: the state knows at which indexes a service got its specs, and history has these.

use commands::{Rejection, RejectionKind, RevisionSpec};
use events::spec::limits::SPEC_CHANGES_MAX;
use events::{Frame, Kind, ServiceId, ServiceSpec, codec};
use projections::Cluster;

use crate::log::frame_at;

use super::{Control, unreadable};

/// The kinds of event that change a service's spec.
const KINDS: [&str; 3] = ["service_created", "service_spec_updated", "service_scaled"];

impl Control {
    /// The spec that a service got in the frame at this index. This may wait for the disk.
    ///
    /// # Errors
    /// When it got none there, or history cannot be read.
    pub(super) fn revision(&self, service: ServiceId, revision: u64) -> Result<RevisionSpec, Rejection> {
        let stored = frame_at(&*self.store, revision).map_err(|error| unreadable(&error))?;
        let frame = stored.map(|bytes| codec::decode_frame(&bytes)).transpose().map_err(|error| {
            let sentence = format!("the log cannot be read: {error}");
            Rejection::new(RejectionKind::Unavailable, "log", sentence, "see the manager's own log")
        })?;
        let spec = frame.and_then(|frame| spec_given(frame, service));
        spec.map(|spec| RevisionSpec { revision, spec }).ok_or_else(|| unknown(&self.state.cluster, service, revision))
    }
}

/// The last spec that a frame gives a service.
fn spec_given(frame: Frame, service: ServiceId) -> Option<ServiceSpec> {
    let mut specs = frame.events.into_iter().filter_map(|event| {
        if let Some(Kind::ServiceCreated(event)) = event.kind {
            (event.service == service).then_some(event.spec)
        } else if let Some(Kind::ServiceSpecUpdated(event)) = event.kind {
            (event.service == service).then_some(event.spec)
        } else {
            None
        }
    });
    specs.next_back()
}

fn unknown(cluster: &Cluster, id: ServiceId, revision: u64) -> Rejection {
    let service = cluster.services.get(id);
    let name = service.map_or_else(|| id.to_string(), |service| service.spec.name().to_owned());
    let sentence = format!("service {name} has no revision {revision}");
    let hint = format!("`swarmctl service revisions {name}` lists the revisions");
    Rejection::new(RejectionKind::NotFound, format!("service {name}"), sentence, hint)
}

/// Where all events of these kinds about a living service are, if that is known: they are then read without the rest of history.
pub(super) fn listed(cluster: &Cluster, service: Option<&str>, kinds: &[String]) -> Option<Vec<u64>> {
    let service = cluster.services.get(service?.parse().ok()?)?;
    let are_specs = !kinds.is_empty() && kinds.iter().all(|kind| KINDS.contains(&kind.as_str()));
    // Of more than these, the first are not listed.
    (are_specs && service.spec_changes.len() < SPEC_CHANGES_MAX).then(|| service.spec_changes.clone())
}
