//! Commands on one stream: many are in progress at a time, and answers arrive in the order of the commands.

use events::{Annotations, CommandId, ConfigSpec, Id};
use wire::v1::command_answer::Outcome;
use wire::v1::command_request::Command;
use wire::v1::{CommandRequest, CreateConfig, RefusalKind};

use super::cluster::{Cluster, MANAGER};
use super::units::Executor;

/// Number of commands: more than fit in one turn.
const COMMANDS: u64 = 3_000;
/// One command out of this many uses a name that is taken.
const TAKEN_EVERY: u64 = 100;

fn create(number: u64) -> CommandRequest {
    let name = if number % TAKEN_EVERY == TAKEN_EVERY - 1 { "c0".to_owned() } else { format!("c{number}") };
    let spec = ConfigSpec { annotations: Some(Annotations { name, ..Annotations::default() }), ..Default::default() };
    let command = Command::CreateConfig(CreateConfig { spec, data: b"data".to_vec() });
    let id = CommandId::from_bits(u128::from(number) + 1);
    CommandRequest { id, command: Some(command), ..CommandRequest::default() }
}

#[tokio::test]
async fn answers_of_a_stream_come_in_order_and_a_refusal_ends_nothing() {
    let cluster = Cluster::start(Executor::Process, &[]);
    let mut client = wire::connect(&cluster.socket(MANAGER)).await.expect("a connection");
    let mut indexes = Vec::new();
    for _ in 0..2 {
        let commands = tokio_stream::iter((0..COMMANDS).map(create));
        let mut answers = client.execute_stream(commands).await.expect("a stream").into_inner();
        let mut answered = Vec::new();
        while let Some(answer) = answers.message().await.expect("an answer") {
            answered.push(answer.outcome.expect("an outcome"));
        }
        assert_eq!(answered.len() as u64, COMMANDS);
        let of_this: Vec<Option<u64>> = answered
            .iter()
            .zip(0..)
            .map(|(outcome, number)| match outcome {
                Outcome::Reply(reply) => Some(reply.index),
                Outcome::Refusal(refusal) => {
                    assert_eq!((refusal.kind(), number % TAKEN_EVERY), (RefusalKind::Exists, TAKEN_EVERY - 1));
                    None
                }
            })
            .collect();
        indexes.push(of_this);
    }
    assert_eq!(indexes[0].iter().filter(|index| index.is_none()).count() as u64, COMMANDS / TAKEN_EVERY);
    assert!(indexes[0].iter().flatten().is_sorted(), "judged in their order");
    assert_eq!(indexes[0], indexes[1], "a repeated command has one effect and the first answer");
    assert_eq!(cluster.ok("config ls -q").lines().count() as u64, COMMANDS - COMMANDS / TAKEN_EVERY);
}
