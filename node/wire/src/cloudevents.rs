//! Events as CloudEvents (specification 1.0, structured JSON), which many tools can read.

use events::{ClusterId, Kind};
use serde_json::{Value, json};

use crate::v1::EventRecord;

/// An event in a CloudEvents envelope. Its id is the same whenever and wherever it is sent, so that a receiver can detect
/// duplicates.
pub fn envelope(cluster: ClusterId, record: &EventRecord, data: Value) -> Value {
    let mut envelope = json!({
        "specversion": "1.0",
        "id": id(cluster, record.index, record.ordinal),
        "source": format!("urn:swarmlog:cluster:{cluster}"),
        "type": format!("swarmlog.v1.{}", record.event.kind.as_ref().map_or("unknown", Kind::name)),
        "time": record.log_time.to_string(),
        "datacontenttype": "application/json",
        "data": data,
    });
    if let Some(subject) = record.subjects.first() {
        envelope["subject"] = json!(subject);
    }
    envelope
}

fn id(cluster: ClusterId, index: u64, ordinal: u32) -> String {
    format!("{cluster}/{index}.{ordinal}")
}

/// The frame, and the position in it, of the event with this id.
pub fn place(id: &str) -> Option<(u64, u32)> {
    let (index, ordinal) = id.split_once('/')?.1.split_once('.')?;
    Some((index.parse().ok()?, ordinal.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_which_event_it_is() {
        let cluster = ClusterId::default();
        assert_eq!(place(&id(cluster, 12, 3)), Some((12, 3)));
        for odd in ["", "12.3", "a/12", "a/12.x", "a/x.3"] {
            assert_eq!(place(odd), None, "{odd}");
        }
    }
}
