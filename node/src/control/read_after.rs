//! Reads the state that would result from steps that are only tried, for the next line of a script.

use std::sync::Arc;

use commands::{Actor, Rejection};
use projections::Cluster;
use projections::views::objects;
use wire::v1::read_after_reply::Page;
use wire::v1::read_after_request::Read;
use wire::v1::{Meta, ReadAfterReply, ReadAfterRequest, ServiceView};

use super::Control;
use super::command::unknown_command;
use super::preview::Draft;

/// The pages of a response; each is created when it is read.
pub type Replies = Box<dyn Iterator<Item = ReadAfterReply> + Send>;

impl Control {
    /// Reads the state after the steps. May take long; only the caller waits for it.
    ///
    /// # Errors
    /// When a step is refused, the request is malformed, or the caller has cancelled.
    pub fn read_after(
        &self,
        actor: &Actor,
        request: ReadAfterRequest,
        draft: &Draft,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Replies, Rejection> {
        let read = request.read.ok_or_else(unknown_command)?;
        let after = self.after(actor, request.steps, draft, is_stopped)?;
        let pages: Box<dyn Iterator<Item = Page> + Send> = match read {
            Read::Nodes(of) => one(Page::Nodes(after.inspect_nodes(&of.nodes)?)),
            Read::Services(of) => one(Page::Services(after.inspect_services(&of.services)?)),
            Read::ListServices(of) => Box::new(after.list_services(&of).map(Page::ListServices)),
            Read::Tasks(of) => Box::new(after.list_tasks(&of)?.map(Page::Tasks)),
            Read::Configs(of) => Box::new(after.read_configs(&of)?.map(Page::Configs)),
            Read::Secrets(of) => Box::new(after.describe_secrets(&of)?.map(Page::Secrets)),
            // Tokens are only shown to a real request.
            Read::Cluster(_) => one(Page::Cluster(after.cluster(false)?)),
        };
        let before = Arc::clone(&self.state);
        Ok(Box::new(pages.map(move |page| marked(&before.cluster, page))))
    }
}

fn one(page: Page) -> Box<dyn Iterator<Item = Page> + Send> {
    Box::new(std::iter::once(page))
}

/// A page with marks on objects created by the steps, since their ids and versions are only valid in the copy.
fn marked(before: &Cluster, mut page: Page) -> ReadAfterReply {
    let mut tentative = Vec::new();
    let mut mark = |id: String, meta: &mut Meta| {
        meta.version = if meta.version > before.position.index { 0 } else { meta.version };
        if objects::find(before, &id).is_none() {
            tentative.push(id);
        }
    };
    match &mut page {
        Page::Nodes(list) => list.nodes.iter_mut().for_each(|node| mark(node.id.to_string(), &mut node.meta)),
        Page::Services(list) => list.services.iter_mut().for_each(|service| {
            mark(service.id.to_string(), &mut service.meta);
            unlink(before, service);
        }),
        Page::ListServices(list) => list.services.iter_mut().for_each(|of| mark(of.id.to_string(), &mut of.meta)),
        Page::Tasks(list) => list.tasks.iter_mut().for_each(|task| task.meta.version = 0),
        Page::Configs(list) => list.configs.iter_mut().for_each(|of| mark(of.id.to_string(), &mut of.meta)),
        Page::Secrets(list) => list.secrets.iter_mut().for_each(|of| mark(of.id.to_string(), &mut of.meta)),
        Page::Cluster(cluster) => mark(cluster.id.to_string(), &mut cluster.meta),
    }
    ReadAfterReply { page: Some(page), tentative }
}

/// Removes the ids from references to configs and secrets that did not exist before, leaving their names.
fn unlink(before: &Cluster, service: &mut ServiceView) {
    let Some(container) = service.spec.task.as_mut().and_then(|task| task.container.as_mut()) else { return };
    for reference in &mut container.configs {
        reference.config = reference.config.filter(|id| before.configs.get(*id).is_some());
    }
    for reference in &mut container.secrets {
        reference.secret = reference.secret.filter(|id| before.secrets.get(*id).is_some());
    }
}
