//! Revisions of services: the state has the indexes at which a service was given its specs, history has the specs.

use commands::{Rejection, RejectionKind, RevisionSpec};
use events::{Frame, Kind, ServiceId, ServiceSpec, codec};
use projections::Cluster;

use crate::log::frame_at;

use super::{Control, unreadable};

impl Control {
    /// The spec that a service was given in the frame at this index. May block on disk I/O.
    ///
    /// # Errors
    /// When the frame contains none, or history cannot be read.
    pub(super) fn revision(&self, service: ServiceId, revision: u64) -> Result<RevisionSpec, Rejection> {
        let stored = frame_at(&*self.store, revision).map_err(|error| unreadable(&error))?;
        let frame = stored.map(|bytes| codec::decode_frame(&bytes)).transpose().map_err(|error| {
            let sentence = format!("the log cannot be read: {error}");
            Rejection::new(RejectionKind::Unavailable, "log", sentence, "see the manager's own log")
        })?;
        let spec = frame.and_then(|frame| spec_set_by(frame, service));
        spec.map(|spec| RevisionSpec { revision, spec }).ok_or_else(|| unknown(&self.state.cluster, service, revision))
    }
}

/// The last spec in a frame for a service.
fn spec_set_by(frame: Frame, service: ServiceId) -> Option<ServiceSpec> {
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
