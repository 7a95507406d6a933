//! The revisions of a service: each spec with its time, caller and reason.

use events::{Kind, SpecChange};
use wire::v1::EventRecord;

use super::phrase::{changed, summary};
use super::table::Table;
use super::view::View;
use super::{RecordNames, age, event_lines};

/// The table of `service revisions`, from the events that set the service's spec, oldest first. The last one is current.
pub fn table(records: &[EventRecord], view: View) -> String {
    let mut table = Table::new(&["REVISION", "CREATED", "BY", "REASON", "CHANGE"]);
    for record in records {
        let names = if view.ids { RecordNames::none() } else { RecordNames::with(record) };
        let reason = record.command.as_ref().and_then(|command| command.reason.clone());
        table.row([
            record.index.to_string(),
            age::ago(record.log_time, view.now),
            event_lines::by(&record.event, record, names),
            reason.unwrap_or_default(),
            record.event.kind.as_ref().map_or_else(String::new, |kind| change(kind, record)),
        ]);
    }
    table.render(view.width)
}

/// What a revision changed.
fn change(kind: &Kind, record: &EventRecord) -> String {
    if let Kind::ServiceCreated(event) = kind {
        return summary(&event.spec);
    }
    let Kind::ServiceSpecUpdated(event) = kind else { return kind.name().to_owned() };
    let before = record.before.as_ref().and_then(|before| before.service.as_ref());
    let changed = before.map_or_else(|| summary(&event.spec), |before| changed(before, &event.spec));
    match (event.change(), event.restored) {
        (SpecChange::Update, _) => changed,
        (SpecChange::ManualRollback, Some(revision)) => format!("rollback to {revision}: {changed}"),
        (SpecChange::ManualRollback, None) => format!("rollback: {changed}"),
        (SpecChange::AutomaticRollback, _) => format!("automatic rollback: {changed}"),
    }
}
