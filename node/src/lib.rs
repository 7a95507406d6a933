//! The shell around the core: everything of `swarmd` that touches the world.
//!
//! Suggested order: [`leader`] (the turn), [`driver`] (the thread around it), [`fold`] (the committed state), [`core`] (both
//! on a disk), [`control`] (what a manager answers), [`api`] (how it is asked), [`agent`] (what every node does), [`run`] (all
//! of it together).

pub mod clock;
pub mod hardening;
mod join_token;
pub mod leader;

pub mod driver;
pub mod fold;
mod followers;
mod hearing;
mod writer;

pub mod core;
mod journal;

pub mod agent;
pub mod api;
pub mod control;
pub mod log;
pub mod security;

pub mod address;
mod bucket;
pub mod config;
pub mod config_file;
pub mod descriptors;
pub mod dev;
pub mod disk_space;
pub mod failure;
pub mod limits;
pub mod log_lines;
pub mod membership;
pub mod memory_limit;
pub mod metrics;
mod notify;
pub mod replay;
pub mod run;
pub mod scrub;
pub mod seal;
pub mod serve;
pub mod standing;
pub mod start_settings;
pub mod state_dir;
