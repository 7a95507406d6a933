//! Explains placements: the scheduler's current evaluation of all nodes.

use commands::{Rejection, RejectionKind};
use projections::views::awaited::{self, Awaited};
use projections::views::overview::{resolve_service, resolve_task};
use projections::{Cluster, Service, Task};
use reconcilers::autoscale;
use reconcilers::schedule::placing::{self, Merits, Placing};
use wire::v1::{
    AutoscalingOutlook, AutoscalingUse, CandidateNode, ExplainPlacementRequest, MetricUse, PlacementExplanation,
    RefusedNodes,
};

use super::{Control, managers, views};

/// Maximum candidates in a response: a reader compares the first few.
const CANDIDATES_MAX: usize = 10;

impl Control {
    /// Explains why a task is on its node or unplaced, or where one more task of a service would be placed. Evaluates every
    /// node.
    ///
    /// # Errors
    /// When a reference matches no object, or more than one, or there is none.
    pub fn explain_placement(&self, request: &ExplainPlacementRequest) -> Result<PlacementExplanation, Rejection> {
        let cluster = &self.state.cluster;
        match (&request.task, &request.service) {
            (Some(reference), None) => {
                let id = resolve_task(cluster, reference)?;
                let task = cluster.tasks.get(id).ok_or_else(|| Rejection::not_found("task", id))?;
                Ok(self.explain_task(task))
            }
            (None, Some(reference)) => {
                let id = resolve_service(cluster, reference)?;
                let service = cluster.services.get(id).ok_or_else(|| Rejection::not_found("service", id))?;
                let placing = placing::of_service(cluster, service, self.now);
                let explained = explanation(cluster, service.spec.name(), Some(service), placing);
                let awaited = awaited::of_service(cluster, service, self.now).into_iter().map(shown).collect();
                Ok(PlacementExplanation { autoscaling: self.autoscaling(service), awaited, ..explained })
            }
            (Some(_), Some(_)) | (None, None) => {
                let sentence = "a placement is explained for either a task or a service";
                Err(Rejection::new(RejectionKind::Invalid, "placement", sentence, "name one of them"))
            }
        }
    }

    fn explain_task(&self, task: &Task) -> PlacementExplanation {
        let cluster = &self.state.cluster;
        let placing = placing::of_task(cluster, task, self.now);
        let service = cluster.services.get(task.service);
        let explained = explanation(cluster, cluster.spec_of(task).name(), service, placing);
        let awaited = awaited::of_task(cluster, task, self.now).into_iter().map(shown).collect();
        PlacementExplanation { task: Some(views::task(cluster, task, false, self.now)), awaited, ..explained }
    }

    /// The outlook of a service's replica count, if it is autoscaled.
    fn autoscaling(&self, service: &Service) -> Option<AutoscalingOutlook> {
        let (cluster, rule) = (&self.state.cluster, service.spec.autoscaling()?);
        let outlook = autoscale::outlook(cluster, service, &rule, &self.state.uses, self.now)?;
        let metrics = outlook.metrics.iter().map(|metric| MetricUse {
            what: metric.what.to_owned(),
            target_percent: metric.target_percent.into(),
            measured: metric.measured,
            percent: metric.percent,
        });
        let known = AutoscalingUse { tasks: outlook.serving, metrics: metrics.collect(), wanted: outlook.wanted };
        let leader = managers::leader(cluster, &self.raft).and_then(|node| cluster.nodes.get(node));
        Some(AutoscalingOutlook {
            replicas: outlook.from,
            min: rule.min,
            max: rule.max,
            r#use: self.state.leads.then_some(known),
            cool_down_until: outlook.cool_down_until,
            last: views::autoscaled(service),
            leader_hostname: leader.map(|node| views::node_name(node).to_owned()),
        })
    }
}

fn explanation(cluster: &Cluster, name: &str, service: Option<&Service>, placing: Placing) -> PlacementExplanation {
    let first = service.and_then(|service| cluster.unplaced().first_tried_of(service.id));
    let waiting = service.map_or(0, |service| cluster.unplaced().count_of(service.id));
    let hostname = |id| cluster.nodes.get(id).map(|node| views::node_name(node).to_owned());
    PlacementExplanation {
        service_name: name.to_owned(),
        task: None,
        strategy: placing.strategy.into(),
        nodes: placing.nodes as u64,
        refused: placing
            .refused
            .into_iter()
            .map(|(reason, nodes)| RefusedNodes { reason: reason.to_owned(), nodes })
            .collect(),
        suitable: placing.suitable.len() as u64,
        candidates: placing.suitable.iter().take(CANDIDATES_MAX).map(|merits| candidate(cluster, merits)).collect(),
        choice: placing.choice.and_then(hostname),
        waiting,
        autoscaling: None,
        awaited: Vec::new(),
        waiting_for: first.and_then(|task| cluster.tasks.get(task)?.waiting.as_deref().map(str::to_owned)),
    }
}

fn shown(of: Awaited) -> wire::v1::Awaited {
    wire::v1::Awaited { what: of.what, due: of.due }
}

fn candidate(cluster: &Cluster, merits: &Merits) -> CandidateNode {
    let node = cluster.nodes.get(merits.node);
    CandidateNode {
        hostname: node.map(|node| views::node_name(node).to_owned()).unwrap_or_default(),
        node: merits.node,
        preferences: merits.preferences.clone(),
        failures: merits.failures,
        lacks: merits.lacks,
        tasks_of_service: merits.of_service,
        tasks: merits.tasks,
        free_nano_cpus: merits.free_nano_cpus,
        free_memory_bytes: merits.free_memory_bytes,
    }
}
