//! Secrets in API responses: without their data.

use std::sync::Arc;

use commands::Rejection;
use events::SecretId;
use projections::views::overview::resolve_secret;
use projections::{Cluster, ClusterSecret};
use wire::v1::{DescribeSecretsRequest, FileRevisionView, Meta, SecretPage, SecretView};

use super::Control;
use super::lists::Pages;
use crate::manager::driver::Published;

impl Control {
    /// The secrets that a request refers to, with the services that use them; or all without those, sorted by name.
    ///
    /// # Errors
    /// When a reference matches no object, or more than one.
    pub fn describe_secrets(
        &self,
        request: &DescribeSecretsRequest,
    ) -> Result<Pages<SecretView, SecretPage>, Rejection> {
        let (cluster, with_users) = (&self.state.cluster, !request.secrets.is_empty());
        let secrets: Vec<SecretId> = if with_users {
            let ids = request.secrets.iter().map(|reference| resolve_secret(cluster, reference));
            ids.collect::<Result<_, _>>()?
        } else {
            let mut all: Vec<_> = cluster.secrets.values().map(|secret| (secret.spec.name(), secret.id)).collect();
            all.sort();
            all.into_iter().map(|(_, id)| id).collect()
        };
        let row = move |state: &Published, id| Some(view(&state.cluster, state.cluster.secrets.get(id)?, with_users));
        Ok(Pages::new(Arc::clone(&self.state), secrets, row, |secrets, _| SecretPage { secrets }))
    }
}

fn view(cluster: &Cluster, secret: &ClusterSecret, with_users: bool) -> SecretView {
    let revisions = secret.revisions.iter();
    let users = if with_users { cluster.users_of_secret(secret.id) } else { Default::default() };
    SecretView {
        id: secret.id,
        meta: Meta { version: secret.version, created_at: secret.created_at, updated_at: secret.updated_at },
        spec: (*secret.spec).clone(),
        revisions: revisions
            .map(|(revision, of)| FileRevisionView { revision: *revision, created_at: of.created_at })
            .collect(),
        services: users.into_iter().map(str::to_owned).collect(),
    }
}
