//! Tests the streams that managers request from the agent.

use tokio::time::timeout;
use wire::v1::stream_order::Order;
use wire::v1::task_input::Input;
use wire::v1::task_output::Output;
use wire::v1::to_task::Message as ToTaskMessage;
use wire::v1::{
    EndOfInput, ExecSpec, FromTask, InteractOrder, InteractionBegun, LogTask, LogsOrder, StreamOrder, TaskInput,
    TaskOutput, ToTask, UsageOrder, from_task, interact_order,
};

use super::manager::Opened;
use super::*;
use crate::streams::Credit;

/// Longer than anything takes, on paused time.
const TIMEOUT: Duration = Duration::from_secs(3600);
/// How long to wait before concluding that nothing will arrive.
const SILENCE: Duration = Duration::from_secs(60);

fn order(stream: u64, credit: u64, tasks: &[u128], follow: bool) -> StreamOrder {
    let task = |number: &u128| LogTask { task: id(*number), tail: None, since: None };
    let logs = LogsOrder { tasks: tasks.iter().map(task).collect(), follow, ..LogsOrder::default() };
    StreamOrder { id: stream, manager: None, credit, order: Some(Order::Logs(logs)) }
}

/// A task that has printed this many lines.
fn chatty(number: u128, lines: u32) -> Assignment {
    let mut assignment = assignment(number, "sim/ok");
    let labels = &mut assignment.spec.annotations.get_or_insert_default().labels;
    labels.insert("sim.lines".to_owned(), lines.to_string());
    assignment
}

async fn next(stream: &mut Opened) -> Option<FromTask> {
    timeout(TIMEOUT, stream.inbound.message()).await.expect("it never came").expect("a stream")
}

/// The lines of a stream to its end, or until none arrive for long; grants credit for each if `pay`.
async fn lines(stream: &mut Opened, credit: u64, pay: bool) -> (Vec<TaskId>, u64) {
    let (mut tasks, mut cost) = (Vec::new(), 0);
    while let Ok(Ok(Some(message))) = timeout(SILENCE, stream.inbound.message()).await {
        let bytes = Credit::cost(&message, credit);
        cost += bytes;
        if pay {
            stream.to_agent.send(Ok(ToTask { message: Some(ToTaskMessage::Credit(bytes)) })).await.expect("it listens");
        }
        let Some(from_task::Message::Lines(batches)) = message.message else { panic!("lines, not {message:?}") };
        tasks.extend(batches.batches.iter().flat_map(|batch| std::iter::repeat_n(batch.task, batch.lines.len())));
    }
    (tasks, cost)
}

async fn ordered(scene: &Scene, order: StreamOrder) -> Opened {
    let wanted = order.id;
    scene.manager.order(order).await;
    let mut opened = scene.manager.opened().await;
    assert_eq!(next(&mut opened).await.and_then(|first| first.opens), Some(wanted));
    opened
}

async fn running(tasks: Vec<Assignment>) -> Scene {
    let ids: Vec<TaskId> = tasks.iter().map(|assignment| assignment.task).collect();
    let scene = Scene::assigned(tasks).await;
    for task in ids {
        scene.manager.reported(task, TaskState::Running).await;
    }
    scene
}

