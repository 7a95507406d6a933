//! Placement constraints: `key==value` and `key!=value`, compared as whole words without regard to case.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::{NodeId, Role};

/// What a constraint can ask about a node.
#[derive(Debug, Clone, Copy)]
pub struct NodeFacts<'a> {
    /// The node's id.
    pub id: NodeId,
    /// What the node calls itself.
    pub hostname: &'a str,
    /// The address it connects from; empty if it is not known.
    pub addr: &'a str,
    /// The role that its certificate gives it.
    pub role: Role,
    /// Operating system.
    pub os: &'a str,
    /// Processor architecture.
    pub architecture: &'a str,
    /// Labels that operators gave the node.
    pub node_labels: Option<&'a BTreeMap<String, String>>,
    /// Labels of the node's engine.
    pub engine_labels: Option<&'a BTreeMap<String, String>>,
}

/// One parsed constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    key: Key,
    equal: bool,
    value: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Id,
    Hostname,
    Ip,
    Role,
    Os,
    Architecture,
    NodeLabel(String),
    EngineLabel(String),
}

/// Why a text is not a constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConstraintError {
    text: String,
    why: &'static str,
}

impl fmt::Display for ConstraintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "constraint \"{}\" {}", self.text, self.why)
    }
}

impl std::error::Error for ConstraintError {}

/// The keys a constraint may name, for hints.
pub const KEYS: &str = "node.id, node.hostname, node.ip, node.role, node.platform.os, node.platform.arch, \
                        node.labels.<key>, engine.labels.<key>";

impl Constraint {
    /// Reads `key==value` or `key!=value`.
    ///
    /// # Errors
    /// When the operator is missing, the key unknown or the value empty or malformed.
    pub fn parse(text: &str) -> Result<Self, ConstraintError> {
        let error = |why| ConstraintError { text: text.to_owned(), why };
        let (key, equal, value) = match (text.split_once("=="), text.split_once("!=")) {
            (Some((key, value)), _) => (key.trim(), true, value.trim()),
            (None, Some((key, value))) => (key.trim(), false, value.trim()),
            (None, None) => return Err(error("has neither == nor !=")),
        };
        if value.is_empty() || !value.chars().all(is_value_character) {
            return Err(error("has an empty value or one with characters that are not allowed"));
        }
        let key = Key::parse(key).ok_or_else(|| error("names a key that does not exist"))?;
        if key == Key::Ip && value.parse::<IpAddr>().is_err() && parse_subnet(value).is_none() {
            return Err(error("compares node.ip with something that is neither an address nor a subnet"));
        }
        Ok(Self { key, equal, value: value.to_owned() })
    }

    /// Whether the node satisfies the constraint. An absent label counts as empty, so `!=` matches it.
    pub fn matches(&self, node: &NodeFacts<'_>) -> bool {
        let label = |labels: Option<&BTreeMap<String, String>>, key| {
            labels.and_then(|labels| labels.get(key)).is_some_and(|value| value.eq_ignore_ascii_case(&self.value))
        };
        let same = match &self.key {
            Key::Id => node.id.to_string().eq_ignore_ascii_case(&self.value),
            Key::Hostname => node.hostname.eq_ignore_ascii_case(&self.value),
            Key::Ip => node.addr.parse().is_ok_and(|addr: IpAddr| self.covers(addr.to_canonical())),
            Key::Role => match node.role {
                Role::Worker => "worker".eq_ignore_ascii_case(&self.value),
                Role::Manager => "manager".eq_ignore_ascii_case(&self.value),
            },
            Key::Os => node.os.eq_ignore_ascii_case(&self.value),
            Key::Architecture => node.architecture.eq_ignore_ascii_case(&self.value),
            Key::NodeLabel(key) => label(node.node_labels, key),
            Key::EngineLabel(key) => label(node.engine_labels, key),
        };
        same == self.equal
    }

    fn covers(&self, addr: IpAddr) -> bool {
        match (self.value.parse::<IpAddr>(), parse_subnet(&self.value)) {
            (Ok(single), _) => single.to_canonical() == addr,
            (Err(_), Some((base, bits))) => prefix(base, bits) == prefix(addr, bits),
            (Err(_), None) => false,
        }
    }
}

impl Key {
    fn parse(key: &str) -> Option<Self> {
        let lower = key.to_ascii_lowercase();
        let label = |prefix: &str| {
            let name = lower.starts_with(prefix).then(|| &key[prefix.len()..]);
            name.filter(|name| !name.is_empty() && name.chars().all(is_key_character)).map(str::to_owned)
        };
        Some(match lower.as_str() {
            "node.id" => Key::Id,
            "node.hostname" => Key::Hostname,
            "node.ip" => Key::Ip,
            "node.role" => Key::Role,
            "node.platform.os" => Key::Os,
            "node.platform.arch" => Key::Architecture,
            _ => match (label("node.labels."), label("engine.labels.")) {
                (Some(name), _) => Key::NodeLabel(name),
                (None, Some(name)) => Key::EngineLabel(name),
                (None, None) => return None,
            },
        })
    }
}

