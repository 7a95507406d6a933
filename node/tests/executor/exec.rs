//! What every executor must do with commands that run beside a task.

use events::ContainerSpec;
use futures_util::stream::{self, StreamExt};
use node::agent::executor::{ExecutorError, Outputs, Workload};
use tokio::sync::mpsc;
use wire::v1::interact_order::What;
use wire::v1::task_input::Input;
use wire::v1::task_output::Output;
use wire::v1::{AttachSpec, EndOfInput, ExecSpec, TerminalSize};

use crate::bench::Bench;

/// What the supervisor of these tests, which is a test itself, prints before it becomes a command.
const HARNESS: &str = "\nrunning 1 test\n";

/// A command beside a task that runs.
struct Running {
    inputs: mpsc::Sender<Input>,
    outputs: Outputs,
}

fn shell(line: &str) -> ExecSpec {
    ExecSpec { argv: ["sh", "-c", line].map(str::to_owned).into(), ..ExecSpec::default() }
}

async fn exec(bench: &Bench, workload: &Workload, spec: ExecSpec) -> Result<Running, ExecutorError> {
    interact(bench, workload, What::Exec(spec)).await
}

async fn interact(bench: &Bench, workload: &Workload, what: What) -> Result<Running, ExecutorError> {
    let (inputs, receiver) = mpsc::channel(8);
    let given = stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    let outputs = bench.executor.interact(workload, what, given.boxed()).await?;
    Ok(Running { inputs, outputs })
}

/// A task that only waits.
async fn waiting(bench: &Bench) -> Workload {
    let args = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"].map(str::to_owned).into();
    let (env, dir) = (vec!["OF_TASK=own".to_owned()], "/tmp".to_owned());
    let workload = bench.workload(ContainerSpec { args, env, dir, ..ContainerSpec::default() });
    bench.executor.prepare(&workload).await.expect("prepared");
    bench.executor.start(&workload).await.expect("started");
    workload
}

impl Running {
    /// Reads until the command has printed this.
    async fn printed(&mut self, wanted: &str) -> String {
        let mut text = String::new();
        while !text.contains(wanted) {
            match self.outputs.next().await {
                Some(Ok(Output::Stdout(data) | Output::Stderr(data))) => text += &String::from_utf8_lossy(&data),
                other => panic!("{wanted:?} does not come after {text:?}, but {other:?}"),
            }
        }
        text
    }

    async fn give(&self, input: Input) {
        self.inputs.send(input).await.expect("it takes input");
    }

    /// What it prints to its end, on each stream, and its exit code.
    async fn end(mut self) -> (String, String, i32) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        loop {
            match self.outputs.next().await {
                Some(Ok(Output::Stdout(data))) => out.extend(data),
                Some(Ok(Output::Stderr(data))) => err.extend(data),
                Some(Ok(Output::ExitCode(code))) => {
                    assert!(self.outputs.next().await.is_none(), "an exit code is the last");
                    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                    let out = text(out);
                    return (out.strip_prefix(HARNESS).map(str::to_owned).unwrap_or(out), text(err), code);
                }
                other => panic!("no end: {other:?}"),
            }
        }
    }
}

pub async fn a_command_runs_in_the_place_of_the_task(bench: &Bench) {
    let workload = waiting(bench).await;
    let line = "echo $(pwd) $OF_TASK $OF_COMMAND; cat; echo trouble >&2; exit 42";
    let spec = ExecSpec { env: vec!["OF_COMMAND=given".to_owned()], stdin: true, ..shell(line) };
    let running = exec(bench, &workload, spec).await.expect("started");
    running.give(Input::Data(b"from here\n".to_vec())).await;
    running.give(Input::End(EndOfInput {})).await;
    let expected = ("/tmp own given\nfrom here\n".to_owned(), "trouble\n".to_owned(), 42);
    assert_eq!(running.end().await, expected);

    // Without input it is empty; elsewhere, and as another.
    let spec = ExecSpec { dir: Some("/".to_owned()), user: Some("65534:65534".to_owned()), ..shell("pwd; id -u; cat") };
    let ended = exec(bench, &workload, spec).await.expect("started").end().await;
    assert_eq!(ended, ("/\n65534\n".to_owned(), String::new(), 0));

    // More than any buffer on the way.
    let spec = ExecSpec { stdin: true, ..shell("cat") };
    let Running { inputs, outputs } = exec(bench, &workload, spec).await.expect("started");
    let feeding = tokio::spawn(async move {
        for _ in 0..64 {
            inputs.send(Input::Data(vec![b'x'; 32 << 10])).await.expect("it takes input");
        }
        inputs.send(Input::End(EndOfInput {})).await.expect("it takes input");
        inputs
    });
    let inputs = mpsc::channel(1).0;
    let (out, _, code) = Running { inputs, outputs }.end().await;
    assert_eq!((out.len(), code), (64 * (32 << 10), 0));
    drop(feeding.await);
}

