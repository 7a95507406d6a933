//! Configs in API responses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use commands::Rejection;
use events::ConfigId;
use projections::Config;
use projections::views::overview::resolve_config;
use wire::v1::{ConfigPage, ConfigView, FileRevisionView, Meta, ReadConfigsRequest};

use super::Control;
use super::lists::Pages;
use crate::manager::driver::Published;

impl Control {
    /// The configs that a request refers to, with their data; or all without it, sorted by name. Each with the services that use it.
    ///
    /// # Errors
    /// When a reference matches no object, or more than one.
    pub fn read_configs(&self, request: &ReadConfigsRequest) -> Result<Pages<ConfigView, ConfigPage>, Rejection> {
        let (cluster, with_data) = (&self.state.cluster, !request.configs.is_empty());
        let configs: Vec<ConfigId> = if with_data {
            let ids = request.configs.iter().map(|reference| resolve_config(cluster, reference));
            ids.collect::<Result<_, _>>()?
        } else {
            let mut all: Vec<_> = cluster.configs.values().map(|config| (config.spec.name(), config.id)).collect();
            all.sort();
            all.into_iter().map(|(_, id)| id).collect()
        };
        let users = owned(cluster.users_of_configs());
        let row = move |state: &Published, id| {
            let services = users.get(&id).cloned().unwrap_or_default();
            Some(view(state.cluster.configs.get(id)?, with_data, services))
        };
        Ok(Pages::new(Arc::clone(&self.state), configs, row, |configs, _| ConfigPage { configs }))
    }
}

/// The users of files as an answer keeps them.
pub(super) fn owned<I: Ord>(users: BTreeMap<I, BTreeSet<&str>>) -> BTreeMap<I, Vec<String>> {
    users.into_iter().map(|(id, names)| (id, names.into_iter().map(str::to_owned).collect())).collect()
}

fn view(config: &Config, with_data: bool, services: Vec<String>) -> ConfigView {
    let revisions = config.revisions.iter();
    ConfigView {
        id: config.id,
        meta: Meta { version: config.version, created_at: config.created_at, updated_at: config.updated_at },
        spec: (*config.spec).clone(),
        bytes: config.data().len() as u64,
        data: with_data.then(|| config.data().to_vec()),
        revisions: revisions
            .map(|(revision, of)| FileRevisionView { revision: *revision, created_at: of.created_at })
            .collect(),
        services,
    }
}
