//! Plans that are applied once, repeated, and continued after an interruption.

use events::{CommandId, Id};
use wire::v1::command_request::Command;
use wire::v1::preview_step::Step;
use wire::v1::{CommandRequest, Plan, PreviewStep, RemoveConfig};

use super::fake::Fake;
use super::{TestEnv, run};
use crate::format::samples;

/// A plan of two changes; the second is made once the first has settled.
fn plan() -> Plan {
    let step = |number: u128, at_rest| {
        let command = Command::RemoveConfig(RemoveConfig { config: format!("config-{number}") });
        let (id, command) = (CommandId::from_bits(number), Some(command));
        PreviewStep { at_rest, step: Some(Step::Command(CommandRequest { id, command, ..Default::default() })) }
    };
    Plan { cluster: samples::cluster().id, index: 5, steps: vec![step(1, false), step(2, true)], ..Plan::default() }
}

#[tokio::test]
async fn a_plan_that_was_carried_out_is_refused_and_one_that_was_cut_short_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("web.plan");
    std::fs::write(&file, wire::plan::write("two changes", &plan())).expect("written");
    let now = samples::cluster().index;
    // The indexes of the changes, the result of the command, the number of printed objects, and the error.
    let table = [
        ([now + 1, now + 2], 0, 2, ""),
        ([now - 2, now + 1], 0, 1, ""),
        ([now - 2, now], 4, 0, "error: this plan was applied already, at index 42\nhint: make a new plan\n"),
    ];
    for (indexes, code, named, err) in table {
        let mut manager = Fake::new();
        manager.indexes = indexes.into();
        let ran = run(&format!("apply {}", file.display()), &mut manager, TestEnv::default()).await;
        assert_eq!((ran.code, ran.out.lines().count(), ran.err.as_str()), (code, named, err), "{indexes:?}");
        assert_eq!(manager.executed.len(), 2, "{indexes:?}");
    }
}
