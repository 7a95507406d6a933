//! A history of repeated updates: services whose images change again and again, with all their tasks.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use commands::{Command, ReportTasks, UpdateCluster, UpdateService};
use events::{ClusterSpec, Id, NodeId, ServiceId, SessionId, TaskId, TaskState, TaskStatus, UpdateConfig};
use futures_util::future::try_join_all;
use projections::Task;

use super::{Preparing, operator, service};
use crate::crowd::Identity;
use crate::fixture;

/// The size of the cluster and the length of its history.
#[derive(Debug, Clone, Copy)]
pub struct HistorySpec {
    /// Workers.
    pub nodes: u64,
    /// Services.
    pub services: u64,
    /// Tasks per service.
    pub replicas: u64,
    /// The number of updates, of one service after another; each replaces all tasks of the service at once.
    pub updates: u64,
}

/// Number of concurrent updates.
const UPDATE_TOGETHER: u64 = 200;
/// Number of nodes that report at a time: few, so that frames are about as large as in a cluster whose nodes do not wait for each
/// other.
const REPORT_BATCH: usize = 16;

/// Creates the directory of this cluster's leader, and returns the workers' credentials.
pub async fn prepare(state_dir: &Path, life: HistorySpec) -> Result<Vec<Identity>> {
    let preparing = Arc::new(super::found(state_dir).await?);
    let heard = tokio::spawn(Arc::clone(&preparing).send_heartbeats());
    let lived = preparing.live(life).await;
    heard.abort();
    // The task is cancelled at an await, and returns the core.
    let _ = heard.await;
    let preparing = Arc::into_inner(preparing).context("nothing else uses the core")?;
    preparing.core.end().await?;
    lived
}

impl Preparing {
    async fn live(&self, life: HistorySpec) -> Result<Vec<Identity>> {
        let spec = ClusterSpec { task_history_limit: Some(0), ..ClusterSpec::default() };
        let settings = UpdateCluster { spec, version: None, unlock_key: None, archive_key: None };
        self.ask(operator(), Command::UpdateCluster(settings)).await?;
        let identities = self.join_all(life.nodes).await?;
        let create = |number| self.create(number, life.replicas);
        let ids: Vec<ServiceId> = try_join_all((0..life.services).map(create)).await?;
        self.until_at_rest().await?;
        for first in (0..life.updates).step_by(UPDATE_TOGETHER as usize) {
            let numbers = first..life.updates.min(first + UPDATE_TOGETHER);
            let service = |number: u64| ids[usize::try_from(number % life.services).unwrap_or_default()];
            try_join_all(numbers.map(|number| self.update(service(number), number, life))).await?;
            self.until_at_rest().await?;
        }
        Ok(identities)
    }

    async fn create(&self, number: u64, replicas: u64) -> Result<ServiceId> {
        let spec = Box::new(service(number, replicas));
        let create = commands::CreateService { spec, secrets: commands::ServiceSecrets::default() };
        let id = self.ask(operator(), Command::CreateService(create)).await?;
        Ok(id.context("a new service has an id")?.parse()?)
    }

    /// Sets another image for all tasks at once.
    async fn update(&self, id: ServiceId, number: u64, life: HistorySpec) -> Result<Option<String>> {
        let mut spec = Box::new(service(number % life.services, life.replicas));
        spec.update = Some(UpdateConfig { parallelism: Some(0), ..UpdateConfig::default() });
        if let Some(container) = spec.task.as_mut().and_then(|task| task.container.as_mut()) {
            container.image = format!("shop/web:1.{}", 1 + number / life.services);
        }
        let secrets = commands::ServiceSecrets::default();
        self.ask(operator(), Command::UpdateService(UpdateService { service: id, spec, version: None, secrets })).await
    }

    /// Nodes act on their assignments until there is nothing left to do.
    async fn until_at_rest(&self) -> Result<()> {
        loop {
            let sessions = self.sessions();
            let mut reported = 0;
            for together in sessions.chunks(REPORT_BATCH) {
                let state = self.core.handle.state();
                let due = |node: NodeId| -> Vec<(TaskId, TaskStatus)> {
                    state.cluster.tasks_of_node(node).filter_map(next_status).collect()
                };
                let all = together.iter().map(|(node, session)| (*node, *session, due(*node)));
                let new: Vec<_> = all.filter(|(_, _, due)| !due.is_empty()).collect();
                drop(state);
                reported += new.len();
                try_join_all(new.into_iter().map(|(node, session, due)| self.tell(node, session, due))).await?;
            }
            let state = self.core.handle.state();
            if reported == 0 && state.cluster.tasks.values().all(|task| task.state == TaskState::Running) {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    async fn tell(
        &self,
        node: NodeId,
        session: SessionId,
        reports: Vec<(TaskId, TaskStatus)>,
    ) -> Result<Option<String>> {
        let command = Command::ReportTasks(ReportTasks { node, session, reports: reports.into_iter().collect() });
        self.ask(commands::Actor::Node { id: node, role: events::Role::Worker }, command).await
    }
}

/// The next status that a task's node reports, if there is one.
fn next_status(task: &Task) -> Option<(TaskId, TaskStatus)> {
    let next = match (task.state, task.desired) {
        (state, _) if state >= TaskState::Complete || state < TaskState::Assigned => return None,
        (_, desired) if desired >= TaskState::Shutdown => TaskState::Shutdown,
        (state, desired) => {
            let next = desired.min(TaskState::Running);
            if state >= next {
                return None;
            }
            next
        }
    };
    let exit_code = (next == TaskState::Shutdown).then_some(0);
    Some((task.id, fixture::status(task.id.bits(), next, exit_code, node::clock::now())))
}
