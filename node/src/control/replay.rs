//! Replays a range of history under another policy.

use commands::Rejection;
use events::codec;
use projections::views::overview::resolve_node;
use wire::v1::{ReplayFigures, ReplayReply, ReplayRequest};

use crate::log::{HistoryReader, PageSize};
use crate::manager::driver::stopping;
use crate::sandbox::{Figures, Policy, Replay};

use super::{Control, unreadable, views};

/// Maximum frames of a replay: a day or more of a busy cluster.
const FRAMES_MAX: u64 = 100_000;
/// Frames between two checks whether the caller still waits.
const PAGE: PageSize = PageSize { frames: 256, bytes: 2 * 1024 * 1024 };

impl Control {
    /// Replays the commands after this point twice in copies of the state: as recorded, and under another policy. May take
    /// long, and blocks on disk I/O.
    ///
    /// # Errors
    /// When a node is unknown, history is too long or cannot be read, or the caller has cancelled.
    pub fn replay(&self, request: &ReplayRequest, is_stopped: &dyn Fn() -> bool) -> Result<ReplayReply, Rejection> {
        let cluster = &self.state.cluster;
        let (from, to) = (cluster.position.index, request.to_index.unwrap_or(u64::MAX));
        if to < from {
            let sentence = format!("the end, index {to}, is before the beginning, index {from}");
            return Err(Rejection::invalid("history", sentence, "give an earlier --from or a later --to"));
        }
        let without = request.without.iter().map(|reference| resolve_node(cluster, reference));
        let strategy = request.strategy.is_some().then(|| request.strategy());
        let policy = Policy { strategy, without: without.collect::<Result<_, _>>()? };
        let mut replays = [Policy::default(), policy].map(|policy| Replay::of(self.sandbox(), policy));
        let mut reader = HistoryReader::starting_at(from + 1);
        let mut end = (from, cluster.position.time, 0);
        let mut keeps_up = true;
        loop {
            if is_stopped() {
                return Err(stopping());
            }
            let page = reader.page(&*self.store, to, PAGE).map_err(|error| unreadable(&error))?;
            if page.is_empty() || !keeps_up {
                break;
            }
            for (index, stored) in page {
                let frame = codec::decode_frame(&stored).map_err(|error| super::past::broken(&error))?;
                let time = frame.header.log_time;
                end = (index, time, end.2 + 1);
                if end.2 > FRAMES_MAX {
                    return Err(too_long());
                }
                for replay in &mut replays {
                    keeps_up &= replay.frame(time, &frame.events);
                }
            }
        }
        for replay in &mut replays {
            keeps_up &= replay.advance_to(end.1);
        }
        let [as_was, other] = replays.map(|replay| figures(replay.figures()));
        Ok(ReplayReply {
            index: from,
            log_time: cluster.position.time,
            to_index: end.0,
            to_log_time: end.1,
            as_was,
            other,
            unfinished: (!keeps_up).then(|| "the replay exceeded its limits; the rest is omitted".to_owned()),
        })
    }
}

fn too_long() -> Rejection {
    let sentence = format!("there are more than {FRAMES_MAX} frames of history between the two points");
    Rejection::invalid("history", sentence, "give a later --from or an earlier --to")
}

fn figures(figures: Figures) -> ReplayFigures {
    ReplayFigures {
        tasks_created: figures.created,
        tasks_placed: figures.placed,
        waited_ns: views::ns(figures.waited),
        most_waiting: figures.most_waiting,
        waiting: figures.waiting,
        nodes_used: figures.nodes_used,
        most_tasks_of_a_node: figures.fullest,
    }
}
