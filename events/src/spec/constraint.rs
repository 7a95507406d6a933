//! Placement constraints: `key==value` and `key!=value` compare whole words, `key=~expression` searches for a regular expression,
//! all ignoring case; `<`, `<=`, `>` and `>=` compare labels that are numbers or versions.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use super::pattern::Pattern;
use super::version::Version;
use crate::{NodeId, Role};

/// The facts about a node that a constraint can refer to.
#[derive(Debug, Clone, Copy)]
pub struct NodeFacts<'a> {
    /// The node's id.
    pub id: NodeId,
    /// The node's own host name.
    pub hostname: &'a str,
    /// The address it connects from; empty if it is not known.
    pub addr: &'a str,
    /// The role in its certificate.
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
    test: Test,
}

/// The condition on the value of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Equals(String),
    Differs(String),
    Matches(Pattern),
    Compares(Order, Version),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// All operators; each comes before those that are a prefix of it.
const OPERATORS: [&str; 7] = ["==", "!=", "=~", "<=", ">=", "<", ">"];

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

/// The keys of constraints, for hints.
pub const KEYS: &str = "node.id, node.hostname, node.ip, node.role, node.platform.os, node.platform.arch, \
                        node.labels.<key>, engine.labels.<key>";

/// The operators of constraints, for hints.
pub const OPERATOR_HINT: &str = "KEY==VALUE, KEY!=VALUE, KEY=~REGEX, or for labels with numbers or versions KEY<VALUE, KEY<=VALUE, \
                                 KEY>VALUE, KEY>=VALUE";

impl Constraint {
    /// Parses a key, an operator and a value.
    ///
    /// # Errors
    /// When the operator is missing, the key unknown or the value empty or malformed.
    pub fn parse(text: &str) -> Result<Self, ConstraintError> {
        let error = |why| ConstraintError { text: text.to_owned(), why };
        let (key, operator, value) = split(text).ok_or_else(|| error("has no operator"))?;
        let key = Key::parse(key).ok_or_else(|| error("names a key that does not exist"))?;
        let test = key.test(operator, value).map_err(error)?;
        Ok(Self { key, test })
    }

    /// Whether the node satisfies the constraint. An absent label satisfies `!=` alone.
    pub fn matches(&self, node: &NodeFacts<'_>) -> bool {
        match (&self.test, self.key.value(node)) {
            (Test::Equals(wanted), value) => value.is_some_and(|value| self.key.is_same(&value, wanted)),
            (Test::Differs(unwanted), value) => !value.is_some_and(|value| self.key.is_same(&value, unwanted)),
            (Test::Matches(pattern), value) => value.is_some_and(|value| pattern.is_in(&value)),
            (Test::Compares(order, bound), value) => {
                let version = value.and_then(|value| Version::parse(&value));
                version.is_some_and(|version| order.holds(&version, bound))
            }
        }
    }
}

/// Splits a text at its first operator: key, operator, value.
fn split(text: &str) -> Option<(&str, &'static str, &str)> {
    let start = text.find(['=', '!', '<', '>'])?;
    let (key, rest) = text.split_at(start);
    let operator = OPERATORS.into_iter().find(|operator| rest.starts_with(operator))?;
    Some((key.trim(), operator, rest[operator.len()..].trim()))
}

impl Order {
    fn holds(self, value: &Version, bound: &Version) -> bool {
        match self {
            Order::Less => value < bound,
            Order::AtMost => value <= bound,
            Order::Greater => value > bound,
            Order::AtLeast => value >= bound,
        }
    }
}

