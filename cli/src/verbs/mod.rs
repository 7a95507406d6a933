//! The commands of `swarmctl`: one file for each verb. The doc comments of its arguments are the help.

/// Declares the verbs of a noun: for each its arguments, and the module that implements it.
macro_rules! verbs {
    ($($(#[$attribute:meta])* $verb:ident($args:ty) => $file:ident,)*) => {
        /// The verbs of the noun.
        #[derive(Debug, clap::Subcommand)]
        pub enum Verb {
            $($(#[$attribute])* $verb($args),)*
        }

        impl Verb {
            /// Runs the verb.
            pub async fn run<M: crate::manager::Manager>(
                &self,
                session: &mut crate::session::Session<'_, M>,
            ) -> Result<(), crate::failure::Failure> {
                match self {
                    // On the heap: otherwise each future would be as large as that of the largest verb.
                    $(Self::$verb(args) => Box::pin($file::run(args, session)).await,)*
                }
            }
        }
    };
}

use verbs;

mod apply;
mod audit;
mod blame;
mod cluster;
mod completion;
mod config;
mod events;
mod explain;
mod history;
mod interact;
mod logs;
mod node;
mod operator;
mod plan;
mod raft;
mod revert;
mod secret;
mod service;
mod sink;
mod stack;
mod task;
mod ui;
mod undo;
mod usage;
mod version;
mod whatif;

use std::ffi::OsString;

use clap::Subcommand;

use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::trial::Purpose;

/// The nouns, and the few verbs that have none.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Nodes of the cluster
    #[command(subcommand)]
    Node(node::Verb),
    /// Services that the cluster runs (svc for short)
    #[command(subcommand, alias = "svc")]
    Service(service::Verb),
    /// Individual tasks of services
    #[command(subcommand)]
    Task(task::Verb),
    /// Stacks: the services of Compose files
    #[command(subcommand)]
    Stack(stack::Verb),
    /// The cluster's own settings
    #[command(subcommand)]
    Cluster(cluster::Verb),
    /// Configs: files that services mount into their containers
    #[command(subcommand)]
    Config(config::Verb),
    /// Secrets: files that services mount into their containers, in memory only
    #[command(subcommand)]
    Secret(secret::Verb),
    /// Operators with a certificate of their own
    #[command(subcommand)]
    Operator(operator::Verb),
    /// Sinks, to which events are sent: webhooks and files
    #[command(subcommand)]
    Sink(sink::Verb),
    /// The past: differences between two points, and tags
    #[command(subcommand)]
    History(history::Verb),
    /// Proofs about history: checkpoints, inclusion and consistency
    #[command(subcommand)]
    Audit(audit::Verb),
    Apply(apply::Args),
    Plan(plan::Args),
    #[command(name = "whatif")]
    WhatIf(whatif::Args),
    Raft(raft::Args),
    Events(Box<events::Args>),
    Blame(blame::Args),
    /// Why things are as they are
    #[command(subcommand)]
    Explain(explain::Verb),
    Ui(ui::Args),
    Undo(undo::Args),
    Revert(revert::Args),
    Version(version::Args),
    Completion(completion::Args),
}

impl Command {
    /// The command inside this one and how to run it, if this command is about another one.
    pub fn about(&self) -> Option<(Vec<OsString>, Purpose)> {
        if let Self::Plan(args) = self {
            return args.about();
        }
        if let Self::WhatIf(args) = self { args.about() } else { None }
    }

    /// How to run this command by default.
    pub fn purpose(&self) -> Purpose {
        match self {
            Self::Stack(stack::Verb::Diff(_)) => Purpose::DryRun,
            Self::Plan(args) => args.purpose(),
            Self::WhatIf(args) => args.purpose(),
            _ => Purpose::default(),
        }
    }

    /// Runs the command.
    pub async fn run<M: Manager>(&self, session: &mut Session<'_, M>) -> Result<(), Failure> {
        match self {
            Self::Node(verb) => verb.run(session).await,
            Self::Service(verb) => verb.run(session).await,
            Self::Task(verb) => verb.run(session).await,
            Self::Stack(verb) => verb.run(session).await,
            Self::Cluster(verb) => verb.run(session).await,
            Self::Config(verb) => verb.run(session).await,
            Self::Secret(verb) => verb.run(session).await,
            Self::Operator(verb) => verb.run(session).await,
            Self::Sink(verb) => verb.run(session).await,
            Self::History(verb) => verb.run(session).await,
            Self::Audit(verb) => verb.run(session).await,
            Self::Apply(args) => apply::run(args, session).await,
            Self::Plan(args) => plan::run(args, session).await,
            Self::WhatIf(args) => whatif::run(args, session).await,
            Self::Raft(args) => raft::run(args, session).await,
            Self::Events(args) => events::run(args, session).await,
            Self::Blame(args) => blame::run(args, session).await,
            Self::Explain(verb) => verb.run(session).await,
            // On the heap: the future contains the screen.
            Self::Ui(args) => Box::pin(ui::run(args, session)).await,
            Self::Undo(args) => undo::run(args, session).await,
            Self::Revert(args) => revert::run(args, session).await,
            Self::Version(args) => version::run(args, session).await,
            Self::Completion(args) => completion::run(args, session),
        }
    }
}
