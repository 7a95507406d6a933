//! Commands in tasks: their output in swarmctl.

use wire::v1::interaction::What;
use wire::v1::task_output::Output;
use wire::v1::{Refusal, RefusalKind};

use super::fake::Fake;
use super::{TestEnv, run};

#[tokio::test]
async fn a_command_is_asked_for_as_it_was_typed_and_ends_with_its_exit_code() {
    let mut fake = Fake::new();
    let outputs = [Output::Stdout(b"out\n".to_vec()), Output::Stderr(b"err\n".to_vec()), Output::ExitCode(42)];
    fake.outputs = outputs.map(Ok).into();
    let line = "--reason why task exec -i -e A=b -u 7:8 -w /srv web.1 ls -l --colour -- x";
    let ran = run(line, &mut fake, TestEnv::default()).await;
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (42, "out\n", "err\n"));
    let [asked] = &fake.interactions[..] else { panic!("one command, not {:?}", fake.interactions) };
    assert_eq!((asked.task.as_str(), asked.reason.as_deref()), ("web.1", Some("why")));
    let Some(What::Exec(exec)) = &asked.what else { panic!("a command, not {asked:?}") };
    assert_eq!(exec.argv, ["ls", "-l", "--colour", "--", "x"]);
    assert_eq!(
        (exec.env.join(" "), exec.user.as_deref(), exec.dir.as_deref()),
        ("A=b".to_owned(), Some("7:8"), Some("/srv"))
    );
    assert_eq!((exec.stdin, exec.detach, exec.terminal), (true, false, None));
}

#[tokio::test]
async fn a_command_without_an_end_and_one_that_is_refused_are_failures() {
    let mut fake = Fake::new();
    fake.outputs = vec![Ok(Output::Stdout(b"started".to_vec()))];
    let ran = run("task exec web.1 x", &mut fake, TestEnv::default()).await;
    assert_eq!((ran.code, ran.out.as_str()), (7, "started"));
    let sentence = "task web.1 is not running (complete)".to_owned();
    fake.refusal = Some(Refusal { kind: RefusalKind::Conflict.into(), subject: String::new(), sentence, hint: None });
    let ran = run("task exec web.1 x", &mut fake, TestEnv::default()).await;
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.starts_with("error: task web.1 is not running (complete)\n"), "{}", ran.err);
}

#[tokio::test]
async fn a_terminal_needs_one_here_where_somebody_types_into_it() {
    let mut fake = Fake::new();
    fake.outputs = vec![Ok(Output::ExitCode(0))];
    let ran = run("task exec -it web.1 sh", &mut fake, TestEnv::default()).await;
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("the standard input is not a terminal") && fake.interactions.is_empty(), "{}", ran.err);
    assert_eq!(run("task exec -t web.1 ls", &mut fake, TestEnv::default()).await.code, 0);
    let Some(What::Exec(exec)) = &fake.interactions[0].what else { panic!("a command") };
    assert_eq!(exec.terminal.map(|size| (size.columns, size.rows)), Some((80, 24)));
    let ran = run("--dry-run task exec web.1 ls", &mut fake, TestEnv::default()).await;
    assert_eq!(ran.code, 2, "nothing can be tried of it: {}", ran.err);
    assert_eq!(fake.interactions.len(), 1);
}

#[tokio::test]
async fn who_attaches_gets_what_the_task_prints_and_gives_it_input_only_where_it_takes_any() {
    let mut fake = Fake::new();
    fake.outputs = [Output::Stdout(b"tick\n".to_vec()), Output::ExitCode(3)].map(Ok).into();
    let ran = run("task attach web.1", &mut fake, TestEnv::default()).await;
    assert_eq!((ran.code, ran.out.as_str()), (3, "tick\n"), "{}", ran.err);
    let Some(What::Attach(attach)) = &fake.interactions[0].what else { panic!("no attachment") };
    assert_eq!((attach.stdin, attach.terminal), (false, None), "its standard input is closed");
}
