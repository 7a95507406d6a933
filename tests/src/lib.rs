//! A simulated cluster: the real manager and the real task steps with simulated time, disk, network and engines, on one thread.
//! Scenarios describe it as CLI sessions; the simulation adds random faults from a seed.
//!
//! Suggested order: [`world`] (the cluster), [`manager`] and [`agent`] (its parts), [`engine`], [`net`] and [`clock`] (their
//! environment), [`oracle`] (invariants), [`socket`] and [`script`] (scenarios), [`chaos`] (the simulation), [`quorum`] (several
//! managers), [`linearizability`] (what their clients may see).

pub mod world;

pub mod agent;
pub mod manager;

pub mod clock;
pub mod engine;
pub mod net;

pub mod oracle;

pub mod mask;
pub mod script;
mod sessions;
pub mod socket;

pub mod chaos;

mod interact;
pub mod linearizability;
pub mod load;
mod logs;
pub mod quorum;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod crash_loop;
