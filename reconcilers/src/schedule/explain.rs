//! Why tasks cannot be placed, counted over the nodes and said in one sentence.

use std::collections::BTreeMap;

use super::filters::Unfit;

/// How many nodes were refused for each reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Explanation {
    counts: BTreeMap<Unfit, u64>,
}

impl Explanation {
    pub(super) fn count(&mut self, refusal: Unfit) {
        *self.counts.entry(refusal).or_default() += 1;
    }

    /// The sentence, the most frequent reason first: "no suitable node: 3 of 5 nodes lack memory, 2 take no new tasks".
    pub(super) fn sentence(&self, nodes: usize) -> String {
        if nodes == 0 {
            return "no suitable node: the cluster has no nodes".to_owned();
        }
        let mut reasons: Vec<(Unfit, u64)> = self.counts.iter().map(|(refusal, count)| (*refusal, *count)).collect();
        reasons.sort_by_key(|(refusal, count)| (std::cmp::Reverse(*count), *refusal));
        let parts: Vec<String> = reasons.iter().map(|(refusal, count)| phrase(*refusal, *count)).collect();
        let noun = if nodes == 1 { "node" } else { "nodes" };
        format!("no suitable node (of {nodes} {noun}: {})", parts.join(", "))
    }
}

fn phrase(refusal: Unfit, count: u64) -> String {
    let one = count == 1;
    let verb = |singular: &str, plural: &str| format!("{count} {}", if one { singular } else { plural });
    match refusal {
        Unfit::NotReady => verb("is not available for new tasks", "are not available for new tasks"),
        Unfit::Cpu => verb("lacks CPU", "lack CPU"),
        Unfit::Memory => verb("lacks memory", "lack memory"),
        Unfit::Generic => verb("lacks generic resources", "lack generic resources"),
        Unfit::Plugin => verb("lacks a plugin", "lack a plugin"),
        Unfit::Constraint => verb("does not meet the constraints", "do not meet the constraints"),
        Unfit::Platform => verb("has an unsupported platform", "have an unsupported platform"),
        Unfit::HostPort => verb("has the host port in use", "have the host port in use"),
        Unfit::MaxReplicas => verb("has as many replicas as allowed", "have as many replicas as allowed"),
    }
}
