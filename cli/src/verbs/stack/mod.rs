//! Verbs about stacks: the services, configs and secrets of a Compose file.

mod config;
mod deploy;
mod diff;
mod files;
mod ls;
mod ps;
mod rm;
mod services;

pub(super) use files::text;

super::verbs! {
    #[command(alias = "up")]
    Deploy(deploy::Args) => deploy,
    Diff(diff::Args) => diff,
    Config(config::Args) => config,
    #[command(alias = "list")]
    Ls(ls::Args) => ls,
    Ps(ps::Args) => ps,
    Services(services::Args) => services,
    #[command(aliases = ["remove", "down"])]
    Rm(rm::Args) => rm,
}
