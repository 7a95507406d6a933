//! Published ports of a service.

use clap::Args;
use events::{PortConfig, ServiceSpec};

use crate::values::{port, publish};

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Ports")]
pub(super) struct EndpointFlags {
    /// Port published on the node of each task; replaces all
    #[arg(long, value_name = "NAME:PORT[/PROTOCOL][:PUBLISHED]", value_parser = port::parse)]
    ports: Vec<PortConfig>,

    /// The same in Docker's form, such as 8080:80; listens on the node of each task
    #[arg(short, long, value_name = "PUBLISHED:PORT[/PROTOCOL]", value_parser = publish::parse)]
    publish: Vec<PortConfig>,
}

impl EndpointFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) {
        let ports: Vec<PortConfig> = self.ports.iter().chain(&self.publish).cloned().collect();
        if !ports.is_empty() {
            spec.endpoint.get_or_insert_default().ports = ports;
        }
    }
}
