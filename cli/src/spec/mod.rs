//! From flags to specs. Each module is one group of flags and applies them to a spec. An absent flag leaves its field unchanged,
//! so that the same code creates and updates specs.

mod balance;
mod container;
mod devices;
mod edits;
mod endpoint;
mod files;
mod health;
mod identity;
mod image;
mod lists;
mod logging;
mod mounts;
mod placement;
mod reset;
mod resources;
mod restart;
mod rollout;
mod schedule;
mod security;

pub use devices::add as add_devices;
pub use edits::ListEdits;
pub use files::resolve as resolve_files;
pub use image::pin as pin_image;
pub use lists::dropped;
pub use logging::LogFlags;
pub use placement::Strategy;
pub use reset::Field;
pub use security::{privileges, set_credential_spec, set_privileges};

use clap::Args;
use events::{ContainerSpec, ServiceSpec, TaskSpec};
use wire::v1::EnvSecretValue;

use crate::failure::Failure;

/// The flags that `service create` and `service update` share.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct ServiceFlags {
    #[command(flatten)]
    identity: identity::IdentityFlags,
    #[command(flatten)]
    container: container::ContainerFlags,
    #[command(flatten)]
    security: security::SecurityFlags,
    #[command(flatten)]
    devices: devices::DeviceFlags,
    #[command(flatten)]
    mounts: mounts::MountFlags,
    #[command(flatten)]
    files: files::FileFlags,
    #[command(flatten)]
    endpoint: endpoint::EndpointFlags,
    #[command(flatten)]
    health: health::HealthFlags,
    #[command(flatten)]
    resources: resources::ResourceFlags,
    #[command(flatten)]
    placement: placement::PlacementFlags,
    #[command(flatten)]
    balance: balance::BalanceFlags,
    #[command(flatten)]
    restart: restart::RestartFlags,
    #[command(flatten)]
    schedule: schedule::ScheduleFlags,
    #[command(flatten)]
    update: rollout::UpdateFlags,
    #[command(flatten)]
    rollback: rollout::RollbackFlags,
    #[command(flatten)]
    log: LogFlags,
}

impl ServiceFlags {
    /// Values of secret variables, which are sent separately from the spec.
    ///
    /// # Errors
    /// When a value cannot be read.
    pub fn env_secrets(&self) -> Result<Vec<EnvSecretValue>, Failure> {
        self.container.env_secrets()
    }

    /// Applies all flags that were given.
    ///
    /// # Errors
    /// When a flag does not apply to this service.
    pub fn apply(&self, spec: &mut ServiceSpec) -> Result<(), Failure> {
        self.balance.apply(spec);
        self.identity.apply(spec)?;
        self.container.apply(spec);
        self.security.apply(spec)?;
        self.devices.apply(spec);
        self.mounts.apply(spec);
        self.files.apply(spec);
        self.endpoint.apply(spec);
        self.health.apply(spec);
        self.resources.apply(spec);
        self.placement.apply(spec);
        self.restart.apply(spec);
        self.schedule.apply(spec)?;
        self.update.apply(spec);
        self.rollback.apply(spec);
        self.log.apply(&mut task(spec).log_driver)
    }
}

/// The task template, created if it is absent.
pub fn task(spec: &mut ServiceSpec) -> &mut TaskSpec {
    spec.task.get_or_insert_default()
}

/// The container of the task template, created if it is absent.
pub fn container(spec: &mut ServiceSpec) -> &mut ContainerSpec {
    task(spec).container.get_or_insert_default()
}

/// Sets a field if its flag was given.
fn set<T: Clone>(field: &mut T, given: &Option<T>) {
    if let Some(value) = given {
        *field = value.clone();
    }
}

/// Replaces a list if its flag was given.
fn replace<T: Clone>(field: &mut Vec<T>, given: &[T]) {
    if !given.is_empty() {
        *field = given.to_vec();
    }
}

/// A duration in nanoseconds, the unit of specs. The flags' parser has refused values that do not fit.
pub fn ns(length: std::time::Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
