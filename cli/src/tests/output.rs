//! What each verb prints, and how failures are reported.

use wire::v1::{Refusal, RefusalKind};

use super::fake::{Fake, event};
use super::{TestEnv, run};

async fn printed(line: &str) -> String {
    let ran = run(line, &mut Fake::new(), TestEnv::default()).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
    ran.out
}

#[tokio::test]
async fn lists_print_ids_alone_on_request() {
    assert_eq!(printed("service ls -q").await, "0000000000000000000000009\n");
    assert_eq!(printed("node ls -q").await, "0000000000000000000000001\n0000000000000000000000002\n");
    assert_eq!(printed("task ls -q").await, "0000000000000000000000003\n0000000000000000000000004\n");
    assert_eq!(printed("task ls -aq").await.lines().count(), 3);
}

#[tokio::test]
async fn the_past_is_named_above_what_people_read_and_in_a_comment_where_programs_do() {
    const POINT: &str = "As of index 8, 1970-01-01T00:00:00.000000000Z";
    let table = printed("service ls --at 8").await;
    assert!(table.starts_with(&format!("{POINT}:\n\nID ")), "{table}");
    let document = printed("service export web --at 8").await;
    assert!(document.starts_with(&format!("# {POINT}\nservice:\n")), "{document}");
    assert!(printed("service export web --at 8 --format json").await.starts_with("{\"service\""));
}

#[tokio::test]
async fn inspecting_shows_the_block_and_then_the_tasks() {
    let text = printed("service inspect -a web").await;
    let (block, table) = text.split_once("\n\n").expect("two parts");
    assert!(block.contains("Replicas") && block.contains("1/2"), "{block}");
    assert!(table.starts_with("TASK ID") && table.contains("FAILED 11 seconds ago"), "{table}");
    assert!(!printed("service inspect web").await.contains("FAILED"));
    assert!(printed("node inspect worker-1").await.contains("\n\nID  "));
}

#[tokio::test]
async fn whoever_follows_history_is_told_where_it_ended() {
    let mut manager = Fake { history: vec![(6, event()), (7, event())], ..Fake::new() };
    let ran = run("events --follow", &mut manager, TestEnv::default()).await;
    assert_eq!((ran.code, ran.out.lines().count()), (7, 3));
    assert!(
        ran.err.starts_with("error: the manager was stopped, which ends the stream of events\nhint: "),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("`--follow --from 7`"), "{}", ran.err);
    let ran = run(
        "events --follow --format json",
        &mut Fake { history: vec![(6, event())], ..Fake::new() },
        TestEnv::default(),
    )
    .await;
    assert!(ran.err.contains(r#""code":"stopped""#), "{}", ran.err);
}

#[tokio::test]
async fn json_has_one_object_a_line_with_names_for_numbers() {
    let text = printed("task ls -a --format json").await;
    let tasks: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line is an object")).collect();
    assert_eq!(tasks.len(), 3);
    assert_eq!(tasks[0]["desired"], "running");
    assert_eq!(tasks[0]["status"]["state"], "running");
    assert_eq!(tasks[0]["meta"]["created_at"], "2027-01-15T07:56:40.000000000Z");
    assert_eq!(tasks[0]["service"], "0000000000000000000000009");
    let parse = |text: String| serde_json::from_str::<serde_json::Value>(&text).expect("one object");
    assert_eq!(parse(printed("node inspect worker-1 --format json").await)["state"], "down");
    assert_eq!(parse(printed("cluster inspect --format json").await)["join_tokens"]["worker"], "SWMTKN-1-abc-worker");
    let rotated = serde_json::json!({ "role": "worker", "join_token": "SWMTKN-1-abc-worker" });
    assert_eq!(parse(printed("cluster update --rotate-join-token worker --format json").await), rotated);
    assert_eq!(parse(printed("service rm web --format json").await)["index"], 10);
    assert_eq!(parse(printed("version --format json").await)["server"]["version"], "9.9.9");
}

#[tokio::test]
async fn events_are_lines_or_objects() {
    let manager = || Fake { history: vec![(12, event())], ..Fake::new() };
    let ran = run("events", &mut manager(), TestEnv::default()).await;
    let line = ran.out.lines().nth(1).expect("a line below the heading").to_owned();
    assert!(line.starts_with("12        1970-01-01T00:00:00.000Z   service_scaled"), "{line}");
    assert!(line.ends_with("web: from 1 to 2 replicas"), "{line}");
    let ran = run("events -n", &mut manager(), TestEnv::default()).await;
    assert!(ran.out.contains("0000000000000000000000009: from 1 to 2 replicas"), "{}", ran.out);
    let ran = run("events --format json", &mut manager(), TestEnv::default()).await;
    let event: serde_json::Value = serde_json::from_str(&ran.out).expect("one object");
    assert_eq!(event["event"]["kind"]["service_scaled"]["to"], 2);
    assert_eq!(event["event"]["cause"]["command"], 0);
}

#[tokio::test]
async fn a_reconciler_is_named_in_json() {
    let kind = event().kind.expect("a kind");
    let event = events::Event::by_reconciler(events::Reconciler::Schedule, kind);
    let mut manager = Fake { history: vec![(12, event)], ..Fake::new() };
    let ran = run("events --format json", &mut manager, TestEnv::default()).await;
    assert!(ran.out.contains(r#""cause":{"reconciler":"schedule"}"#), "{}", ran.out);
}

#[tokio::test]
async fn refusals_are_told_on_the_side_and_set_the_exit_code() {
    let refusal = |hint: Option<&str>| Refusal {
        kind: RefusalKind::Exists.into(),
        subject: "service web".to_owned(),
        sentence: "the name web is taken".to_owned(),
        hint: hint.map(str::to_owned),
    };
    let line = "service create --name web --image x";
    let mut manager = Fake { refusal: Some(refusal(Some("take another"))), ..Fake::new() };
    let ran = run(line, &mut manager, TestEnv::default()).await;
    assert_eq!((ran.code, ran.out.as_str()), (4, ""));
    assert_eq!(ran.err, "error: the name web is taken\nhint: take another\n");
    let mut manager = Fake { refusal: Some(refusal(None)), ..Fake::new() };
    let ran = run(&format!("{line} --format json"), &mut manager, TestEnv::default()).await;
    let error: serde_json::Value = serde_json::from_str(&ran.err).expect("one object");
    assert_eq!(error["error"]["code"], "exists");
    assert_eq!(error["error"]["subject"], "service web");
    assert!(!error["error"]["hint"].as_str().unwrap_or_default().is_empty());
}

#[tokio::test]
async fn what_does_not_exist_is_code_3() {
    for line in ["service update nope --force", "node drain nope"] {
        let mut manager = Fake::new();
        let ran = run(line, &mut manager, TestEnv::default()).await;
        assert_eq!(ran.code, 3, "{line}");
        assert!(ran.err.contains("nope\nhint: `swarmctl "), "{}", ran.err);
        assert!(manager.executed.is_empty());
    }
}

#[tokio::test]
async fn a_closed_output_ends_the_command_without_a_word() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (cli, mut manager) = (super::parsed("service ls"), Fake::new());
    let (mut err, world) = (Vec::new(), TestEnv::default());
    let env = crate::Env {
        out: &mut Closed,
        err: &mut err,
        interactive: false,
        width: None,
        coloured: false,
        clock: &world,
        command_ids: &mut || unreachable!("a list asks for no change"),
        interrupt: Box::pin(std::future::pending()),
        console: &mut crate::NoConsole,
    };
    let code = crate::run(&cli, &mut manager, env).await;
    assert_eq!((code, err), (0, Vec::new()));
}
