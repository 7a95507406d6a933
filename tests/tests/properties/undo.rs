//! An undo restores the state before, whatever happened in between and since; and an undo can be undone.

use commands::undo::{self, Effect, Inverse, Key, UndoPlan};
use events::{Cause, CommandRecord, codec};
use projections::{Cluster, Stamp};
use proptest::prelude::*;
use reconcilers::Budget;

use super::{Core, Step, step};

/// The effects of the commands in the frames from this one on, each as an operation of its own.
fn effects(core: &Core, from: usize, mut cluster: Cluster) -> Vec<Effect> {
    let mut effects = Vec::new();
    for entry in &core.frames[from..] {
        let sections = codec::split_entry(entry).expect("an entry can be split");
        let frame = codec::decode_frame(sections.frame).expect("a frame can be read");
        let at = Stamp { index: frame.header.index, time: frame.header.log_time };
        let before = cluster.clone();
        let asked = frame.events.iter().filter(|event| matches!(event.cause, Some(Cause::Command(_))));
        let mut after = before.clone();
        asked.for_each(|event| drop(after.apply(event, &at)));
        let effect = Effect::of(&CommandRecord::default(), &before, &after);
        if effect.objects().next().is_some() {
            effects.push(effect);
        }
        cluster.apply_frame(&frame);
    }
    effects
}

/// Executes a plan; every command must be accepted.
fn put_back(core: &mut Core, plan: UndoPlan) -> Vec<(Key, Inverse)> {
    for (key, inverse) in &plan.commands {
        let actor = commands::Actor::Operator("user".to_owned());
        let done = core.ask(&actor, &inverse.clone().command());
        assert!(done.is_some(), "{key:?} is not put back by {inverse:?}");
    }
    plan.commands
}

fn is_whole(plan: &UndoPlan) -> bool {
    plan.conflicts.is_empty() && plan.problems.iter().all(|problem| !problem.is_impossible)
}

/// Takes a step, undoes it and undoes that.
fn expect_undone(core: &mut Core, step: &Step) {
    let (before, from) = (core.cluster.clone(), core.frames.len());
    core.take(step);
    let done = effects(core, from, before);
    let plan = undo::undo(&done, &core.cluster, None);
    assert!(plan.conflicts.is_empty(), "nobody came in between: {:?}", plan.conflicts);
    if !is_whole(&plan) || plan.commands.is_empty() {
        return;
    }
    let (middle, from) = (core.cluster.clone(), core.frames.len());
    put_back(core, plan);
    for (key, before, after) in done.iter().flat_map(Effect::objects) {
        let is_first = done.iter().flat_map(Effect::objects).find(|(other, ..)| *other == key);
        assert_eq!(Some((key, before, after)), is_first, "a step is one command about an object");
        assert_eq!(key.value(&core.cluster), *before, "{key:?} is as it was before {step:?}");
    }
    let redo = undo::undo(&effects(core, from, middle.clone()), &core.cluster, None);
    let destroyed = redo.problems.iter().filter(|problem| problem.is_impossible);
    assert!(destroyed.clone().all(|problem| problem.subject.starts_with("secret ")), "{redo:?}");
    let is_destroyed = destroyed.count() > 0;
    put_back(core, redo);
    for (key, _, after) in done.iter().flat_map(Effect::objects).filter(|_| !is_destroyed) {
        assert_eq!(key.value(&core.cluster), *after, "{key:?} is as {step:?} made it");
    }
}

/// Takes all steps and undoes one of them, if there are no conflicts: then nothing of it is left to undo.
fn expect_undone_later(core: &mut Core, steps: &[Step], which: usize) {
    let which = which % steps.len();
    let mut done = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let (before, from) = (core.cluster.clone(), core.frames.len());
        core.take(step);
        if number == which {
            done = effects(core, from, before);
        }
    }
    let plan = undo::undo(&done, &core.cluster, None);
    if !is_whole(&plan) {
        return;
    }
    put_back(core, plan);
    let again = undo::undo(&done, &core.cluster, None);
    assert!(again.commands.is_empty() && again.conflicts.is_empty(), "{again:?}");
}

/// Takes all steps and reverts everything to the state after some of them: the result is that state, except for what cannot be
/// restored.
fn expect_reverted(core: &mut Core, steps: &[Step], which: usize) {
    let which = which % steps.len();
    let mut then = core.cluster.clone();
    for (number, step) in steps.iter().enumerate() {
        core.take(step);
        if number == which {
            then = core.cluster.clone();
        }
    }
    let plan = undo::revert(&then, &core.cluster, |_| true);
    let was_whole = is_whole(&plan);
    let back = put_back(core, plan);
    for (key, _) in &back {
        assert_eq!(key.value(&core.cluster), key.value(&then), "{key:?} is as it was");
    }
    let again = undo::revert(&then, &core.cluster, |_| true);
    assert!(again.commands.is_empty(), "{:?} are left", again.commands);
    assert!(!was_whole || is_whole(&again), "{:?}", again.problems);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_undone_is_as_before_and_can_be_redone(steps in prop::collection::vec((step(), any::<bool>()), 1..60)) {
        let mut core = Core::new(Budget::FRAME);
        for (step, is_undone) in &steps {
            if *is_undone { expect_undone(&mut core, step) } else { core.take(step) }
        }
        core.expect_repeatable();
    }

    #[test]
    fn nothing_is_left_to_undo_of_what_was_undone_later(
        steps in prop::collection::vec(step(), 1..60),
        which in any::<usize>(),
    ) {
        expect_undone_later(&mut Core::new(Budget::FRAME), &steps, which);
    }

    #[test]
    fn what_is_reverted_is_as_it_was_then(steps in prop::collection::vec(step(), 1..60), which in any::<usize>()) {
        expect_reverted(&mut Core::new(Budget::FRAME), &steps, which);
    }
}
