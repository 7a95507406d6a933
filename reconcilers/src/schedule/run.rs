//! One run of the scheduler: its lookups about nodes, and the tasks that it has assigned to them.

use std::collections::{BTreeMap, BTreeSet};

use events::spec::affinity::plain_image;
use events::spec::generic;
use events::{GenericResource, NodeId, ServiceId, TaskState};
use projections::{Cluster, Task};

use super::pool::Pool;

/// Protocol and number of a port of a node.
pub(super) type HostPort = (i32, u32);

/// The nodes during one run.
pub(super) struct Run<'a> {
    pub cluster: &'a Cluster,
    pub pool: &'a mut Pool,
    /// Tasks that should run of the service being placed, by node; 0 for nodes beyond the end.
    active_of_service: Vec<u64>,
    /// Nodes that have such a count.
    counted: Vec<usize>,
    /// The nodes that got tasks of each service in this run, which are not in the state yet.
    given: BTreeMap<ServiceId, Vec<usize>>,
    /// The nodes with tasks of each queried service.
    nodes_of: BTreeMap<ServiceId, BTreeSet<usize>>,
    /// The nodes on which tasks have prepared an image, for each queried image.
    nodes_with: BTreeMap<String, BTreeSet<usize>>,
    /// Host ports in use, for each queried node.
    ports: BTreeMap<usize, Vec<HostPort>>,
    /// Unclaimed generic resources, for each queried node.
    free_generic: BTreeMap<usize, Vec<GenericResource>>,
}

impl<'a> Run<'a> {
    pub(super) fn new(cluster: &'a Cluster, pool: &'a mut Pool) -> Self {
        Self {
            cluster,
            pool,
            active_of_service: Vec::new(),
            counted: Vec::new(),
            given: BTreeMap::new(),
            nodes_of: BTreeMap::new(),
            nodes_with: BTreeMap::new(),
            ports: BTreeMap::new(),
            free_generic: BTreeMap::new(),
        }
    }

    /// Counts the tasks of a service, if they matter.
    pub(super) fn count(&mut self, service: ServiceId, matters: bool) {
        if matters {
            self.count_service(service);
        } else {
            self.count_nothing();
        }
    }

    /// Clears the counts of the last service.
    fn count_nothing(&mut self) {
        self.active_of_service.resize(self.pool.numbers_end(), 0);
        for number in self.counted.drain(..) {
            self.active_of_service[number] = 0;
        }
    }

    /// Replaces the counts of the last service with those of this one.
    pub(super) fn count_service(&mut self, service: ServiceId) {
        self.count_nothing();
        for (node, active) in self.cluster.usage.active_of(service) {
            if let Some(number) = self.pool.number(node) {
                self.active_of_service[number] = active;
                self.counted.push(number);
            }
        }
        for number in self.given.get(&service).into_iter().flatten() {
            count(&mut self.active_of_service, &mut self.counted, *number);
        }
    }

    /// Tasks on a node that should run, of the service being placed.
    pub(super) fn active_of_service(&self, number: usize) -> u64 {
        self.active_of_service.get(number).copied().unwrap_or(0)
    }

    /// Nodes with tasks of the service being placed.
    pub(super) fn counted(&self) -> &[usize] {
        &self.counted
    }

    /// The nodes with tasks of a service that should run.
    pub(super) fn nodes_of(&mut self, service: ServiceId) -> &BTreeSet<usize> {
        let Self { cluster, pool, given, nodes_of, .. } = self;
        nodes_of.entry(service).or_insert_with(|| {
            let known = cluster.usage.active_of(service).filter_map(|(node, _)| pool.number(node));
            known.chain(given.get(&service).into_iter().flatten().copied()).collect()
        })
    }

    /// The nodes that have an image, as far as the tasks show: those on which a task was prepared to run it.
    pub(super) fn nodes_with(&mut self, image: &str) -> &BTreeSet<usize> {
        if !self.nodes_with.contains_key(image) {
            let nodes = prepared(self.cluster, image).filter_map(|node| self.pool.number(node)).collect();
            self.nodes_with.insert(image.to_owned(), nodes);
        }
        &self.nodes_with[image]
    }

    /// The host ports in use on a node.
    pub(super) fn ports(&mut self, number: usize) -> &mut Vec<HostPort> {
        let (cluster, node) = (self.cluster, self.pool.get(number).id);
        self.ports.entry(number).or_insert_with(|| {
            let ports = occupants(cluster, node).flat_map(|task| cluster.spec_of(task).host_ports());
            ports.map(|port| (port.protocol, port.published_port)).collect()
        })
    }

    /// The unclaimed generic resources of a node.
    pub(super) fn free_generic(&mut self, number: usize) -> &mut Vec<GenericResource> {
        let (cluster, node) = (self.cluster, self.pool.get(number).id);
        self.free_generic.entry(number).or_insert_with(|| {
            let offers = cluster.nodes.get(node).and_then(|node| node.offers());
            let offered = offers.map_or(&[][..], |offers| &offers.generic);
            let claims: Vec<_> = occupants(cluster, node).flat_map(|task| task.claims.iter().cloned()).collect();
            generic::remaining(offered, &claims)
        })
    }

    /// Records that a task of the service being placed is assigned to a node, and uses this much of it.
    pub(super) fn give(&mut self, number: usize, service: ServiceId, nano_cpus: u64, memory_bytes: u64) {
        self.pool.take(number, nano_cpus, memory_bytes);
        self.given.entry(service).or_default().push(number);
        if let Some(nodes) = self.nodes_of.get_mut(&service) {
            nodes.insert(number);
        }
        count(&mut self.active_of_service, &mut self.counted, number);
    }

    /// Records that a task of the service being placed leaves a node. Its resources are not free before it has left.
    pub(super) fn release(&mut self, number: usize) {
        self.active_of_service[number] = self.active_of_service[number].saturating_sub(1);
    }
}

/// Counts one more task of the service being placed.
fn count(active_of_service: &mut [u64], counted: &mut Vec<usize>, number: usize) {
    if active_of_service[number] == 0 {
        counted.push(number);
    }
    active_of_service[number] += 1;
}

/// The nodes on which tasks were prepared to run an image.
fn prepared<'a>(cluster: &'a Cluster, image: &'a str) -> impl Iterator<Item = NodeId> {
    let revisions = cluster.revisions.iter();
    let with_image =
        revisions.filter(move |(_, revision)| plain_image(&revision.spec.template().container().image) == image);
    let tasks = with_image.flat_map(|((service, version), _)| {
        cluster.tasks_of_service(service).filter(move |task| task.spec_version == version)
    });
    let is_ready =
        |task: &&Task| (TaskState::Ready..=TaskState::Running).contains(&task.state) || task.running_at.is_some();
    tasks.filter(is_ready).filter_map(|task| task.node)
}

/// The tasks that use resources of a node.
fn occupants(cluster: &Cluster, node: NodeId) -> impl Iterator<Item = &Task> {
    cluster.tasks_of_node(node).filter(|task| task.occupies_node())
}
