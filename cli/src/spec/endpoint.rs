//! How a service is reached.

use clap::Args;
use events::{PortConfig, ServiceSpec};

use crate::values::port;

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Ports")]
pub(super) struct EndpointFlags {
    /// Port published on the node of each task; the given ones replace all
    #[arg(long, value_name = "NAME:PORT[/PROTOCOL][:PUBLISHED]", value_parser = port::parse)]
    ports: Vec<PortConfig>,
}

impl EndpointFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) {
        if !self.ports.is_empty() {
            spec.endpoint.get_or_insert_default().ports = self.ports.clone();
        }
    }
}
