//! The lines of each format, and that they can be read back.

use events::{Id, ServiceId};

use super::*;
use crate::format::escape::tests::{HOSTILE, assert_harmless};
use crate::format::samples;

const FORMATS: [ExportFormat; 4] =
    [ExportFormat::Jsonl, ExportFormat::Csv, ExportFormat::Cloudevents, ExportFormat::Sql];

const NOTHING: Redaction = Redaction { env: false, labels: false };
const ENV: Redaction = Redaction { env: true, ..NOTHING };
const LABELS: Redaction = Redaction { labels: true, ..NOTHING };
const BOTH: Redaction = Redaction { env: true, labels: true };

fn record(reason: &str) -> EventRecord {
    let (service, mut spec) = (ServiceId::from_bits(9), samples::spec());
    let container = spec.task.get_or_insert_default().container.get_or_insert_default();
    container.env = vec!["PASSWORD=hunter2=x".to_owned(), "INHERITED".to_owned()];
    spec.annotations.get_or_insert_default().labels = [("team".to_owned(), "blue".to_owned())].into();
    samples::created(service, spec, reason)
}

fn line(format: ExportFormat, redact: Redaction, record: &EventRecord) -> String {
    let exporter = Exporter { format, cluster: ClusterId::from_bits(7), redact };
    let line = exporter.line(record).expect("JSON");
    assert_eq!(exporter.place(&line), Some((record.index, record.ordinal)), "{line}");
    line
}

#[test]
fn each_line_is_one_event_and_says_which() {
    let record = record("first release");
    let csv = line(ExportFormat::Csv, NOTHING, &record);
    let begin = "12,3,1970-01-01T00:00:01.500000000Z,service_created,service.create,,operator,root,first release,\
                 0000000000000000000000009,web,\"{";
    assert!(csv.starts_with(begin), "{csv}");
    assert_eq!(COLUMNS.split(',').count(), begin.split(',').count());
    let sql = line(ExportFormat::Sql, NOTHING, &record);
    let begin = "INSERT OR IGNORE INTO \"service_created\" VALUES(12,3,'1970-01-01T00:00:01.500000000Z','service.create','',\
                 'operator','root','first release','{\"0000000000000000000000009\":\"web\"}','0000000000000000000000009','{";
    assert!(sql.starts_with(begin) && sql.ends_with("}');"), "{sql}");
    let jsonl: Value = serde_json::from_str(&line(ExportFormat::Jsonl, NOTHING, &record)).expect("JSON");
    assert_eq!(jsonl, serde_json::to_value(&record).expect("JSON"));
    let cloud: Value = serde_json::from_str(&line(ExportFormat::Cloudevents, NOTHING, &record)).expect("JSON");
    let of = |name: &str| cloud[name].as_str().expect(name);
    assert_eq!(
        (of("specversion"), of("id"), of("type")),
        ("1.0", "0000000000000000000000007/12.3", "swarmlog.v1.service_created")
    );
    assert_eq!(of("source"), "urn:swarmlog:cluster:0000000000000000000000007");
    assert_eq!((of("subject"), of("time")), ("0000000000000000000000009", "1970-01-01T00:00:01.500000000Z"));
    assert_eq!(cloud["data"], jsonl);
}

#[test]
fn what_somebody_wrote_neither_ends_a_line_nor_steers_a_terminal() {
    let record = record(&format!("a \"quoted\", reason{HOSTILE}"));
    for format in FORMATS {
        let line = line(format, NOTHING, &record);
        assert_harmless(&line);
        assert!(!line.contains('\n'), "{line}");
    }
    let csv = line(ExportFormat::Csv, NOTHING, &record);
    assert!(csv.contains(r#","a ""quoted"", reason"#), "{csv}");
}

#[test]
fn values_are_left_out_on_request_and_names_stay() {
    let record = record("why");
    for format in FORMATS {
        let has = |redact: Redaction, text: &str| line(format, redact, &record).contains(text);
        assert!(has(NOTHING, "hunter2") && has(NOTHING, "blue"), "{format:?}");
        assert!(!has(ENV, "hunter2") && has(ENV, "blue"), "{format:?}");
        assert!(has(LABELS, "hunter2") && !has(LABELS, "blue"), "{format:?}");
        for kept in ["PASSWORD=<redacted>", "INHERITED", "team"] {
            assert!(has(BOTH, kept), "{format:?} {kept}");
        }
    }
}

#[test]
fn what_is_no_line_of_a_format_names_no_event() {
    for (format, text) in [
        (ExportFormat::Csv, COLUMNS),
        (ExportFormat::Csv, "12"),
        (ExportFormat::Csv, "12,x,"),
        (ExportFormat::Jsonl, "{\"index\":1}"),
        (ExportFormat::Jsonl, "{\"index\":1,\"ordinal\":"),
        (ExportFormat::Cloudevents, "{\"id\":\"12\"}"),
        (ExportFormat::Cloudevents, "{\"index\":1,\"ordinal\":2}"),
    ] {
        let exporter = Exporter { format, cluster: ClusterId::from_bits(7), redact: NOTHING };
        assert_eq!(exporter.place(text), None, "{text}");
    }
}
