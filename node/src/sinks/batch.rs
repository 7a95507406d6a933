//! Batches of events for one request, bounded by count and bytes.

use events::ClusterId;
use projections::sinks::is_about_sending;
use wire::cloudevents;
use wire::redaction::Redaction;
use wire::v1::EventRecord;

/// Maximum number of events in one request.
const EVENTS_MAX: usize = 100;
/// Maximum size of one request, unless a single event is larger.
const BYTES_MAX: usize = 256 * 1024;

/// Events that are sent together, each as JSON.
pub type Batch = Vec<String>;

/// Splits the events into batches, in order, and redacts them; events that only report deliveries are omitted.
pub fn batches(cluster: ClusterId, redaction: Redaction, records: &[EventRecord]) -> serde_json::Result<Vec<Batch>> {
    let mut batches = vec![Batch::new()];
    let mut bytes = 0;
    for record in records.iter().filter(|record| !record.event.kind.as_ref().is_some_and(is_about_sending)) {
        let mut data = serde_json::to_value(record)?;
        redaction.leave_out(&mut data);
        let event = cloudevents::envelope(cluster, record, data).to_string();
        let last = batches.last().map_or(0, Vec::len);
        if last > 0 && (last == EVENTS_MAX || bytes + event.len() > BYTES_MAX) {
            batches.push(Batch::new());
            bytes = 0;
        }
        bytes += event.len();
        if let Some(batch) = batches.last_mut() {
            batch.push(event);
        }
    }
    batches.retain(|batch| !batch.is_empty());
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use events::{Event, Kind, SecretsRead, SinkProgressed};

    use super::*;

    fn record(index: u64, bytes: usize) -> EventRecord {
        let read = SecretsRead { names: vec!["x".repeat(bytes)] };
        let event = Event::by_command(0, Kind::SecretsRead(read));
        EventRecord { index, event, ..EventRecord::default() }
    }

    #[test]
    fn batches_are_bounded_by_events_and_bytes_and_keep_the_order() {
        let sizes = |records: &[EventRecord]| -> Vec<usize> {
            let made = batches(ClusterId::default(), Redaction::default(), records).expect("JSON");
            let ids =
                made.iter().flatten().map(|event| serde_json::from_str::<serde_json::Value>(event).expect("JSON"));
            let places: Vec<_> = ids.filter_map(|event| cloudevents::place(event["id"].as_str()?)).collect();
            assert!(places.is_sorted(), "{places:?}");
            made.iter().map(Vec::len).collect()
        };
        assert_eq!(sizes(&[]), Vec::<usize>::new());
        let small: Vec<EventRecord> = (0..250).map(|index| record(index, 1)).collect();
        assert_eq!(sizes(&small), [100, 100, 50]);
        let large: Vec<EventRecord> = (0..4).map(|index| record(index, 100 * 1024)).collect();
        assert_eq!(sizes(&large), [2, 2]);
        assert_eq!(sizes(&[record(1, 1), record(2, 2 * BYTES_MAX), record(3, 1)]), [1, 1, 1]);
    }

    #[test]
    fn what_is_left_out_is_not_sent() {
        let mut spec = events::NodeSpec::default();
        spec.annotations.get_or_insert_default().labels.insert("team".to_owned(), "blue".to_owned());
        let kind = Kind::NodeSpecUpdated(events::NodeSpecUpdated { spec, ..Default::default() });
        let record = EventRecord { event: Event::by_command(0, kind), ..EventRecord::default() };
        for (labels, is_sent) in [(false, true), (true, false)] {
            let redaction = Redaction { labels, ..Redaction::default() };
            let made = batches(ClusterId::default(), redaction, std::slice::from_ref(&record)).expect("JSON");
            assert_eq!((made[0][0].contains("blue"), made[0][0].contains("team")), (is_sent, true));
        }
    }

    #[test]
    fn what_tells_of_sending_is_not_sent() {
        let progress = Event::by_command(0, Kind::SinkProgressed(SinkProgressed::default()));
        let own = EventRecord { index: 7, event: progress, ..EventRecord::default() };
        assert!(batches(ClusterId::default(), Redaction::default(), &[own]).expect("JSON").is_empty());
    }
}
