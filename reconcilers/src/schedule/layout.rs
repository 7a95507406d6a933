//! What a placement says of the nodes, whatever runs on them: which of them its constraints and platforms refuse, and how
//! the labels that it spreads tasks over part the others. Worked out once for all services with the same placement.

use std::collections::BTreeMap;
use std::rc::Rc;

use events::{Placement, PlacementPreference};
use projections::Node;

use super::candidates::Candidates;
use super::filters::{Filters, Refusal};

/// Most layouts kept during one run: each costs some bytes for every node, and a turn places few kinds of services.
const LAYOUTS_MAX: usize = 64;

/// One placement's view of the nodes.
pub(super) struct Layout<'a> {
    /// For each node in the order of the candidates: the leaf that it belongs to, or why it will not do.
    pub leaf_of: Vec<Result<usize, Refusal>>,
    /// The label values that lead to each leaf.
    pub paths: Vec<Vec<&'a str>>,
}

/// The layouts of one run of the scheduler.
#[derive(Default)]
pub(super) struct Layouts<'a> {
    known: Vec<(&'a Placement, Rc<Layout<'a>>)>,
}

impl<'a> Layouts<'a> {
    /// The layout of this placement, whose constraints and platforms the filters know.
    pub(super) fn of(
        &mut self,
        placement: &'a Placement,
        filters: &Filters<'_>,
        candidates: &Candidates<'a>,
    ) -> Rc<Layout<'a>> {
        if let Some((_, layout)) = self.known.iter().find(|(known, _)| *known == placement) {
            return Rc::clone(layout);
        }
        let layout = Rc::new(Layout::new(placement, filters, candidates));
        if self.known.len() < LAYOUTS_MAX {
            self.known.push((placement, Rc::clone(&layout)));
        }
        layout
    }
}

impl<'a> Layout<'a> {
    fn new(placement: &'a Placement, filters: &Filters<'_>, candidates: &Candidates<'a>) -> Self {
        let labels: Vec<Label<'_>> = placement.preferences.iter().map(Label::of).collect();
        let mut leaves: BTreeMap<Vec<&'a str>, usize> = BTreeMap::new();
        let mut leaf_of = Vec::with_capacity(candidates.len());
        for index in 0..candidates.len() {
            let node = candidates.get(index).node;
            leaf_of.push(filters.suits(node).map(|()| {
                let path = labels.iter().map(|label| label.value(node)).collect();
                let next = leaves.len();
                *leaves.entry(path).or_insert(next)
            }));
        }
        let mut paths = vec![Vec::new(); leaves.len()];
        for (path, leaf) in leaves {
            paths[leaf] = path;
        }
        Self { leaf_of, paths }
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
