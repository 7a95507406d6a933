//! Sinks in API responses: without the keys that sign requests.

use commands::Rejection;
use events::SinkSpec;
use projections::views::overview::{resolve_node, resolve_sink};
use projections::{Cluster, Sink, SinkState};
use wire::v1::{ListSinksRequest, Meta, SinkActivity, SinkFailure, SinkList, SinkView};

use super::Control;
use super::event_reader::living_object;

impl Control {
    /// The sinks that a request refers to, or all, sorted by name. There are few.
    ///
    /// # Errors
    /// When a reference matches no sink, or more than one.
    pub fn sinks(&self, request: &ListSinksRequest) -> Result<SinkList, Rejection> {
        let cluster = &self.state.cluster;
        if request.sinks.is_empty() {
            let mut sinks: Vec<SinkView> = cluster.sinks.values().map(view).collect();
            sinks.sort_by(|one, other| one.spec.name.cmp(&other.spec.name));
            return Ok(SinkList { sinks });
        }
        let mut sinks = Vec::with_capacity(request.sinks.len());
        for reference in &request.sinks {
            sinks.extend(cluster.sinks.get(resolve_sink(cluster, reference)?).map(view));
        }
        Ok(SinkList { sinks })
    }
}

fn view(sink: &Sink) -> SinkView {
    let activity = match sink.state {
        SinkState::Active => SinkActivity::Active,
        SinkState::Paused => SinkActivity::Paused,
        SinkState::Parked => SinkActivity::Parked,
    };
    let failure = sink.failing.as_ref();
    SinkView {
        id: sink.id,
        meta: Meta { version: sink.version, created_at: sink.created_at, updated_at: sink.created_at },
        spec: (*sink.spec).clone(),
        signed: sink.signed,
        activity: activity.into(),
        position: sink.position,
        progressed_at: sink.progressed_at,
        failure: failure.map(|failing| SinkFailure { since: failing.since, reason: failing.reason.clone() }),
    }
}

/// Refuses a file if the requested manager has no directory for it. The leader writes it, so every manager needs one.
pub(super) fn require_directory(spec: &SinkSpec, has_directory: bool) -> Result<(), Rejection> {
    if spec.file.is_empty() || has_directory {
        return Ok(());
    }
    let sentence = "this manager has no directory for the files of sinks";
    Err(Rejection::invalid(
        "sink",
        sentence,
        "start swarmd with --sink-dir on each manager, since any of them may lead",
    ))
}

/// Replaces the references in a sink's filters by ids, because a name may belong to another object when events are sent.
pub(super) fn resolve_filters(cluster: &Cluster, spec: &mut SinkSpec) -> Result<(), Rejection> {
    if !spec.node.is_empty() {
        spec.node = resolve_node(cluster, &spec.node)?.to_string();
    }
    if !spec.object.is_empty() {
        let hint = "give the name or id of a service, config, secret, node or task that is there now";
        let unknown = || Rejection { hint: hint.to_owned(), ..Rejection::not_found("object", &spec.object) };
        spec.object = living_object(cluster, &spec.object)?.ok_or_else(unknown)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_refused_where_no_directory_is_for_it() {
        let sink = |file: &str| SinkSpec { file: file.to_owned(), ..SinkSpec::default() };
        for (file, has_directory, accepted) in [("a", true, true), ("a", false, false), ("", false, true)] {
            assert_eq!(require_directory(&sink(file), has_directory).is_ok(), accepted, "{file:?} {has_directory}");
        }
    }
}