fn is_key_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-_./".contains(character)
}

/// The characters that SwarmKit accepts in a value; those of globs have no special meaning.
fn is_value_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || character.is_ascii_whitespace() || ":-_.*()?+[]\\^$|/".contains(character)
}

fn parse_subnet(text: &str) -> Option<(IpAddr, u32)> {
    let (base, bits) = text.split_once('/')?;
    let (base, bits): (IpAddr, u32) = (base.parse().ok()?, bits.parse().ok()?);
    (bits <= if base.is_ipv4() { 32 } else { 128 }).then_some((base, bits))
}

/// The family and the first `bits` bits of an address.
fn prefix(addr: IpAddr, bits: u32) -> (bool, u128) {
    match addr {
        IpAddr::V4(addr) => (true, u128::from(u32::from(addr).checked_shr(32 - bits.min(32)).unwrap_or(0))),
        IpAddr::V6(addr) => (false, u128::from(addr).checked_shr(128 - bits.min(128)).unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Id;

    fn matches(text: &str) -> bool {
        matches_at("10.1.2.3", text)
    }

    fn matches_at(addr: &str, text: &str) -> bool {
        let node_labels = BTreeMap::from([("Zone".to_owned(), "a".to_owned())]);
        let engine_labels = BTreeMap::from([("storage".to_owned(), "SSD".to_owned())]);
        let node = NodeFacts {
            id: NodeId::from_bits(37),
            hostname: "Host-1",
            addr,
            role: Role::Worker,
            os: "linux",
            architecture: "x86_64",
            node_labels: Some(&node_labels),
            engine_labels: Some(&engine_labels),
        };
        Constraint::parse(text).expect(text).matches(&node)
    }

    #[test]
    fn every_key_compares_whole_values_without_case() {
        let table = [
            ("node.id==0000000000000000000000011", true),
            ("node.id != 0000000000000000000000011", false),
            ("NODE.hostname == host-1", true),
            ("node.hostname==host", false),
            ("node.hostname==host*", false),
            ("node.ip==10.1.2.3", true),
            ("node.ip==10.1.0.0/16", true),
            ("node.ip!=10.1.0.0/16", false),
            ("node.ip==10.2.0.0/16", false),
            ("node.ip==0.0.0.0/0", true),
            ("node.ip==::/0", false),
            ("node.role==Worker", true),
            ("node.role!=manager", true),
            ("node.platform.os==Linux", true),
            ("node.platform.arch==amd64", false),
            ("node.labels.Zone==A", true),
            ("node.labels.zone==a", false),
            ("node.labels.rack!=r1", true),
            ("engine.labels.storage==ssd", true),
            ("Engine.Labels.storage!=ssd", false),
        ];
        for (text, expected) in table {
            assert_eq!(matches(text), expected, "{text}");
        }
    }

    #[test]
    fn addresses_of_both_families_are_compared() {
        let table = [
            ("2001:db8::7", "node.ip==2001:db8::7", true),
            ("2001:db8::7", "node.ip==2001:DB8:0:0::7", true),
            ("2001:db8::7", "node.ip==2001:db8::/32", true),
            ("2001:db8::7", "node.ip!=2001:db8::/32", false),
            ("2001:db8::7", "node.ip==2001:db9::/32", false),
            ("2001:db8::7", "node.ip==::/0", true),
            ("2001:db8::7", "node.ip==0.0.0.0/0", false),
            ("2001:db8::7", "node.ip!=10.1.2.3", true),
            // A listener on both families sees callers of IPv4 like this.
            ("::ffff:10.1.2.3", "node.ip==10.1.2.3", true),
            ("::ffff:10.1.2.3", "node.ip==10.1.0.0/16", true),
            ("10.1.2.3", "node.ip==::ffff:10.1.2.3", true),
            ("", "node.ip==10.1.2.3", false),
            ("", "node.ip!=10.1.2.3", true),
        ];
        for (addr, text, expected) in table {
            assert_eq!(matches_at(addr, text), expected, "{addr} {text}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "node.role",
            "node.role=manager",
            "node.role==",
            "node.rolle==x",
            "node.labels.==x",
            "node.id==a,b",
            "node.ip==10.0.0.0/40",
        ] {
            assert!(Constraint::parse(text).is_err(), "{text}");
        }
    }
}
