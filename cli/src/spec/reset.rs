//! Resets settings to the defaults of a new service.

use clap::ValueEnum;
use events::{MountType, ServiceSpec};

use super::{container, devices, set_credential_spec, set_privileges, task};

/// A setting that can be reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names are those of the flags that set them")]
pub enum Field {
    Affinity,
    Args,
    Bind,
    CapAdd,
    CapDrop,
    Command,
    Config,
    Constraint,
    ContainerLabel,
    CredentialSpec,
    Device,
    DeviceCgroupRule,
    DependsOn,
    Dns,
    Env,
    EnvSecret,
    GenericResources,
    Gpus,
    Group,
    Health,
    Host,
    Init,
    Label,
    Limits,
    LogDriver,
    MemorySwap,
    PlacementPref,
    PlacementStrategy,
    Ports,
    Reservations,
    Restart,
    Rollback,
    Schedule,
    Secret,
    SecurityOpt,
    Sysctl,
    Tmpfs,
    Ulimit,
    Update,
    Volume,
}

impl Field {
    /// Resets the setting.
    pub fn reset(self, spec: &mut ServiceSpec) {
        match self {
            Self::Label => spec.annotations.iter_mut().for_each(|annotations| annotations.labels.clear()),
            Self::DependsOn => spec.depends_on.clear(),
            Self::Ports => spec.endpoint = None,
            Self::Update => spec.update = None,
            Self::Rollback => spec.rollback = None,
            Self::Restart => task(spec).restart = None,
            Self::Schedule => spec.schedule = None,
            Self::LogDriver => task(spec).log_driver = None,
            Self::Constraint => task(spec).placement.iter_mut().for_each(|placement| placement.constraints.clear()),
            Self::PlacementPref => task(spec).placement.iter_mut().for_each(|placement| placement.preferences.clear()),
            Self::Affinity => task(spec).placement.iter_mut().for_each(|placement| placement.affinities.clear()),
            Self::PlacementStrategy => task(spec).placement.iter_mut().for_each(|placement| placement.strategy = None),
            Self::Limits => task(spec).resources.iter_mut().for_each(|resources| resources.limits = None),
            Self::Reservations => task(spec).resources.iter_mut().for_each(|resources| resources.reservations = None),
            Self::MemorySwap => task(spec).resources.iter_mut().for_each(|resources| {
                resources.swap_bytes = None;
                resources.memory_swappiness = None;
            }),
            Self::GenericResources => {
                let reservations =
                    task(spec).resources.iter_mut().filter_map(|resources| resources.reservations.as_mut());
                reservations.for_each(|reservations| reservations.generic.clear());
            }
            Self::Args => container(spec).args.clear(),
            Self::CapAdd => container(spec).capability_add.clear(),
            Self::CapDrop => container(spec).capability_drop.clear(),
            Self::Command => container(spec).command.clear(),
            Self::Config => container(spec).configs.retain(|of| of.runtime),
            Self::ContainerLabel => container(spec).labels.clear(),
            Self::Device => {
                let container = container(spec);
                container.devices.clear();
                container.device_requests.retain(|request| !devices::is_named(request));
            }
            Self::DeviceCgroupRule => container(spec).device_cgroup_rules.clear(),
            Self::Gpus => container(spec).device_requests.retain(devices::is_named),
            Self::SecurityOpt => set_privileges(container(spec), None),
            Self::CredentialSpec => set_credential_spec(container(spec), None),
            Self::Dns => container(spec).dns = None,
            Self::Env => container(spec).env.clear(),
            Self::EnvSecret => container(spec).env_secrets.clear(),
            Self::Group => container(spec).groups.clear(),
            Self::Health => container(spec).healthcheck = None,
            Self::Host => container(spec).hosts.clear(),
            Self::Init => container(spec).init = None,
            Self::Secret => container(spec).secrets.clear(),
            Self::Sysctl => container(spec).sysctls.clear(),
            Self::Ulimit => container(spec).ulimits.clear(),
            Self::Bind => without(spec, MountType::Bind),
            Self::Tmpfs => without(spec, MountType::Tmpfs),
            Self::Volume => without(spec, MountType::Volume),
        }
    }
}

fn without(spec: &mut ServiceSpec, kind: MountType) {
    container(spec).mounts.retain(|mount| mount.r#type() != kind);
}