pub async fn a_command_has_a_terminal(bench: &Bench) {
    let workload = waiting(bench).await;
    let terminal = Some(TerminalSize { columns: 123, rows: 45 });
    // Some engines give it its size only once it runs.
    let line = "test -t 0 && test -t 1 && test -t 2 || exit 1; until stty size 2>/dev/null | grep '45 123'; do sleep 0.01; done; \
                trap 'stty size; exit 7' WINCH; echo ready; while :; do sleep 0.1; done";
    let mut running = exec(bench, &workload, ExecSpec { terminal, stdin: true, ..shell(line) }).await.expect("started");
    let shown = running.printed("ready").await;
    assert!(shown.contains("45 123"), "{shown:?}");
    running.give(Input::Size(TerminalSize { columns: 80, rows: 24 })).await;
    let (out, err, code) = running.end().await;
    assert!(out.contains("24 80") && err.is_empty() && code == 7, "{out:?} {err:?} {code}");
    // What is typed is shown, and Ctrl-C is a signal.
    let spec = ExecSpec {
        terminal,
        stdin: true,
        ..shell("trap 'exit 9' INT; read line; echo got $line; while :; do sleep 0.1; done")
    };
    let mut running = exec(bench, &workload, spec).await.expect("started");
    running.give(Input::Data(b"words\n".to_vec())).await;
    running.printed("got words").await;
    running.give(Input::Data(vec![3])).await;
    assert_eq!(running.end().await.2, 9);
}

pub async fn a_command_gets_signals(bench: &Bench) {
    let workload = waiting(bench).await;
    let line = "trap 'echo one' USR1; trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done";
    let mut running = exec(bench, &workload, shell(line)).await.expect("started");
    running.printed("ready").await;
    running.give(Input::Signal("USR1".to_owned())).await;
    running.printed("one").await;
    running.give(Input::Signal("SIGTERM".to_owned())).await;
    assert_eq!(running.end().await.2, 5);
}

pub async fn a_command_that_is_not_there_is_said(bench: &Bench) {
    let workload = waiting(bench).await;
    let spec = ExecSpec { argv: vec!["/no/such/program".to_owned()], ..ExecSpec::default() };
    let (out, err, code) = exec(bench, &workload, spec).await.expect("started").end().await;
    let said = out + &err;
    assert!(code != 0 && said.contains("/no/such/program"), "{code}: {said}");
}

pub async fn a_command_may_run_by_itself(bench: &Bench) {
    let workload = waiting(bench).await;
    let mark = format!("{}/mark-{}", bench.scratch(), workload.task);
    let line = format!("while :; do touch {mark}; sleep 0.01; done");
    let spec = ExecSpec { detach: true, ..shell(&line) };
    let running = exec(bench, &workload, spec).await.expect("started");
    assert_eq!(running.end().await, (String::new(), String::new(), 0));
    let line = format!("until test -e {mark}; do sleep 0.01; done");
    assert_eq!(exec(bench, &workload, shell(&line)).await.expect("started").end().await.2, 0);
}

pub async fn a_command_ends_when_its_operator_is_gone(bench: &Bench) {
    let workload = waiting(bench).await;
    let mark = format!("{}/gone-{}", bench.scratch(), workload.task);
    // A shell says that its child was hung up, which nobody reads any more.
    let line = format!("trap 'touch {mark}; exit' HUP; echo ready; exec >/dev/null 2>&1; while :; do sleep 0.1; done");
    let mut running = exec(bench, &workload, shell(&line)).await.expect("started");
    running.printed("ready").await;
    drop(running);
    let line = format!("until test -e {mark}; do sleep 0.01; done");
    assert_eq!(exec(bench, &workload, shell(&line)).await.expect("started").end().await.2, 0);
}

pub async fn a_command_ends_with_its_task(bench: &Bench) {
    let workload = waiting(bench).await;
    let mut running = exec(bench, &workload, shell("echo ready; while :; do sleep 0.1; done")).await.expect("started");
    running.printed("ready").await;
    bench.executor.shutdown(&workload).await.expect("stopped");
    assert_eq!(running.end().await.2, 137);
    let refused = exec(bench, &workload, shell("true")).await.err().expect("nothing runs any more");
    assert!(matches!(&refused, ExecutorError::Fatal(why) if why.contains("not running")), "{refused}");
}

pub async fn who_attaches_sees_what_a_task_prints_and_how_it_ends(bench: &Bench) {
    let workload = bench.shell("trap 'echo bye; exit 3' TERM; while :; do echo tick; sleep 0.1; done");
    bench.executor.prepare(&workload).await.expect("prepared");
    bench.executor.start(&workload).await.expect("started");
    let attach = || interact(bench, &workload, What::Attach(AttachSpec { stdin: true, terminal: None }));
    let (mut first, mut second) = (attach().await.expect("attached"), attach().await.expect("attached"));
    first.printed("tick").await;
    // One who leaves ends nothing.
    drop(first);
    second.printed("tick").await;
    second.give(Input::Signal("TERM".to_owned())).await;
    second.printed("tick").await;
    bench.executor.shutdown(&workload).await.expect("stopped");
    let (out, _, code) = second.end().await;
    assert!(out.ends_with("bye\n") && code == 3, "{out:?} {code}");
    let refused = attach().await.err().expect("nothing runs any more");
    assert!(matches!(&refused, ExecutorError::Fatal(why) if why.contains("not running")), "{refused}");
}
