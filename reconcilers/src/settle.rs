//! Settling: running the reconcilers until none has a correction.

use std::collections::BTreeMap;

use events::{Event, Timestamp};
use projections::{Cluster, Stamp, Touched};

use crate::{ALL, Correction, Ctx, Room, Scope, Subject};

/// Rounds after which reconcilers that still contradict each other are taken for a fault. Settling takes two or three.
const ROUNDS_MAX: usize = 64;

/// What settling led to.
#[derive(Debug, Default)]
pub struct Settled {
    /// What became true, in order; the state has it already.
    pub events: Vec<Event>,
    /// Everything that any event of the turn concerns.
    pub touched: Touched,
    /// For each subject that was looked at: when to look again, if at all.
    pub wakes: BTreeMap<Subject, Option<Timestamp>>,
    /// What was not looked at because the turn was full; the next turn starts with it.
    pub left: Touched,
}

/// Puts right what is wrong within what was touched, and applies it, until `room` is spent.
///
/// # Panics
/// When the reconcilers do not come to rest, which is a fault in them.
pub fn settle(cluster: &mut Cluster, touched: Touched, ctx: &mut Ctx<'_>, at: &Stamp, mut room: Room) -> Settled {
    let mut settled = Settled { touched: touched.clone(), ..Settled::default() };
    let mut next = touched;
    for _ in 0..ROUNDS_MAX {
        if next.is_empty() {
            return settled;
        }
        let round = std::mem::take(&mut next);
        if room.is_spent() {
            settled.left = round;
            return settled;
        }
        next = pass(cluster, round, ctx, at, &mut room, &mut settled);
    }
    // Only the name: an event may hold what must not be printed.
    let last = settled.events.last().and_then(|event| event.kind.as_ref()).map_or("nothing", events::Kind::name);
    panic!("the reconcilers do not come to rest; the last event is {last}");
}

/// One run of all reconcilers; returns what their corrections touched.
fn pass(
    cluster: &mut Cluster,
    mut looked_at: Touched,
    ctx: &mut Ctx<'_>,
    at: &Stamp,
    room: &mut Room,
    settled: &mut Settled,
) -> Touched {
    let mut changed = Touched::default();
    let mut scope = Scope::of(cluster, &looked_at);
    forget_wakes(&scope, &looked_at, settled);
    for (name, reconcile) in ALL {
        let mut correction = Correction::with_room(*room);
        reconcile(cluster, &scope, ctx, &mut correction);
        let full = correction.is_full();
        *room = correction.room;
        for (time, subject) in correction.wakes {
            let wake = settled.wakes.entry(subject).or_default();
            *wake = Some(wake.map_or(time, |earlier| earlier.min(time)));
        }
        let mut touched = Touched::default();
        for kind in correction.events {
            let event = Event::by_reconciler(name, kind);
            cluster.apply_into(&event, at, &mut touched);
            settled.events.push(event);
        }
        if full {
            // Whatever this one did not reach is looked at again, and so is whatever the later ones did not see: all of it,
            // unless this one is the last and knows.
            let last = ALL.last().is_some_and(|(last, _)| *last == name);
            changed.merge(correction.unreached.filter(|_| last).unwrap_or(looked_at));
            settled.touched.merge(touched.clone());
            changed.merge(touched);
            break;
        }
        if !touched.is_empty() {
            settled.touched.merge(touched.clone());
            looked_at.merge(touched.clone());
            changed.merge(touched);
            scope = Scope::of(cluster, &looked_at);
        }
    }
    changed
}

/// A pass over a subject finds all of its timers again.
fn forget_wakes(scope: &Scope, touched: &Touched, settled: &mut Settled) {
    let nodes = scope.overdue.iter().map(|node| Subject::Node(*node));
    let services = scope.services.iter().map(|service| Subject::Service(*service));
    let places = scope.places.union(&touched.places).map(|(service, instance)| Subject::Place(*service, *instance));
    for subject in nodes.chain(services).chain(places) {
        settled.wakes.insert(subject, None);
    }
}
