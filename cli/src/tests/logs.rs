//! The output of the log verbs.

use std::time::Duration;

use events::Id;
use wire::v1::{LogBatch, LogLine, LogSource, LogStream, LogsPart};

use super::fake::Fake;
use super::{TestEnv, run};
use crate::format::samples;

#[tokio::test]
async fn lines_are_shown_with_names_and_those_of_the_standard_error_go_there() {
    let source = |task, slot| LogSource {
        task: Id::from_bits(task),
        service_name: "web".to_owned(),
        slot: Some(slot),
        node_hostname: "n1".to_owned(),
        ..LogSource::default()
    };
    let line = |stream: LogStream, text: &'static str| LogLine {
        stream: stream.into(),
        data: text.into(),
        ..LogLine::default()
    };
    let batch = |task, lines| LogBatch { task: Id::from_bits(task), lines };
    let (out, err) = (LogStream::Stdout, LogStream::Stderr);
    let parts = [
        LogsPart { warnings: vec!["node n2 is away".to_owned()], ..LogsPart::default() },
        LogsPart {
            sources: vec![source(1, 1), source(2, 10)],
            batches: vec![batch(1, vec![line(out, "a"), line(err, "b")]), batch(2, vec![line(out, "c")])],
            ..LogsPart::default()
        },
    ];
    for (words, shown, said) in [
        ("service logs web", "web.1@n1  | a\nweb.10@n1 | c\n", "warning: node n2 is away\nweb.1@n1  | b\n"),
        ("task logs --raw web.1", "a\nc\n", "warning: node n2 is away\nb\n"),
    ] {
        let mut fake = Fake::new();
        fake.logs = parts.clone().into();
        let ran = run(words, &mut fake, TestEnv::default()).await;
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, shown, said), "{words}");
    }
    let mut fake = Fake::new();
    fake.logs = parts.into();
    let ran = run("service logs --follow --tail 5 --since 1h web", &mut fake, TestEnv::default()).await;
    assert_eq!(ran.code, 7, "who follows learns that the manager stopped: {}", ran.err);
    assert!(ran.err.contains("hint: once swarmd runs again") && ran.err.contains("--since 1970-"), "{}", ran.err);
    let [asked] = &fake.logged[..] else { panic!("one reading, not {:?}", fake.logged) };
    assert!(asked.follow && asked.tail == Some(5) && asked.services == ["web"] && asked.until.is_none());
    assert_eq!(asked.since, Some(samples::NOW - Duration::from_secs(3_600)));
}