#[tokio::test(start_paused = true)]
async fn the_lines_of_tasks_come_to_their_end_and_what_is_not_there_is_said() {
    let scene = running(vec![chatty(1, 3), chatty(2, 2)]).await;
    let mut opened = ordered(&scene, order(7, 1 << 20, &[9, 1, 2], false)).await;
    let failed = next(&mut opened).await.and_then(|first| first.message);
    let Some(from_task::Message::Failure(failure)) = failed else { panic!("a failure, not {failed:?}") };
    assert_eq!((failure.task, failure.sentence.as_str()), (id(9), "its node no longer has it"));
    let (mut received, _) = lines(&mut opened, 1 << 20, false).await;
    received.sort_unstable();
    assert_eq!(received, [id(1), id(1), id(1), id(2), id(2)]);
    assert_eq!(next(&mut opened).await, None, "it has ended");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_gets_no_more_than_its_credit_and_holds_up_no_other() {
    let scene = running(vec![chatty(1, 2_000)]).await;
    let credit = 40_000;
    let mut stopped = ordered(&scene, order(7, credit, &[1], true)).await;
    let (received, cost) = lines(&mut stopped, credit, false).await;
    assert!(!received.is_empty() && cost <= credit, "{cost} bytes came for a credit of {credit}");

    let mut other = ordered(&scene, order(8, credit, &[1], false)).await;
    assert_eq!(lines(&mut other, credit, true).await.0.len(), 2_000);

    stopped.to_agent.send(Ok(ToTask { message: Some(ToTaskMessage::Credit(cost)) })).await.expect("it listens");
    let (rest, _) = lines(&mut stopped, credit, true).await;
    assert_eq!(received.len() + rest.len(), 2_000, "it continues from there");
}

#[tokio::test(start_paused = true)]
async fn who_follows_may_add_tasks_and_ends_the_stream_by_leaving() {
    let scene = running(vec![chatty(1, 1), chatty(2, 1)]).await;
    let mut opened = ordered(&scene, order(7, 1 << 20, &[1], true)).await;
    assert_eq!(lines(&mut opened, 1 << 20, true).await.0, [id(1)]);
    let Some(Order::Logs(more)) = order(7, 0, &[2], true).order else { panic!("an order of logs") };
    opened.to_agent.send(Ok(ToTask { message: Some(ToTaskMessage::Logs(more)) })).await.expect("it listens");
    assert_eq!(lines(&mut opened, 1 << 20, true).await.0, [id(2)]);
    let Opened { mut inbound, to_agent } = opened;
    drop(to_agent);
    let ended = timeout(TIMEOUT, inbound.message()).await.expect("it never ended");
    assert!(matches!(ended, Ok(None) | Err(_)), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn what_tasks_use_comes_once_a_period_until_it_was_read_often_enough() {
    let mut unmeasured = assignment(3, "sim/ok");
    let labels = &mut unmeasured.spec.annotations.get_or_insert_default().labels;
    labels.insert("sim.unmeasured".to_owned(), String::new());
    let scene = running(vec![chatty(1, 0), chatty(2, 0), unmeasured]).await;
    let tasks = vec![id(1), id(9), id(2), id(3)];
    let usage = UsageOrder { tasks, period_ns: 1_000_000_000, rounds: Some(2) };
    let order = StreamOrder { id: 7, manager: None, credit: 1 << 20, order: Some(Order::Usage(usage)) };
    let began = tokio::time::Instant::now();
    let mut opened = ordered(&scene, order).await;
    let (mut read, mut failed) = (Vec::new(), Vec::new());
    while let Some(message) = next(&mut opened).await {
        match message.message {
            Some(from_task::Message::Usage(usage)) => read.extend(usage.readings.iter().map(|reading| reading.task)),
            Some(from_task::Message::Failure(failure)) => failed.push((failure.task, failure.sentence)),
            other => panic!("neither readings nor a failure: {other:?}"),
        }
    }
    assert_eq!(read, [id(1), id(2), id(1), id(2)]);
    assert_eq!(failed, [(id(3), "the simulated engine counts nothing".to_owned())], "said once");
    assert!(began.elapsed() >= Duration::from_secs(1), "a period lies between two readings");
}

/// A command in the first task.
fn exec(stream: u64, words: &[&str]) -> StreamOrder {
    let argv = words.iter().map(|word| (*word).to_owned()).collect();
    let what = Some(interact_order::What::Exec(ExecSpec { argv, stdin: true, ..ExecSpec::default() }));
    let order = Order::Interact(InteractOrder { task: id(1), what });
    StreamOrder { id: stream, manager: None, credit: 1 << 20, order: Some(order) }
}

async fn give(stream: &Opened, input: Input) {
    let input = TaskInput { input: Some(input) };
    stream.to_agent.send(Ok(ToTask { message: Some(ToTaskMessage::Input(input)) })).await.expect("it listens");
}

/// All remaining messages of a stream.
async fn rest(stream: &mut Opened) -> Vec<from_task::Message> {
    let mut said = Vec::new();
    while let Some(message) = next(stream).await {
        said.extend(message.message);
    }
    said
}

fn output(output: Output) -> from_task::Message {
    from_task::Message::Output(TaskOutput { output: Some(output) })
}

#[tokio::test(start_paused = true)]
async fn a_command_gets_its_input_and_each_that_was_used_makes_room_for_another() {
    let scene = running(vec![chatty(1, 0)]).await;
    let mut opened = ordered(&scene, exec(7, &["cat"])).await;
    let started = next(&mut opened).await.and_then(|first| first.message);
    assert_eq!(started, Some(from_task::Message::Begun(InteractionBegun {})));
    for number in 0..40 {
        give(&opened, Input::Data(vec![number])).await;
    }
    give(&opened, Input::End(EndOfInput {})).await;
    let (mut used, mut came) = (0, Vec::new());
    for said in rest(&mut opened).await {
        match said {
            from_task::Message::UsedInputs(count) => used += count,
            from_task::Message::Output(TaskOutput { output: Some(Output::Stdout(data)) }) => came.extend(data),
            from_task::Message::Output(TaskOutput { output: Some(Output::ExitCode(code)) }) => assert_eq!(code, 0),
            other => panic!("neither output nor room: {other:?}"),
        }
    }
    assert_eq!(came, (0..40).collect::<Vec<u8>>());
    assert!((1..=41).contains(&used), "{used}");
}

#[tokio::test(start_paused = true)]
async fn the_exit_code_of_a_command_comes_last_and_a_task_that_does_not_run_is_said() {
    let scene = running(vec![chatty(1, 0)]).await;
    let mut opened = ordered(&scene, exec(7, &["exit", "42"])).await;
    let said = rest(&mut opened).await;
    assert_eq!(said, [from_task::Message::Begun(InteractionBegun {}), output(Output::ExitCode(42))]);
    scene.executor.end(id(1), 0);
    let mut opened = ordered(&scene, exec(8, &["exit", "42"])).await;
    let [from_task::Message::Failure(failure)] = &rest(&mut opened).await[..] else { panic!("a failure alone") };
    assert_eq!(failure.sentence, "it is not running");
}
