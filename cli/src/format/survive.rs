//! Which losses of nodes the services survive.

use wire::v1::SurviveReply;

use super::preview::without_node;
use super::table::Table;
use super::view::View;

/// A row for each loss, and how many of them leave tasks without a node.
pub fn text(reply: &SurviveReply, label: Option<&str>, view: View) -> String {
    let heading = label.map_or_else(|| "LOST NODE".to_owned(), str::to_ascii_uppercase);
    let mut table = Table::new(&[&heading, "NODES", "TASKS", "SURVIVES", "LEFT OVER"]);
    for loss in &reply.losses {
        let left: Vec<String> = loss.unplaced.iter().map(without_node).collect();
        table.row([
            loss.lost.clone(),
            loss.nodes.to_string(),
            loss.tasks.to_string(),
            if left.is_empty() { "yes" } else { "no" }.to_owned(),
            left.join("; "),
        ]);
    }
    let fails = reply.losses.iter().filter(|loss| !loss.unplaced.is_empty()).count();
    let verdict = match (reply.losses.len(), fails) {
        (0, _) => "there are no nodes to lose".to_owned(),
        (_, 0) => "all tasks still fit after every single loss".to_owned(),
        (all, fails) => format!("{fails} of {all} losses leave tasks without a node"),
    };
    format!("{}\n{verdict}\n", table.render(view.width))
}

#[cfg(test)]
mod tests {
    use wire::v1::{Loss, UnplacedTasks};

    use super::*;
    use crate::format::samples;

    #[test]
    fn a_loss_is_survived_if_nothing_is_left_over() {
        let left = UnplacedTasks { service_name: "web".to_owned(), tasks: 2, reason: "full".to_owned() };
        let loss = |lost: &str, unplaced| Loss { lost: lost.to_owned(), nodes: 1, tasks: 3, unplaced };
        let view = View { now: samples::NOW, ids: false, width: None };
        let reply = |losses| SurviveReply { losses, ..SurviveReply::default() };
        let both = text(&reply(vec![loss("a", vec![]), loss("b", vec![left])]), Some("rack"), view);
        assert!(both.starts_with("RACK "), "{both}");
        assert!(both.contains("2 tasks of web without a node: full"), "{both}");
        assert!(both.ends_with("\n1 of 2 losses leave tasks without a node\n"), "{both}");
        let one = text(&reply(vec![loss("a", vec![])]), None, view);
        assert!(one.ends_with("\nall tasks still fit after every single loss\n"), "{one}");
    }
}
