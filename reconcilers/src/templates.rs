//! Which tasks run a different template than the current one of their service.

use std::collections::BTreeMap;

use projections::{Cluster, Service, Task};

use crate::schedule::filters::{Filters, meets_constraints};

/// How the older specs that tasks run differ from the current one, each compared once.
pub(crate) struct Templates {
    current: u64,
    differences: BTreeMap<u64, Difference>,
    placement: events::Placement,
}

#[derive(Clone, Copy)]
enum Difference {
    None,
    /// Only the placement: a task that may stay on its node keeps its old spec.
    PlacementOnly,
    Other,
}

impl Templates {
    pub(crate) fn new(cluster: &Cluster, service: &Service) -> Self {
        let older = cluster.revisions.range((service.id, 0)..=(service.id, u64::MAX));
        let differences = older.map(|((_, version), revision)| (version, difference(&revision.spec, &service.spec)));
        let placement = service.spec.template().placement().clone();
        Self { current: service.template_version, differences: differences.collect(), placement }
    }

    /// Whether a task must be replaced so that its service matches its spec.
    pub(crate) fn is_out_of_date(&self, cluster: &Cluster, task: &Task) -> bool {
        if task.spec_version == self.current {
            return false;
        }
        match self.differences.get(&task.spec_version) {
            Some(Difference::None) => false,
            Some(Difference::PlacementOnly) => {
                let node = task.node.and_then(|node| cluster.nodes.get(node));
                !node.is_some_and(|node| {
                    meets_constraints(&self.placement.constraints, node)
                        && Filters::platform_fits(&self.placement.platforms, node)
                })
            }
            Some(Difference::Other) | None => true,
        }
    }
}

fn difference(old: &events::ServiceSpec, new: &events::ServiceSpec) -> Difference {
    if old.same_template(new) {
        return Difference::None;
    }
    let placement = new.template().placement.clone();
    let moved = events::TaskSpec { placement, ..old.template().clone() };
    let only_moved = old.endpoint == new.endpoint && moved.as_seen_by_tasks() == new.template().as_seen_by_tasks();
    if only_moved { Difference::PlacementOnly } else { Difference::Other }
}
