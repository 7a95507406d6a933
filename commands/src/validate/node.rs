//! Node specs, and node descriptions reported by agents.

use std::net::{IpAddr, Ipv6Addr};

use events::{Availability, NodeDescription, NodeSpec, Role};
use prost::Message;

use super::{Fault, Verdict, duration, known, name, resources};
use crate::text::quote;

/// Maximum size of a node description in bytes; every manager stores one for each node.
const DESCRIPTION_BYTES_MAX: usize = 64 * 1024;
/// Maximum size of a node spec in bytes: its labels.
const SPEC_BYTES_MAX: usize = 64 * 1024;

/// Checks a node spec.
pub(crate) fn node_spec(spec: &NodeSpec) -> Verdict {
    known::<Role>(spec.role, "role")?;
    known::<Availability>(spec.availability, "availability")?;
    drain_deadline(spec)?;
    within(spec.encoded_len(), SPEC_BYTES_MAX, "spec", "give the node fewer or shorter labels")?;
    spec.annotations.as_ref().map_or(Ok(()), |of| name::node(&of.name).and_then(|()| name::labels(&of.labels)))
}

/// Only drained nodes have a drain deadline.
fn drain_deadline(spec: &NodeSpec) -> Verdict {
    let Some(deadline_ns) = spec.drain_deadline_ns else { return Ok(()) };
    if spec.availability() != Availability::Drain {
        let sentence = "a deadline is for draining a node";
        return Err(Fault::invalid(sentence, "set it with `swarmctl node drain --deadline`"));
    }
    if deadline_ns == 0 {
        let sentence = "the drain deadline is 0";
        return Err(Fault::invalid(sentence, "give a duration such as 30s or 10m, or no deadline"));
    }
    duration(deadline_ns, "drain deadline")
}

/// Checks a node description, so that no node can harm the managers with it.
pub(crate) fn node_description(description: &NodeDescription) -> Verdict {
    name::hostname(&description.hostname)?;
    let hint = "give the node's engine fewer labels, plugins or generic resources";
    within(description.encoded_len(), DESCRIPTION_BYTES_MAX, "description", hint)?;
    description.resources.as_ref().map_or(Ok(()), resources::offered)
}

/// Checks the address that a node reports: `host:port`, or the bare address that a manager saw it connect from. Every manager
/// stores it, and people read it in tables.
pub(crate) fn addr(addr: &str) -> Verdict {
    if addr.parse::<IpAddr>().is_ok() || is_host_and_port(addr) {
        return Ok(());
    }
    let hint = "advertise the node as host:port, such as 10.0.0.2:4242 (`swarmd --advertise-remote-api`)";
    Err(Fault::invalid(format!("{} is not an address of the form host:port", quote(addr)), hint))
}

fn is_host_and_port(addr: &str) -> bool {
    let Some((host, port)) = addr.rsplit_once(':') else { return false };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bracketed {
        Some(host) => host.parse::<Ipv6Addr>().is_ok(),
        None => !host.contains(':') && name::hostname(host).is_ok(),
    };
    is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn within(bytes: usize, bytes_max: usize, what: &str, hint: &str) -> Verdict {
    if bytes > bytes_max {
        let sentence = format!("the node's {what} has {bytes} bytes; the maximum is {bytes_max}");
        return Err(Fault::new(crate::RejectionKind::Exhausted, sentence, hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::{Annotations, Id as _, NodeId, Resources};

    #[test]
    fn specs_of_nodes_are_judged() {
        let annotated = |name: &str, key: &str| {
            let annotations = Annotations { name: name.into(), labels: [(key.into(), String::new())].into() };
            node_spec(&NodeSpec { annotations: Some(annotations), ..Default::default() })
        };
        assert_eq!(annotated("db-1", "zone"), Ok(()));
        assert!(annotated("a b", "zone").is_err());
        assert!(annotated("", "").is_err());
        assert!(annotated("", &"k".repeat(SPEC_BYTES_MAX)).is_err());
        assert!(node_spec(&NodeSpec { role: 5, ..Default::default() }).is_err());
        assert!(node_spec(&NodeSpec { availability: 5, ..Default::default() }).is_err());
    }

    #[test]
    fn an_address_has_a_host_and_a_port_or_is_one_that_a_manager_saw() {
        let longest = format!("{}:65535", "h".repeat(253));
        for sound in ["10.0.0.2:4242", "db-1.example:1", "[::1]:4242", "10.0.0.2", "::1", &longest] {
            assert_eq!(addr(sound), Ok(()), "{sound}");
        }
        let too_long = format!("{}:1", "h".repeat(254));
        for unsound in
            ["", "db-1", ":4242", "db-1:", "db-1:0", "db-1:65536", "db-1:http", "a b:1", "::1:4242:x", &too_long]
        {
            let fault = addr(unsound).expect_err(unsound);
            assert_eq!(fault.kind, crate::RejectionKind::Invalid);
            assert!(fault.sentence.ends_with("is not an address of the form host:port"), "{}", fault.sentence);
        }
    }

    #[test]
    fn descriptions_are_judged() {
        let good = NodeDescription { hostname: "h".into(), ..Default::default() };
        assert_eq!(node_description(&good), Ok(()));
        assert!(node_description(&NodeDescription::default()).is_err());
        // The id of another node, and what a terminal would interpret.
        let id = NodeId::from_bits(7).to_string();
        for hostname in [id.as_str(), "a b", "a\u{1b}[2J", "a\u{202e}b", "a\nb"] {
            let hostname = hostname.to_owned();
            assert!(node_description(&NodeDescription { hostname, ..good.clone() }).is_err());
        }
        let version = "v".repeat(DESCRIPTION_BYTES_MAX);
        assert!(node_description(&NodeDescription { version, ..good.clone() }).is_err());
        let resources = Some(Resources { memory_bytes: u64::MAX, ..Default::default() });
        assert!(node_description(&NodeDescription { resources, ..good }).is_err());
    }
}
