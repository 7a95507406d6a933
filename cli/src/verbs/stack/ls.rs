//! `swarmctl stack ls`.

use std::collections::BTreeMap;

use serde::Serialize;
use wire::v1::{LabelFilter, ListServicesRequest, Selection};

use crate::compose::STACK_LABEL;
use crate::failure::Failure;
use crate::format::table::Table;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// List the stacks
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show names only
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    at: At,
}

#[derive(Serialize, Default)]
struct Stack {
    name: String,
    services: u64,
    running_tasks: u64,
    desired_tasks: u64,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let label = LabelFilter { key: STACK_LABEL.to_owned(), value: None };
    let select = Some(Selection { labels: vec![label], ..Selection::default() });
    let services = session.manager.list_services(ListServicesRequest { select, mode: None }).await?;
    let mut stacks: BTreeMap<String, Stack> = BTreeMap::new();
    for service in services {
        let name = service.labels.get(STACK_LABEL).cloned().unwrap_or_default();
        let stack = stacks.entry(name.clone()).or_insert_with(|| Stack { name, ..Stack::default() });
        stack.services += 1;
        stack.running_tasks += service.running_tasks;
        stack.desired_tasks += service.desired_tasks;
    }
    let stacks: Vec<Stack> = stacks.into_values().collect();
    let width = session.view().width;
    session.list(&stacks, args.quiet, |stack| stack.name.clone(), |stacks| table(stacks, width))
}

fn table(stacks: &[Stack], width: Option<usize>) -> String {
    let mut table = Table::new(&["NAME", "SERVICES", "TASKS"]);
    for stack in stacks {
        let tasks = format!("{}/{}", stack.running_tasks, stack.desired_tasks);
        table.row([stack.name.clone(), stack.services.to_string(), tasks]);
    }
    table.render(width)
}
