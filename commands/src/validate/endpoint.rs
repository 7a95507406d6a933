//! Published ports.

use std::collections::BTreeSet;

use events::{EndpointSpec, Named, NetworkMode, PortConfig, PortProtocol, PublishMode};

use super::{Fault, Verdict, known};
use crate::RejectionKind;

/// Ports of a service. Only host mode exists so far: the port is opened on every node that runs a task.
pub(super) fn endpoint(endpoint: &EndpointSpec, network: NetworkMode) -> Verdict {
    if network != NetworkMode::Default && !endpoint.ports.is_empty() {
        let sentence = format!("a container with the network {} publishes no ports", network.name());
        return Err(Fault::invalid(
            sentence,
            "leave out the ports, or the network: with host, each port that the container opens is the node's",
        ));
    }
    let mut published = BTreeSet::new();
    for port in &endpoint.ports {
        one(port)?;
        if port.published_port != 0 && !published.insert((port.published_port, port.protocol)) {
            let sentence = format!("the port {}/{} is published twice", port.published_port, port.protocol().name());
            return Err(Fault::invalid(sentence, "publish each port once, or under another number"));
        }
    }
    Ok(())
}

fn one(port: &PortConfig) -> Verdict {
    known::<PortProtocol>(port.protocol, "port protocol")?;
    known::<PublishMode>(port.publish_mode, "publish mode")?;
    let hint = "ports are numbers from 1 to 65535; a published port of 0 lets the engine choose";
    if !(1..=u32::from(u16::MAX)).contains(&port.target_port) {
        return Err(Fault::invalid(format!("{} is not a port in a container", port.target_port), hint));
    }
    if port.published_port > u32::from(u16::MAX) {
        return Err(Fault::invalid(format!("{} is not a port to publish", port.published_port), hint));
    }
    match port.publish_mode() {
        PublishMode::Host => Ok(()),
        PublishMode::Ingress => {
            let sentence = format!(
                "port {} cannot be published for the whole cluster: the routing mesh is not in this version",
                port.target_port
            );
            let hint = "publish it in host mode (mode=host): it then listens on each node that runs a task";
            Err(Fault::new(RejectionKind::Unavailable, sentence, hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(published_port: u32, target_port: u32, protocol: PortProtocol) -> PortConfig {
        let (protocol, publish_mode) = (protocol.into(), PublishMode::Host.into());
        PortConfig { published_port, target_port, protocol, publish_mode, ..Default::default() }
    }

    fn check(ports: &[PortConfig]) -> Verdict {
        endpoint(&EndpointSpec { ports: ports.to_vec() }, NetworkMode::Default)
    }

    #[test]
    fn a_port_is_published_once_for_each_protocol() {
        use PortProtocol::{Tcp, Udp};
        assert_eq!(check(&[host(80, 80, Tcp), host(80, 80, Udp), host(81, 80, Tcp)]), Ok(()));
        assert_eq!(check(&[host(0, 80, Tcp), host(0, 80, Tcp)]), Ok(()));
        assert!(check(&[host(80, 80, Tcp), host(80, 81, Tcp)]).is_err());
    }

    #[test]
    fn ports_are_published_of_a_network_of_the_container_s_own_only() {
        let ports = |ports: &[PortConfig]| EndpointSpec { ports: ports.to_vec() };
        for network in [NetworkMode::Host, NetworkMode::None] {
            assert_eq!(endpoint(&ports(&[]), network), Ok(()));
            assert!(endpoint(&ports(&[host(80, 80, PortProtocol::Tcp)]), network).is_err(), "{network:?}");
        }
    }

    #[test]
    fn numbers_are_ports() {
        use PortProtocol::Tcp;
        assert_eq!(check(&[host(65_535, 65_535, Tcp)]), Ok(()));
        for port in [host(80, 0, Tcp), host(65_536, 80, Tcp), host(80, 65_536, Tcp)] {
            assert!(check(std::slice::from_ref(&port)).is_err(), "{port:?}");
        }
    }

    #[test]
    fn ingress_is_not_there_yet() {
        let port = PortConfig { target_port: 80, ..Default::default() };
        let fault = check(&[port]).expect_err("no routing mesh");
        assert_eq!(fault.kind, RejectionKind::Unavailable);
        assert!(fault.hint.contains("mode=host"), "{}", fault.hint);
    }
}
