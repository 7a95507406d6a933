//! Secrets in API responses: without their data.

use std::sync::Arc;

use commands::Rejection;
use events::SecretId;
use projections::ClusterSecret;
use projections::views::overview::resolve_secret;
use wire::v1::{DescribeSecretsRequest, FileRevisionView, Meta, SecretPage, SecretView};

use super::Control;
use super::configs::owned;
use super::lists::Pages;
use crate::manager::driver::Published;

impl Control {
    /// The secrets that a request refers to, or all, sorted by name. Each with the services that use it.
    ///
    /// # Errors
    /// When a reference matches no object, or more than one.
    pub fn describe_secrets(
        &self,
        request: &DescribeSecretsRequest,
    ) -> Result<Pages<SecretView, SecretPage>, Rejection> {
        let cluster = &self.state.cluster;
        let secrets: Vec<SecretId> = if !request.secrets.is_empty() {
            let ids = request.secrets.iter().map(|reference| resolve_secret(cluster, reference));
            ids.collect::<Result<_, _>>()?
        } else {
            let mut all: Vec<_> = cluster.secrets.values().map(|secret| (secret.spec.name(), secret.id)).collect();
            all.sort();
            all.into_iter().map(|(_, id)| id).collect()
        };
        let users = owned(cluster.users_of_secrets());
        let row = move |state: &Published, id| {
            Some(view(state.cluster.secrets.get(id)?, users.get(&id).cloned().unwrap_or_default()))
        };
        Ok(Pages::new(Arc::clone(&self.state), secrets, row, |secrets, _| SecretPage { secrets }))
    }
}

fn view(secret: &ClusterSecret, services: Vec<String>) -> SecretView {
    let revisions = secret.revisions.iter();
    SecretView {
        id: secret.id,
        meta: Meta { version: secret.version, created_at: secret.created_at, updated_at: secret.updated_at },
        spec: (*secret.spec).clone(),
        revisions: revisions
            .map(|(revision, of)| FileRevisionView { revision: *revision, created_at: of.created_at })
            .collect(),
        services,
    }
}
