//! A manager at a point in the past: finds the point, and answers from the state at that point.

use std::sync::Arc;

use commands::{Rejection, RejectionKind};
use events::{Timestamp, codec};
use wire::v1::{FindPointRequest, PointView};

use crate::manager::fold::FatalError;
use crate::manager::past::{Past, PastError};
use crate::manager::replica::RaftStatus;

use super::event_reader::frame_after;
use super::{Control, unreadable};

impl Control {
    /// The last frame at an index or a time. May block on disk I/O.
    ///
    /// # Errors
    /// When the point is before or after history, or history cannot be read.
    pub fn find_point(&self, request: &FindPointRequest) -> Result<PointView, Rejection> {
        let head = self.state.cluster.position;
        let tagged = request.tag.as_ref().map(|name| {
            let tag = self.state.cluster.settings.tags.get(name);
            tag.map(|tag| tag.index).ok_or_else(|| commands::tag::unknown(name))
        });
        let after = match (tagged.transpose()?.or(request.index), request.time) {
            (Some(index), _) if index > head.index => return Err(not_yet(index, head.index)),
            (Some(index), _) => index.saturating_add(1),
            (None, Some(time)) => match frame_after(&self.store, time, head.index)? {
                Some(after) => after,
                None => return Ok(PointView { index: head.index, log_time: head.time }),
            },
            (None, None) => {
                return Err(Rejection::invalid("point", "neither an index, a time nor a tag is given", "give one"));
            }
        };
        let Some((index, stored)) = self.store.frame_before(after).map_err(|error| unreadable(&error))? else {
            let sentence = "the cluster did not exist yet at that point".to_owned();
            let hint = "`swarmctl events --limit 1` shows where its history begins";
            return Err(Rejection::new(RejectionKind::NotFound, "point", sentence, hint));
        };
        let log_time = codec::decode_frame(&stored).map_err(|error| broken(&error))?.header.log_time;
        Ok(PointView { index, log_time })
    }

    /// The manager's state after the frame at this index. May take long, and blocks on disk I/O.
    ///
    /// # Errors
    /// When the index is beyond history, history cannot be read, or the manager is stopping.
    pub fn at(self, index: u64, past: &Past, is_stopped: &dyn Fn() -> bool) -> Result<Self, Rejection> {
        let head = self.state.cluster.position.index;
        if index > head {
            return Err(not_yet(index, head));
        }
        let state = past.at(index, is_stopped).map_err(refused)?;
        let now: Timestamp = state.published.cluster.position.time;
        let raft = Arc::new(RaftStatus::unknown());
        Ok(Self { state: state.published, raft, now, past: Some(state.end), ..self })
    }

    /// Whether the state at one index is made from that at an earlier one, once that is at hand.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn leads(&self, past: &Past, from: u64, to: u64) -> Result<bool, Rejection> {
        past.leads(from, to).map_err(refused)
    }
}

fn refused(error: PastError) -> Rejection {
    match error {
        PastError::Stopped => crate::manager::driver::stopping(),
        PastError::Fold(FatalError::Log(error)) if error.is_of_an_archive() => unreadable(&error),
        PastError::Fold(error) => broken(&error),
    }
}

fn not_yet(index: u64, head: u64) -> Rejection {
    let sentence = format!("there is no index {index} yet: history ends at {head}");
    Rejection::invalid("point", sentence, "give an earlier index, or a time")
}

pub(super) fn broken(error: &dyn std::fmt::Display) -> Rejection {
    tracing::error!(%error, "a state of the past cannot be made");
    let sentence = format!("the state at that point cannot be made: {error}");
    let hint = "see the manager's own log; `swarmd replay` checks the whole log";
    Rejection::new(RejectionKind::Unavailable, "history", sentence, hint)
}
