//! Settling: running the reconcilers until none has a correction.
//!
//! What was touched is settled slice by slice, each with its share of the turn's budget, and within a slice no reconciler uses
//! more than half of what is left before tasks are placed: so neither a service nor a reconciler starves the others.

use std::collections::{BTreeMap, BTreeSet};

use events::{Event, Reconciler, ServiceId, Timestamp};
use projections::{Cluster, Stamp, Touched};

use crate::slices::{put_off_large, slices};
use crate::{ALL, Budget, Correction, Ctx, Reconcile, Scope, TimerKey};

/// Rounds after which reconcilers that still contradict each other count as a bug. Settling takes two or three.
const ROUNDS_MAX: usize = 16;
/// The same if they have also used up the turn's budget: a large service does so in the first rounds.
const ROUNDS_OF_A_FULL_TURN: usize = 8;

/// The result of settling.
#[derive(Debug, Default)]
pub struct Settled {
    /// The new events, in order; they are already applied to the state.
    pub events: Vec<Event>,
    /// Everything that any event of the turn affects.
    pub touched: Touched,
    /// For each processed subject: when to process it again, if at all.
    pub wakes: BTreeMap<TimerKey, Option<Timestamp>>,
    /// What was not processed because the turn was full; the next turn starts with it.
    pub left: Touched,
    /// How many places were visited, counting repeated visits: the turn's work.
    pub places: usize,
    /// Services on which the reconcilers do not converge, which is a bug in them. Their events are kept; the services must be
    /// quarantined for some time.
    pub disputed: BTreeSet<ServiceId>,
    /// Services with work left, although this turn started to correct its own corrections. A service that is merely large does
    /// not; if this continues from turn to turn, these are disputed as well.
    pub unsettled: BTreeSet<ServiceId>,
    /// What reconcilers corrected in slices that were cut, except for placing tasks. A service that is merely large is corrected
    /// elsewhere in the next turn; if the same subject is corrected from turn to turn without a command, that is a dispute.
    pub corrected: BTreeSet<TimerKey>,
}

/// Corrects what was touched, and applies the corrections, until `room` is used up.
pub fn settle(cluster: &mut Cluster, touched: Touched, ctx: &mut Ctx<'_>, at: &Stamp, room: Budget) -> Settled {
    settle_without(&BTreeSet::new(), cluster, touched, ctx, at, room)
}

/// The same, without quarantined services.
pub fn settle_without(
    quarantined: &BTreeSet<ServiceId>,
    cluster: &mut Cluster,
    touched: Touched,
    ctx: &mut Ctx<'_>,
    at: &Stamp,
    room: Budget,
) -> Settled {
    Settling { reconcilers: &ALL, quarantined, at, settled: Settled::default() }.run(cluster, touched, ctx, room)
}

/// One turn's settling in progress.
struct Settling<'a> {
    reconcilers: &'a [(Reconciler, Reconcile)],
    quarantined: &'a BTreeSet<ServiceId>,
    at: &'a Stamp,
    settled: Settled,
}

/// What a run of all reconcilers left to process, and whether that is because the budget was used up.
#[derive(Default)]
struct Pass {
    changed: Touched,
    cut: bool,
    /// What was corrected, except for placing tasks.
    corrected: BTreeSet<TimerKey>,
}

