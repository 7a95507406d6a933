//! How a placement partitions the nodes, regardless of what is running on them: which of them its constraints and platforms
//! reject, and which leaf of the spread preferences each other belongs to; and the nodes of each leaf in the order in which they
//! would be chosen for a service without tasks. Shared by all services with the same placement and strategy whose tasks use the
//! same plugins.

use std::collections::{BTreeMap, BTreeSet};

use events::{NodeId, Placement, PlacementPreference};
use projections::Node;

use super::filters::{Filters, Unfit};
use super::order::Order;
use super::pool::Pool;

/// Maximum number of cached layouts: a turn places few kinds of services.
const LAYOUTS_MAX: usize = 64;
/// Maximum number of nodes in all layouts together, each of which takes up to 64 bytes. A few layouts are cached regardless of
/// their size.
const NODES_MAX: usize = 1_000_000;
const LAYOUTS_MIN: usize = 4;

/// A node that takes tasks: the weight of unmet preferences, its score, its id as a tie-breaker, and its number.
pub(super) type Rank = (u64, u64, NodeId, usize);

/// The nodes as seen by one placement.
#[derive(Debug)]
pub(super) struct Layout {
    /// The placement; the maximum of replicas per node makes no difference to the layout.
    placement: Placement,
    /// The required plugins.
    plugins: Vec<(&'static str, String)>,
    /// Whether nodes that run plain processes are unsuitable.
    needs_container: bool,
    /// How the scores are computed.
    order: Order,
    /// The label values that lead to each leaf.
    paths: Vec<Vec<String>>,
    leaves: BTreeMap<Vec<String>, usize>,
    /// The nodes of each leaf that take tasks, best first.
    orders: Vec<BTreeSet<Rank>>,
    positions: Vec<NodePosition>,
    /// It includes the changes of nodes before this one.
    seen: u64,
    /// When it was last used, in runs of the scheduler.
    used: u64,
}

/// The position of one node in a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NodePosition {
    leaf: Result<usize, Unfit>,
    /// Weight of the preferred properties that it lacks.
    penalty: u64,
    /// Its score in its leaf, if it takes tasks.
    score: Option<u64>,
}

/// The recently used layouts.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    known: Vec<Layout>,
    uses: u64,
}

impl Layouts {
    /// The layout of this placement, whose constraints and platforms are in the filters, for the current nodes.
    pub(super) fn of(&mut self, placement: &Placement, filters: &Filters<'_>, pool: &Pool) -> &Layout {
        self.uses += 1;
        let position = self.known.iter().position(|layout| layout.is_of(placement, filters)).unwrap_or_else(|| {
            self.make_room(pool.len());
            let plugins = filters.plugins().iter().map(|(kind, name)| (*kind, (*name).to_owned())).collect();
            let new = Layout::new(placement.clone(), plugins, filters.needs_container(), filters.order());
            self.known.push(new);
            self.known.len() - 1
        });
        let layout = &mut self.known[position];
        layout.used = self.uses;
        layout.follow(filters, pool);
        layout
    }

    /// Drops the least recently used layout, if the maximum is reached.
    fn make_room(&mut self, nodes: usize) {
        let most = NODES_MAX.checked_div(nodes).unwrap_or(LAYOUTS_MAX).clamp(LAYOUTS_MIN, LAYOUTS_MAX);
        while self.known.len() >= most {
            let oldest = self.known.iter().enumerate().min_by_key(|(_, layout)| layout.used);
            let Some((oldest, _)) = oldest else { return };
            self.known.swap_remove(oldest);
        }
    }
}

