//! Why tasks cannot be placed, counted over the nodes and summarized in one sentence.

use std::collections::BTreeMap;

use super::filters::Unfit;

/// Number of nodes rejected for each reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Explanation {
    counts: BTreeMap<Unfit, u64>,
}

impl Explanation {
    pub(super) fn count(&mut self, refusal: Unfit) {
        *self.counts.entry(refusal).or_default() += 1;
    }

    /// The sentence, the most frequent reason first: "no suitable node (insufficient memory on 3 nodes, 2 nodes not available
    /// for new tasks)". Each node has one reason, so that their numbers add up to `nodes`.
    pub(super) fn sentence(&self, nodes: usize) -> String {
        if nodes == 0 {
            return "no suitable node: the cluster has no nodes".to_owned();
        }
        let mut reasons: Vec<(Unfit, u64)> = self.counts.iter().map(|(refusal, count)| (*refusal, *count)).collect();
        reasons.sort_by_key(|(refusal, count)| (std::cmp::Reverse(*count), *refusal));
        let parts: Vec<String> = reasons.iter().map(|(refusal, count)| phrase(*refusal, *count)).collect();
        format!("no suitable node ({})", parts.join(", "))
    }
}

fn phrase(refusal: Unfit, count: u64) -> String {
    let nodes = if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") };
    let what = refusal.words();
    if refusal == Unfit::NotReady { format!("{nodes} {what}") } else { format!("{what} on {nodes}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_reason_is_first() {
        let mut explanation = Explanation::default();
        for refusal in [Unfit::NotReady, Unfit::HostPort, Unfit::HostPort] {
            explanation.count(refusal);
        }
        assert_eq!(
            explanation.sentence(3),
            "no suitable node (host port in use on 2 nodes, 1 node not available for new tasks)"
        );
    }
}
