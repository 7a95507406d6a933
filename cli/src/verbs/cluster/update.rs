//! `swarmctl cluster update`.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::ValueEnum;
use events::spec::limits::{HEARTBEAT_GRACES, NODES_MAX};
use events::{ClusterSpec, Named, Role};
use serde::Serialize;
use wire::v1::command_request::Command;
use wire::v1::{RotateJoinToken, RotateUnlockKey, UpdateCluster};

use super::unlock_key;
use crate::failure::{Failure, Kind};
use crate::format::Format;
use crate::manager::Manager;
use crate::session::Session;
use crate::spec::{LogFlags, Strategy};
use crate::values::external_ca::{self, ExternalCaFlag};
use crate::values::keep::{self, Keep};
use crate::values::{command, duration, number};

/// The allowed task history per slot; -1 for all.
const HISTORY_LENGTHS: RangeInclusive<i64> = -1..=1_000_000;

/// Change the cluster's settings, or replace a join token
///
/// Only the given settings change. A new join token is printed; the old token is no longer valid.
#[derive(Debug, Default, PartialEq, clap::Args)]
pub struct Args {
    /// Tasks kept for each slot, including the current one; -1 for all (default 5)
    #[arg(long, value_name = "NUMBER", value_parser = number::within(HISTORY_LENGTHS))]
    taskhistory: Option<i64>,

    /// Validity of a node's certificate, at least 1h (default 2160h)
    #[arg(long, visible_alias = "cert-expiry", value_name = "DURATION", value_parser = duration::parse)]
    certexpiry: Option<Duration>,

    /// Maximum time between two heartbeats of a node, in a large cluster (default 5s)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    heartbeatperiod: Option<Duration>,

    /// Missed heartbeats after which a node is down (default 3)
    #[arg(long, value_name = "NUMBER", value_parser = number::within(HEARTBEAT_GRACES))]
    heartbeatgrace: Option<u32>,

    /// Maximum number of nodes (default 100000)
    #[arg(long, value_name = "NUMBER", value_parser = number::within(NODES_MAX))]
    max_nodes: Option<u32>,

    /// Placement strategy of services that set none (default spread)
    #[arg(long, value_name = "STRATEGY")]
    placement_strategy: Option<Strategy>,

    /// Lock the keys of managers: after a restart, each needs the unlock key, which is printed
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    autolock: Option<bool>,

    /// External CA, a server that signs certificates with the cfssl protocol; it has the key of the root in FILE, or of the
    /// present root. May be repeated and replaces all; none for no server
    #[arg(long, value_name = "protocol=cfssl,url=URL[,cacert=FILE]|none", value_parser = external_ca::parse)]
    external_ca: Vec<ExternalCaFlag>,

    /// Require a reason (`--reason`) for these commands, such as service.rm,node.rm; replaces all; none for no command
    #[arg(long, value_name = "COMMAND,...|none", value_delimiter = ',')]
    require_reason: Vec<String>,

    /// Move history older than this to archives, on managers with an archive directory (`swarmd --history-archive`); forever, or
    /// 0, for never (default forever)
    #[arg(long, value_name = "DURATION|forever", value_parser = keep::parse)]
    history_keep: Option<Keep>,

    /// Replace the join token of this role
    #[arg(long, value_name = "ROLE")]
    rotate_join_token: Option<TokenRole>,

    /// Replace the unlock key on every manager, and show the new one
    #[arg(long)]
    rotate_unlock_key: bool,

    /// Log driver of tasks whose service sets none
    #[command(flatten)]
    log: LogFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum TokenRole {
    Worker,
    Manager,
}

impl TokenRole {
    fn role(self) -> Role {
        match self {
            Self::Worker => Role::Worker,
            Self::Manager => Role::Manager,
        }
    }
}

/// The result of a rotation as JSON.
#[derive(Serialize)]
struct Rotated {
    role: String,
    join_token: String,
}

impl Args {
    /// The present settings with the changes of the flags.
    fn edit(&self, present: &ClusterSpec, root_cert_pem: &str) -> Result<ClusterSpec, Failure> {
        let ns = |length: Duration| u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        let mut spec = present.clone();
        spec.task_history_limit = self.taskhistory.or(spec.task_history_limit);
        spec.node_cert_expiry_ns = self.certexpiry.map(ns).or(spec.node_cert_expiry_ns);
        spec.heartbeat_period_ns = self.heartbeatperiod.map(ns).or(spec.heartbeat_period_ns);
        spec.heartbeat_grace = self.heartbeatgrace.or(spec.heartbeat_grace);
        spec.nodes_max = self.max_nodes.or(spec.nodes_max);
        spec.placement_strategy = self.placement_strategy.map(Strategy::number).or(spec.placement_strategy);
        spec.autolock = self.autolock.or(spec.autolock);
        if !self.external_ca.is_empty() {
            let named = self.external_ca.iter().filter_map(|flag| flag.server(root_cert_pem).transpose());
            spec.external_cas = named.collect::<Result<_, _>>()?;
        }
        if !self.require_reason.is_empty() {
            let named = self.require_reason.iter().filter(|verb| *verb != "none");
            spec.require_reason = named.map(|verb| command::in_log(verb)).collect();
        }
        if let Some(keep) = self.history_keep {
            spec.history_keep_ns = keep.0.map(ns);
        }
        self.log.apply(&mut spec.log_driver)?;
        Ok(spec)
    }
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    if *args == Args::default() {
        let failure = Failure::new(Kind::Usage, "nothing to update");
        return Err(failure.hint("`swarmctl cluster update --help` lists what can change"));
    }
    let present = session.cluster().await?;
    let spec = args.edit(&present.spec, &present.root_cert_pem)?;
    let update = (spec != present.spec).then_some(UpdateCluster { spec, version: Some(present.meta.version) });
    let role = args.rotate_join_token.map(TokenRole::role);
    let token = role.map(|role| Command::RotateJoinToken(RotateJoinToken { role: role.into() }));
    let key = args.rotate_unlock_key.then_some(Command::RotateUnlockKey(RotateUnlockKey {}));
    let locks = update.as_ref().is_some_and(|update| update.spec.autolock() && !present.spec.autolock());
    let changes_settings = update.is_some();
    let commands = [update.map(Command::UpdateCluster), key, token].into_iter().flatten();
    let replies = session.execute_together(commands.collect()).await?;
    if session.is_trial() {
        return Ok(());
    }
    if let Some(reply) = replies.first().filter(|_| changes_settings) {
        session.print_object(reply, &present.name)?;
    }
    if locks {
        let key = session.manager.unlock_key().await?;
        session.line(&key.unlock_key)?;
        session
            .note("keep this unlock key: it is needed for `swarmctl cluster unlock` after a restart of a manager")?;
        session.note("each manager wraps its keys now, and logs it; one that is down does so once it is back")?;
    } else if args.rotate_unlock_key {
        unlock_key::show(session).await?;
    }
    let Some(role) = role else { return Ok(()) };
    let tokens = session.manager.cluster(true).await?.join_tokens;
    let join_token = match role {
        Role::Worker => tokens.worker.clone(),
        Role::Manager => tokens.manager.clone(),
    };
    match session.globals.format {
        Format::Json => session.json(&Rotated { role: role.name(), join_token }),
        Format::Table => session.line(&join_token),
    }
}
