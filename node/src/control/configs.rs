//! Configs in API responses.

use std::sync::Arc;

use commands::Rejection;
use events::ConfigId;
use projections::views::overview::resolve_config;
use projections::{Cluster, Config};
use wire::v1::{ConfigPage, ConfigView, FileRevisionView, Meta, ReadConfigsRequest};

use super::Control;
use super::lists::Pages;
use crate::manager::driver::Published;

impl Control {
    /// The configs that a request refers to, with their data; or all without it, sorted by name.
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
        let row = move |state: &Published, id| Some(view(&state.cluster, state.cluster.configs.get(id)?, with_data));
        Ok(Pages::new(Arc::clone(&self.state), configs, row, |configs, _| ConfigPage { configs }))
    }
}

fn view(cluster: &Cluster, config: &Config, is_named: bool) -> ConfigView {
    let revisions = config.revisions.iter();
    let users = if is_named { cluster.users_of_config(config.id) } else { Default::default() };
    ConfigView {
        id: config.id,
        meta: Meta { version: config.version, created_at: config.created_at, updated_at: config.updated_at },
        spec: (*config.spec).clone(),
        bytes: config.data().len() as u64,
        data: is_named.then(|| config.data().to_vec()),
        revisions: revisions
            .map(|(revision, of)| FileRevisionView { revision: *revision, created_at: of.created_at })
            .collect(),
        services: users.into_iter().map(str::to_owned).collect(),
    }
}