impl Layout {
    fn new(placement: Placement, plugins: Vec<(&'static str, String)>, needs_container: bool, order: Order) -> Self {
        Self {
            placement,
            plugins,
            needs_container,
            order,
            paths: Vec::new(),
            leaves: BTreeMap::new(),
            orders: Vec::new(),
            positions: Vec::new(),
            seen: 0,
            used: 0,
        }
    }

    fn is_of(&self, placement: &Placement, filters: &Filters<'_>) -> bool {
        let plugins = self.plugins.iter().map(|(kind, name)| (*kind, name.as_str()));
        plugins.eq(filters.plugins().iter().copied())
            && self.needs_container == filters.needs_container()
            && self.order == filters.order()
            && self.placement.constraints == placement.constraints
            && self.placement.preferences == placement.preferences
            && self.placement.platforms == placement.platforms
            && self.placement.affinities == placement.affinities
    }

    /// The leaf of a node, or why it is not suitable.
    pub(super) fn leaf_of(&self, number: usize) -> Result<usize, Unfit> {
        self.positions[number].leaf
    }

    /// Weight of the preferred properties that a node lacks.
    pub(super) fn penalty_of(&self, number: usize) -> u64 {
        self.positions[number].penalty
    }

    /// The label values that lead to each leaf.
    pub(super) fn paths(&self) -> impl Iterator<Item = &[String]> {
        self.paths.iter().map(Vec::as_slice)
    }

    /// The label values that lead to a leaf.
    pub(super) fn path(&self, leaf: usize) -> &[String] {
        &self.paths[leaf]
    }

    /// The nodes of a leaf that take tasks, best first.
    pub(super) fn order(&self, leaf: usize) -> &BTreeSet<Rank> {
        &self.orders[leaf]
    }

    fn follow(&mut self, filters: &Filters<'_>, pool: &Pool) {
        let changes = pool.changes();
        // Leaves of label values that no node has any longer stay until they are the majority.
        if self.paths.len() > 2 * pool.len() {
            let (placement, plugins) = (std::mem::take(&mut self.placement), std::mem::take(&mut self.plugins));
            *self = Self { used: self.used, ..Self::new(placement, plugins, self.needs_container, self.order) };
        }
        if self.positions.is_empty() || self.seen < changes.first() {
            self.place_all(filters, pool);
        } else {
            let unplaced = NodePosition { leaf: Err(Unfit::NotReady), penalty: 0, score: None };
            self.positions.resize(pool.numbers_end(), unplaced);
            for number in changes.since(self.seen) {
                self.place(*number, filters, pool);
            }
        }
        self.seen = changes.end();
    }

    /// Adds all nodes, one order at a time: that is much faster than one by one. Nodes that did not change since they were last
    /// added are not judged again.
    fn place_all(&mut self, filters: &Filters<'_>, pool: &Pool) {
        let old = std::mem::take(&mut self.positions);
        let mut ranks: Vec<Vec<Rank>> = Vec::new();
        for number in 0..pool.numbers_end() {
            let known = old.get(number).filter(|_| !pool.is_described_since(number, self.seen));
            let judged =
                known.map_or_else(|| self.judge(number, filters, pool), |position| (position.leaf, position.penalty));
            let position = self.position(number, judged, pool);
            if let (Ok(leaf), Some(score)) = (position.leaf, position.score) {
                ranks.resize(ranks.len().max(leaf + 1), Vec::new());
                ranks[leaf].push((position.penalty, score, pool.get(number).id, number));
            }
            self.positions.push(position);
        }
        ranks.resize(self.orders.len(), Vec::new());
        self.orders = ranks.into_iter().map(|ranks| ranks.into_iter().collect()).collect();
    }

    /// Updates the position of a node.
    fn place(&mut self, number: usize, filters: &Filters<'_>, pool: &Pool) {
        let old = self.positions[number];
        let is_other = pool.is_described_since(number, self.seen);
        let judged = if is_other { self.judge(number, filters, pool) } else { (old.leaf, old.penalty) };
        let new = self.position(number, judged, pool);
        if new == old {
            return;
        }
        let id = pool.get(number).id;
        if let (Ok(leaf), Some(score)) = (old.leaf, old.score) {
            self.orders[leaf].remove(&(old.penalty, score, id, number));
        }
        if let (Ok(leaf), Some(score)) = (new.leaf, new.score) {
            self.orders[leaf].insert((new.penalty, score, id, number));
        }
        self.positions[number] = new;
    }

    /// The leaf of a node, or why it is not suitable, and the weight of the preferred properties that it lacks.
    fn judge(&mut self, number: usize, filters: &Filters<'_>, pool: &Pool) -> (Result<usize, Unfit>, u64) {
        let Some(node) = pool.node(number) else { return (Err(Unfit::NotReady), 0) };
        let leaf = filters.suits(node).map(|()| self.leaf(node));
        (leaf, filters.affinities().penalty(node))
    }

    /// The leaf for the values of a node's labels.
    fn leaf(&mut self, node: &Node) -> usize {
        let preferences = self.placement.preferences.iter();
        let path: Vec<String> = preferences.map(|preference| Label::of(preference).value(node).to_owned()).collect();
        if let Some(leaf) = self.leaves.get(&path) {
            return *leaf;
        }
        let leaf = self.paths.len();
        self.paths.push(path.clone());
        self.orders.push(BTreeSet::new());
        self.leaves.insert(path, leaf);
        leaf
    }

    fn position(&self, number: usize, (leaf, penalty): (Result<usize, Unfit>, u64), pool: &Pool) -> NodePosition {
        let candidate = pool.get(number);
        NodePosition {
            leaf,
            penalty,
            score: (candidate.takes_tasks && leaf.is_ok()).then(|| self.order.score(candidate)),
        }
    }
}

/// A label whose values the tasks are spread over.
#[derive(Debug, Clone, Copy)]
enum Label<'p> {
    Node(&'p str),
    Engine(&'p str),
}

impl<'p> Label<'p> {
    /// Reads `node.labels.<key>` or `engine.labels.<key>`.
    fn of(preference: &'p PlacementPreference) -> Self {
        let text = preference.spread.as_str();
        let key = |prefix: &str| {
            let same = text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
            same.then(|| &text[prefix.len()..])
        };
        match key("engine.labels.") {
            Some(key) => Self::Engine(key),
            None => Self::Node(key("node.labels.").unwrap_or_default()),
        }
    }

    /// Its value on a node; empty if the node has no such label.
    fn value(self, node: &Node) -> &str {
        let facts = node.facts();
        let (labels, key) = match self {
            Self::Node(key) => (facts.node_labels, key),
            Self::Engine(key) => (facts.engine_labels, key),
        };
        labels.and_then(|labels| labels.get(key)).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use events::{
        Annotations, Event, Id, Kind, NodeJoined, NodeRegistered, NodeSpec, NodeSpecUpdated, Reconciler,
        ServiceCreated, ServiceId, ServiceSpec, SessionId, TaskCreated, TaskId, TaskState,
    };
    use projections::{Cluster, Stamp};

    use super::super::Nodes;
    use super::super::pool::CHANGES_MIN;
    use super::*;

    const TASK: u128 = 9;

    fn fold(cluster: &mut Cluster, kinds: impl IntoIterator<Item = Kind>) {
        for kind in kinds {
            cluster.apply(&Event::by_reconciler(Reconciler::Schedule, kind), &Stamp::default());
        }
    }

    fn spec(zone: &str) -> NodeSpec {
        let labels = [("zone".to_owned(), zone.to_owned())].into();
        NodeSpec { annotations: Some(Annotations { labels, ..Annotations::default() }), ..NodeSpec::default() }
    }

    fn node(number: u128, zone: &str) -> [Kind; 2] {
        let (node, addr) = (NodeId::from_bits(number), "10.0.0.1:1".to_owned());
        let hostname = format!("node-{number}");
        [
            Kind::NodeJoined(NodeJoined { node, spec: spec(zone), hostname, addr: addr.clone() }),
            Kind::NodeRegistered(NodeRegistered { node, session: SessionId::from_bits(number), addr }),
        ]
    }

    /// A task that must not run in one zone and is spread over the others.
    fn task() -> [Kind; 2] {
        let placement = Placement {
            constraints: vec!["node.labels.zone!=forbidden".to_owned()],
            preferences: vec![PlacementPreference { spread: "node.labels.zone".to_owned() }],
            ..Placement::default()
        };
        let (service, mut spec) = (ServiceId::from_bits(1), ServiceSpec::default());
        spec.task.get_or_insert_default().placement = Some(placement);
        let task = TaskCreated {
            task: TaskId::from_bits(TASK),
            service,
            slot: 1,
            desired: TaskState::Running.into(),
            ..TaskCreated::default()
        };
        [Kind::ServiceCreated(Box::new(ServiceCreated { service, spec })), Kind::TaskCreated(task)]
    }

    /// Each label value with its nodes in order, and the unsuitable nodes.
    type View = (BTreeMap<String, Vec<(u64, u128)>>, Vec<u128>);

    fn view(cluster: &Cluster, candidates: &mut Nodes) -> View {
        candidates.follow(cluster);
        let task = cluster.tasks.get(TaskId::from_bits(TASK)).expect("the task");
        let filters = Filters::of(cluster, task);
        let placement = cluster.spec_of(task).template().placement();
        let layout = candidates.layouts.of(placement, &filters, &candidates.pool);
        let nodes = |leaf| layout.order(leaf).iter().map(|(_, active, id, _)| (*active, id.bits())).collect::<Vec<_>>();
        let leaves = layout.paths().enumerate().map(|(leaf, path)| (path.concat(), nodes(leaf)));
        let numbers = candidates.pool.numbers().filter(|number| layout.leaf_of(*number).is_err());
        let refused = numbers.map(|number| candidates.pool.get(number).id.bits()).collect();
        (leaves.filter(|(_, nodes)| !nodes.is_empty()).collect(), refused)
    }

    #[test]
    fn a_cached_layout_equals_one_built_from_scratch() {
        let zones = ["a", "b", "a", "forbidden", "b"];
        for missed in [0, 1, 10, CHANGES_MIN / 2, CHANGES_MIN, CHANGES_MIN + 1, 2 * CHANGES_MIN] {
            let (mut cluster, mut kept) = (Cluster::default(), Nodes::default());
            fold(&mut cluster, (1..).zip(zones).flat_map(|(number, zone)| node(number, zone)));
            fold(&mut cluster, task());
            view(&cluster, &mut kept);
            let moves = [(1, "c"), (4, "b"), (5, "forbidden")];
            for (number, zone) in moves {
                let node = NodeId::from_bits(number);
                fold(&mut cluster, [Kind::NodeSpecUpdated(NodeSpecUpdated { node, spec: spec(zone) })]);
                kept.follow(&cluster);
                // Tasks of other services, for which the layout is not used.
                (0..missed).for_each(|number| kept.pool.take(number % zones.len(), 0, 0));
            }
            fold(&mut cluster, node(6, "d"));
            let fresh = view(&cluster, &mut Nodes::default());
            let expected = [("a", 3), ("b", 2), ("b", 4), ("c", 1), ("d", 6)];
            let seen = fresh.0.iter().flat_map(|(zone, nodes)| nodes.iter().map(|(_, id)| (zone.as_str(), *id)));
            assert!(seen.eq(expected) && fresh.1 == [5], "{fresh:?}");
            assert_eq!(view(&cluster, &mut kept), fresh, "after {missed} changes that it missed");
        }
    }
}
