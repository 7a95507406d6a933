//! The process `swarmd`: its flags, its config file, its limits and its state directory, and everything that it runs.
//!
//! Start reading at [`run`].

pub mod address;
pub mod autolock;
pub mod config;
pub mod config_file;
pub mod descriptors;
pub mod dev;
pub mod disk_space;
pub mod failure;
mod join_token;
pub mod joining;
pub mod leave;
pub mod leaving;
pub mod limits;
mod local_node;
pub mod log_lines;
mod manager_part;
pub mod memory_limit;
mod notify;
pub mod process;
pub mod reseed;
mod roles;
pub mod run;
pub mod serve;
mod single_call;
pub mod start_settings;
pub mod state_dir;
pub mod state_dir_kind;
pub mod unlock;
