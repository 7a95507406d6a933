//! Two replays of the same history, side by side.

use std::time::Duration;

use wire::v1::ReplayReply;

use super::table::Table;
use super::view::View;
use crate::values::duration;

/// What neither replay repeats.
const LEFT_OUT: &str = "both without removals of single tasks, autoscaling, and failures of tasks\n";

/// One row for each figure.
pub fn text(reply: &ReplayReply, view: View) -> String {
    let mut table = Table::new(&["FIGURE", "AS IT WAS", "OTHERWISE"]);
    let (was, other) = (&reply.as_was, &reply.other);
    let rows = [
        ("tasks created", was.tasks_created, other.tasks_created),
        ("tasks placed", was.tasks_placed, other.tasks_placed),
        ("most tasks without a node at once", was.most_waiting, other.most_waiting),
        ("tasks without a node at the end", was.waiting, other.waiting),
        ("nodes with tasks at the end", was.nodes_used, other.nodes_used),
        ("most tasks of a node at the end", was.most_tasks_of_a_node, other.most_tasks_of_a_node),
    ];
    for (figure, was, other) in rows {
        table.row([figure.to_owned(), was.to_string(), other.to_string()]);
    }
    table.row(["time of tasks without a node".to_owned(), seconds(was.waited_ns), seconds(other.waited_ns)]);
    let mut text = table.render(view.width);
    text.push_str(&format!("\nup to index {}, {}\n", reply.to_index, reply.to_log_time));
    text.push_str(LEFT_OUT);
    if let Some(unfinished) = &reply.unfinished {
        text.push_str(&format!("{unfinished}\n"));
    }
    text
}

fn seconds(ns: u64) -> String {
    duration::show(Duration::from_secs(Duration::from_nanos(ns).as_secs()))
}