impl Settling<'_> {
    fn run(mut self, cluster: &mut Cluster, touched: Touched, ctx: &mut Ctx<'_>, mut room: Budget) -> Settled {
        self.settled.touched = touched.clone();
        // Everything that was touched is processed, now or in a later turn.
        self.settled.wakes.extend(touched.services.iter().map(|service| (TimerKey::Service(*service), None)));
        let slices = slices(cluster, touched, self.at.index);
        self.settled.left.merge(slices.later);
        let mut slices = slices.now;
        while let Some(slice) = slices.pop_front() {
            if room.is_spent() {
                self.settled.left.merge(slice);
                continue;
            }
            let share = room.share(slices.len() + 1);
            let left = self.rest(cluster, slice, ctx, share);
            room = room.after(share, left);
        }
        self.settled
    }

    /// Settles a slice, or leaves it when its budget is used up; returns what is left of the budget.
    fn rest(&mut self, cluster: &mut Cluster, slice: Touched, ctx: &mut Ctx<'_>, mut room: Budget) -> Budget {
        let mut next = Pass { changed: slice, ..Pass::default() };
        for round in 0..ROUNDS_MAX {
            self.leave_out(&mut next.changed);
            if next.changed.is_empty() {
                return room;
            }
            if next.cut || room.is_spent() {
                if round >= ROUNDS_OF_A_FULL_TURN {
                    break;
                }
                if round > 1 {
                    self.settled.unsettled.extend(named(&next.changed));
                }
                self.settled.left.merge(next.changed);
                self.settled.corrected.append(&mut next.corrected);
                return room;
            }
            next = self.pass(cluster, next.changed, ctx, &mut room);
        }
        self.dispute(next.changed);
        room
    }

    /// Records the services to quarantine, and leaves the remaining work to the next turn. If no service is to blame, it is
    /// dropped: otherwise the next turn would continue like this one.
    fn dispute(&mut self, mut changed: Touched) {
        let disputed = named(&changed);
        if disputed.is_empty() {
            return;
        }
        changed.services.clear();
        changed.places.clear();
        changed.rollouts.clear();
        changed.unfilled.retain(|service| !disputed.contains(service));
        self.settled.left.merge(changed);
        self.settled.disputed.extend(disputed);
    }

    /// One run of all reconcilers.
    fn pass(&mut self, cluster: &mut Cluster, mut looked_at: Touched, ctx: &mut Ctx<'_>, room: &mut Budget) -> Pass {
        let mut pass = Pass::default();
        let mut skip = false;
        let mut scope = self.scope(cluster, &looked_at);
        self.forget_wakes(&scope, &looked_at);
        self.settled.places += scope.places_in(cluster);
        for (number, (name, reconcile)) in self.reconcilers.iter().enumerate() {
            let last = number + 1 == self.reconcilers.len();
            if room.is_spent() || (skip && !last) {
                continue;
            }
            let share = if last { *room } else { room.share(2) };
            let mut correction = Correction::with_room(share);
            reconcile(cluster, &scope, ctx, &mut correction);
            *room = room.after(share, correction.room);
            self.settled.places += correction.places;
            if correction.is_full() {
                // What this one did not reach is processed again. If it cannot tell, or the later ones have no room, that is
                // everything, including what the later ones did not process. Tasks are placed anyway.
                let known = correction.unreached.take().filter(|_| last || !room.is_spent());
                skip |= known.is_none();
                pass.changed.merge(known.unwrap_or_else(|| looked_at.clone()));
                pass.cut = true;
            }
            self.settled.left.merge(std::mem::take(&mut correction.deferred));
            let mut touched = self.take(cluster, *name, correction);
            if !touched.is_empty() {
                if !last {
                    pass.corrected.extend(subjects(&touched));
                }
                self.settled.touched.merge(touched.clone());
                put_off_large(cluster, &mut touched, &mut self.settled.left);
                if !last {
                    looked_at.merge(touched.clone());
                    self.leave_out(&mut looked_at);
                    scope = self.scope(cluster, &looked_at);
                }
                pass.changed.merge(touched);
            }
        }
        pass
    }

    /// Applies a correction; returns what it touched.
    fn take(&mut self, cluster: &mut Cluster, name: Reconciler, correction: Correction) -> Touched {
        for (time, subject) in correction.wakes {
            let wake = self.settled.wakes.entry(subject).or_default();
            *wake = Some(wake.map_or(time, |earlier| earlier.min(time)));
        }
        let mut touched = Touched::default();
        for kind in correction.events {
            let event = Event::by_reconciler(name, kind);
            cluster.apply_into(&event, self.at, &mut touched);
            self.settled.events.push(event);
        }
        touched
    }

    /// The scope to process, without quarantined services: even if it is everything, or all places of a node.
    fn scope(&self, cluster: &Cluster, touched: &Touched) -> Scope {
        Scope::of(cluster, touched).without(self.quarantined)
    }

    /// Removes quarantined services. Timers of their places end: they are processed as a whole when they are retried.
    fn leave_out(&mut self, touched: &mut Touched) {
        let (quarantined, wakes) = (self.quarantined, &mut self.settled.wakes);
        if !quarantined.is_empty() {
            touched.services.retain(|service| !quarantined.contains(service));
            touched.unfilled.retain(|service| !quarantined.contains(service));
            touched.waiting.retain(|service| !quarantined.contains(service));
            touched.sweeps.retain(|(service, _)| !quarantined.contains(service));
            let is_quarantined = |service: &&ServiceId| quarantined.contains(service);
            wakes.extend(
                touched.rollouts.iter().filter(is_quarantined).map(|service| (TimerKey::Rollout(*service), None)),
            );
            touched.rollouts.retain(|service| !quarantined.contains(service));
            wakes.extend(
                touched.balances.iter().filter(is_quarantined).map(|service| (TimerKey::Balance(*service), None)),
            );
            touched.balances.retain(|service| !quarantined.contains(service));
            wakes.extend(
                touched.scalings.iter().filter(is_quarantined).map(|service| (TimerKey::Scaling(*service), None)),
            );
            touched.scalings.retain(|service| !quarantined.contains(service));
            touched.places.retain(|(service, instance)| {
                let stays = !quarantined.contains(service);
                if !stays {
                    wakes.insert(TimerKey::Place(*service, *instance), None);
                }
                stays
            });
        }
    }

    /// Forgets the timers of processed subjects: a pass over a subject sets all of its timers again.
    fn forget_wakes(&mut self, scope: &Scope, touched: &Touched) {
        let nodes = scope.overdue.iter().map(|node| TimerKey::Node(*node));
        let rollouts = scope.services.iter().chain(&scope.rollouts).chain(&touched.rollouts);
        let rollouts = rollouts.map(|service| TimerKey::Rollout(*service));
        let balances = scope.services.iter().chain(&scope.balances).map(|service| TimerKey::Balance(*service));
        let scalings = scope.services.iter().chain(&scope.scalings).map(|service| TimerKey::Scaling(*service));
        let places =
            scope.places.union(&touched.places).map(|(service, instance)| TimerKey::Place(*service, *instance));
        for subject in nodes.chain(rollouts).chain(balances).chain(scalings).chain(places) {
            self.settled.wakes.insert(subject, None);
        }
    }
}

/// The services and the places that were touched.
fn subjects(touched: &Touched) -> impl Iterator<Item = TimerKey> {
    let services = touched.services.iter().map(|service| TimerKey::Service(*service));
    services.chain(touched.places.iter().map(|(service, instance)| TimerKey::Place(*service, *instance)))
}

/// The services with touched parts.
fn named(touched: &Touched) -> BTreeSet<ServiceId> {
    let places = touched.places.iter().map(|(service, _)| service);
    places.chain(&touched.services).chain(&touched.rollouts).copied().collect()
}

#[cfg(test)]
mod tests;