impl Key {
    /// The condition for this operator and value.
    fn test(&self, operator: &str, value: &str) -> Result<Test, &'static str> {
        let is_label = matches!(self, Key::NodeLabel(_) | Key::EngineLabel(_));
        let order = match operator {
            "==" => return self.word(value).map(Test::Equals),
            "!=" => return self.word(value).map(Test::Differs),
            "=~" if *self == Key::Ip => {
                return Err("uses =~ with node.ip, which is compared with addresses and subnets");
            }
            "=~" => return Pattern::parse(value).map(Test::Matches),
            "<" => Order::Less,
            "<=" => Order::AtMost,
            ">" => Order::Greater,
            _ => Order::AtLeast,
        };
        if !is_label {
            return Err("orders the values of a key that is no label");
        }
        let version = Version::parse(value).ok_or("compares with something that is neither a number nor a version")?;
        Ok(Test::Compares(order, version))
    }

    /// A value that is compared as a whole.
    fn word(&self, value: &str) -> Result<String, &'static str> {
        if value.is_empty() || !value.chars().all(is_value_character) {
            return Err("has an empty value or one with characters that are not allowed");
        }
        if *self == Key::Ip && value.parse::<IpAddr>().is_err() && parse_subnet(value).is_none() {
            return Err("compares node.ip with something that is neither an address nor a subnet");
        }
        Ok(value.to_owned())
    }

    /// The node's value for this key; `None` if it has no such label.
    fn value<'n>(&self, node: &NodeFacts<'n>) -> Option<Cow<'n, str>> {
        let label = |labels: Option<&'n BTreeMap<String, String>>, key: &str| {
            labels.and_then(|labels| labels.get(key)).map(String::as_str)
        };
        let value = match self {
            Key::Id => return Some(Cow::Owned(node.id.to_string())),
            Key::Hostname => node.hostname,
            Key::Ip => node.addr,
            Key::Role => match node.role {
                Role::Worker => "worker",
                Role::Manager => "manager",
            },
            Key::Os => node.os,
            Key::Architecture => node.architecture,
            Key::NodeLabel(key) => label(node.node_labels, key)?,
            Key::EngineLabel(key) => label(node.engine_labels, key)?,
        };
        Some(Cow::Borrowed(value))
    }

    /// Whether a node's value equals that of a constraint.
    fn is_same(&self, value: &str, named: &str) -> bool {
        if *self != Key::Ip {
            return value.eq_ignore_ascii_case(named);
        }
        let Ok(addr) = value.parse::<IpAddr>().map(|addr| addr.to_canonical()) else { return false };
        match (named.parse::<IpAddr>(), parse_subnet(named)) {
            (Ok(single), _) => single.to_canonical() == addr,
            (Err(_), Some((base, bits))) => prefix(base, bits) == prefix(addr, bits),
            (Err(_), None) => false,
        }
    }

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

/// The characters that SwarmKit accepts in a value; glob characters have no special meaning.
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

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn matches(text: &str) -> bool {
        matches_at("10.1.2.3", text)
    }

    fn matches_at(addr: &str, text: &str) -> bool {
        let node_labels = labels(&[("Zone", "a"), ("cores", "16")]);
        let engine_labels = labels(&[("storage", "SSD"), ("kernel", "5.15.0-91-generic")]);
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
            ("node.hostname=~^host-[0-9]+$", true),
            ("node.hostname =~ ost", true),
            ("node.hostname=~(?-i)^host", false),
            ("node.role=~^(worker|manager)$", true),
            ("node.labels.Zone=~[b-z]", false),
            ("node.labels.rack=~.*", false),
            ("node.labels.cores>=8", true),
            ("node.labels.cores > 16", false),
            ("node.labels.cores<=16", true),
            ("node.labels.cores<9", false),
            ("engine.labels.kernel>=5.4", true),
            ("engine.labels.kernel<5.15.0-92", true),
            ("node.labels.Zone>1", false),
            ("node.labels.rack<1", false),
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
            // A dual-stack listener sees IPv4 clients like this.
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
            "node.ip=~^10",
            "node.ip>10.0.0.1",
            "node.hostname<5",
            "node.labels.cores>many",
            "node.labels.cores>",
            "node.labels.zone=~",
            "node.labels.zone=~(",
            "node.labels.zone=~(a{1000}){1000}",
            "node.labels.zone!a",
        ] {
            assert!(Constraint::parse(text).is_err(), "{text}");
        }
    }
}
