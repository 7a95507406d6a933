//! Sinks.

use events::{Named, SinkSpec};
use wire::v1::{SinkActivity, SinkView};

use super::age;
use super::block::Block;
use super::table::Table;
use super::view::View;

/// A list of sinks.
pub fn table(sinks: &[SinkView], view: View) -> String {
    let mut table = Table::new(&["ID", "NAME", "STATE", "POSITION", "TARGET"]);
    for sink in sinks {
        table.row([
            sink.id.to_string(),
            sink.spec.name.clone(),
            state(sink).to_owned(),
            sink.position.to_string(),
            target(&sink.spec),
        ]);
    }
    table.render(view.width)
}

/// One sink: its target, filter, progress and last error.
pub fn block(sink: &SinkView, view: View) -> String {
    let mut block = Block::default();
    let (spec, ago) = (&sink.spec, |time| age::ago(time, view.now));
    block.field("ID", sink.id).field("Name", &spec.name).field("Target", target(spec));
    block.field("Signed", if sink.signed { "yes" } else { "no" });
    block.each("Kind", spec.kinds.iter().cloned()).each("Actor", spec.actors.iter().cloned());
    block.each("Command", spec.commands.iter().cloned());
    block.each("Object", Some(&spec.object).filter(|object| !object.is_empty()).cloned());
    block.each("Node", Some(&spec.node).filter(|node| !node.is_empty()).cloned());
    let redacted = [("env", spec.redact_env), ("labels", spec.redact_labels)];
    block.each("Redacted", redacted.into_iter().filter(|(_, is)| *is).map(|(what, _)| what.to_owned()));
    block.field("State", state(sink)).field("Position", format!("index {}", sink.position));
    block.field("Progress", sink.progressed_at.map_or_else(|| "none yet".to_owned(), ago));
    if let Some(failure) = &sink.failure {
        block.field("Failing", format!("since {}", ago(failure.since))).prose("Reason", &failure.reason);
    }
    block.field("Created", ago(sink.meta.created_at));
    if sink.activity() == SinkActivity::Parked {
        block.prose("Hint", &format!("`swarmctl sink resume {}` tries again, from its position on", spec.name));
    }
    block.render(view.width)
}

fn state(sink: &SinkView) -> String {
    match (sink.activity(), &sink.failure) {
        (SinkActivity::Active, Some(_)) => "failing".to_owned(),
        (activity, _) => activity.name(),
    }
}

fn target(spec: &SinkSpec) -> String {
    if spec.file.is_empty() { spec.webhook.clone() } else { format!("file {}", spec.file) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::samples;

    #[test]
    fn a_sink_says_what_is_in_its_way() {
        let sink = samples::sink();
        let expected = "\
ID                          NAME      STATE     POSITION   TARGET
000000000000000000000000d   siem      failing   41         https://siem.example/in
";
        assert_eq!(table(std::slice::from_ref(&sink), samples::VIEW), expected);
        let shown = block(&SinkView { activity: SinkActivity::Parked.into(), ..sink }, samples::VIEW);
        for part in ["the answer is 503", "parked", "swarmctl sink resume siem", "service_created", "index 41"] {
            assert!(shown.contains(part), "{shown}");
        }
    }
}
