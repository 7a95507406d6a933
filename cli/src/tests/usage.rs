//! The output of the usage verbs.

use events::{Id, Timestamp};
use wire::v1::{LogSource, TaskUsage, UsagePart};

use super::fake::Fake;
use super::{TestEnv, run};

fn part(second: i64, cpu_ms: u64) -> UsagePart {
    let task = Id::from_bits(1);
    let source = LogSource { task, service_name: "web".to_owned(), slot: Some(1), ..LogSource::default() };
    let at = Timestamp::from_unix_ns(second * 1_000_000_000);
    let reading = TaskUsage { task, at, cpu_ns: cpu_ms * 1_000_000, ..TaskUsage::default() };
    UsagePart { warnings: Vec::new(), sources: vec![source], readings: vec![reading] }
}

#[tokio::test]
async fn use_is_shown_once_with_a_rate_or_until_the_manager_stops() {
    for (words, code, tables) in [("task stats --no-stream web.1", 0, 1), ("service stats web", 7, 1)] {
        let mut fake = Fake::new();
        let warning = UsagePart { warnings: vec!["node n2 is away".to_owned()], ..UsagePart::default() };
        fake.usage = vec![warning, part(1, 100), part(2, 600)];
        let ran = run(words, &mut fake, TestEnv::default()).await;
        assert_eq!(ran.code, code, "{words}: {}", ran.err);
        assert_eq!(ran.out.matches("NAME").count(), tables, "two pictures at one time are one: {}", ran.out);
        assert!(ran.err.starts_with("warning: node n2 is away\n"), "{}", ran.err);
        assert_eq!(ran.out.contains("50.00%"), code == 0, "{words}: {}", ran.out);
        assert!(!ran.out.contains('\u{1b}'), "what is no terminal is not cleared: {}", ran.out);
        let [asked] = &fake.measured[..] else { panic!("one reading, not {:?}", fake.measured) };
        assert_eq!(
            (asked.follow, asked.tasks.len(), asked.services.len()),
            (code == 7, usize::from(code == 0), usize::from(code == 7))
        );
    }
}
