//! History for people: one line for each event, or several if the terminal is too narrow. Lines are streamed, so the columns have
//! fixed widths.

use events::{ActorKind, Cause, Event, Kind, Named, Reconciler, Timestamp};
use unicode_width::UnicodeWidthStr;
use wire::v1::EventRecord;

use super::phrase::phrase;
use super::table::{Table, cut};
use super::wrap::wrap;
use super::{RecordNames, escape};

/// In a terminal narrower than this, the description does not fit beside the other cells and gets lines of its own.
const WIDE_MIN: usize = 130;
/// Indentation of these lines.
const INDENT: usize = 8;

/// The heading above the events, for a terminal with this many columns.
pub fn heading(width: Option<usize>) -> String {
    columns(["INDEX", "TIME", "EVENT", "BY", "WHAT"], width)
}

/// Events as rows of a table, one line each.
pub fn table(records: &[EventRecord], ids: bool, now: Timestamp) -> Table {
    let mut table = Table::new(&["INDEX", "TIME", "BY", "EVENT"]);
    for record in records {
        let names = if ids { RecordNames::none() } else { RecordNames::with(record) };
        let kind = record.event.kind.as_ref().map_or("unknown", Kind::name);
        let by = by(&record.event, record, names);
        let what = format!("{kind} {}", what_and_why(record, names));
        table.row([record.index.to_string(), clock(record.log_time, now), by, what]);
    }
    table
}

/// The time of day; for another day also its date.
fn clock(time: Timestamp, now: Timestamp) -> String {
    let (time, now) = (time.to_string(), now.to_string());
    let part = if time.get(..10) == now.get(..10) { time.get(11..19) } else { time.get(..10) };
    part.unwrap_or(&time).to_owned()
}

/// What happened.
pub fn what(record: &EventRecord, names: RecordNames) -> String {
    record.event.kind.as_ref().map_or_else(String::new, |kind| phrase(kind, record.before.as_deref(), names))
}

/// What happened, and the reason that was given for it.
fn what_and_why(record: &EventRecord, names: RecordNames) -> String {
    let what = what(record, names);
    let reason = record.command.as_ref().and_then(|command| command.reason.as_deref());
    what + &reason.map_or_else(String::new, |reason| format!(" (reason: {reason})"))
}

/// One event, for a terminal with this many columns.
pub fn line(record: &EventRecord, names: RecordNames, width: Option<usize>) -> String {
    let what = what_and_why(record, names);
    let kind = record.event.kind.as_ref().map_or("unknown", Kind::name);
    let time = record.log_time.to_string();
    // Milliseconds are precise enough for people; JSON has the full time.
    let time = format!("{}Z", time.get(..23).unwrap_or(&time));
    let by = by(&record.event, record, names);
    columns([&record.index.to_string(), &time, kind, &escape::line(&by), &escape::line(&what)], width)
}

fn columns(cells: [&str; 5], width: Option<usize>) -> String {
    let [index, time, event, by, what] = cells;
    let (first, indent) = match width {
        Some(width) if width < WIDE_MIN => {
            // To the second: the index shows the order.
            let seconds = time.split_once('.').map_or_else(|| time.to_owned(), |(seconds, _)| format!("{seconds}Z"));
            let first = format!("{index:<INDENT$}{seconds:<22}{event:<24}{by}");
            (format!("{}\n{:INDENT$}", cut(&first, width), ""), INDENT)
        }
        Some(_) | None => {
            let first = format!("{index:<10}{time:<27}{event:<26}{by:<20} ");
            let indent = first.width();
            (first, indent)
        }
    };
    let lines = wrap(what, width.map_or(usize::MAX, |width| width.saturating_sub(indent)));
    format!("{first}{}\n", lines.join(&format!("\n{:indent$}", "")))
}

/// The actor that caused an event.
pub fn by(event: &Event, record: &EventRecord, names: RecordNames) -> String {
    match (&event.cause, &record.command) {
        (Some(Cause::Reconciler(number)), _) => {
            Reconciler::try_from(*number).map_or_else(|_| number.to_string(), Named::name)
        }
        (Some(Cause::Command(_)) | None, Some(command)) => match command.actor.kind() {
            ActorKind::Manager => "manager".to_owned(),
            kind @ (ActorKind::Operator | ActorKind::CertifiedOperator | ActorKind::Node | ActorKind::Joiner) => {
                format!("{} {}", kind.name(), names.of(&command.actor.subject))
            }
        },
        (Some(Cause::Command(_)) | None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use events::{Id, ServiceId};

    use super::*;
    use crate::format::samples;

    #[test]
    fn a_line_says_what_became_true_and_why() {
        let service = ServiceId::from_bits(9);
        let record = samples::created(service, samples::spec(), "first release");
        let expected = "\
INDEX     TIME                       EVENT                     BY                   WHAT
12        1970-01-01T00:00:01.500Z   service_created           operator root        web: nginx:1.27, 2 replicas (reason: first release)
";
        let rendered = |width| heading(width) + &line(&record, RecordNames::with(&record), width);
        assert_eq!(rendered(None), expected);
        assert_eq!(rendered(Some(140)), expected);
        let wide = "\
INDEX     TIME                       EVENT                     BY                   WHAT
12        1970-01-01T00:00:01.500Z   service_created           operator root        web: nginx:1.27, 2 replicas (reason: first
                                                                                    release)
";
        assert_eq!(rendered(Some(130)), wide);
        let narrow = "\
INDEX   TIME                  EVENT                   BY
        WHAT
12      1970-01-01T00:00:01Z  service_created         operator root
        web: nginx:1.27, 2 replicas
        (reason: first release)
";
        assert_eq!(rendered(Some(80)), narrow.replace("replicas\n        (reason", "replicas (reason"));
        let cut = narrow
            .replace("EVENT                   BY", "EVENT  …")
            .replace("service_created         operator root", "service…");
        assert_eq!(rendered(Some(38)), cut);
    }

    #[test]
    fn a_row_of_a_table_has_it_all_in_one_line() {
        let record = samples::created(ServiceId::from_bits(9), samples::spec(), "first release");
        let expected = "\
INDEX     TIME       BY              EVENT
12        00:00:01   operator root   service_created web: nginx:1.27, 2 replicas (reason: first release)
";
        assert_eq!(table(std::slice::from_ref(&record), false, record.log_time).render(None), expected);
        let tomorrow = record.log_time + std::time::Duration::from_secs(24 * 3600);
        assert!(table(&[record], false, tomorrow).render(None).contains("12        1970-01-01   operator"));
    }

    #[test]
    fn reconcilers_are_named_and_tasks_have_their_place() {
        let task = events::TaskId::from_bits(3);
        let assigned = events::TaskAssigned { task, node: events::NodeId::from_bits(1), claims: Vec::new() };
        let record = EventRecord {
            index: 13,
            ordinal: 1,
            log_time: Timestamp::from_unix_ns(0),
            event: Event::by_reconciler(Reconciler::Schedule, Kind::TaskAssigned(assigned)),
            command: None,
            subjects: Vec::new(),
            names: [(task.to_string(), "web.2".to_owned())].into(),
            before: None,
            frame_hash: None,
        };
        assert!(
            line(&record, RecordNames::with(&record), None)
                .contains("task_assigned             schedule             web.2: to 0000000000000000000000001\n")
        );
        assert!(line(&record, RecordNames::none(), None).contains("0000000000000000000000003: to "));
    }
}
