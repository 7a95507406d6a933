//! Names and labels.

use std::collections::BTreeMap;

use events::{NodeId, OperatorId, ServiceId};

use super::{Fault, Verdict};
use crate::text::quote;

/// Maximum length of a service name, so that it is one label of a DNS name.
const SERVICE_NAME_MAX: usize = 63;
/// Maximum length of a host name, as in DNS.
const HOSTNAME_MAX: usize = 253;

/// A service's name: letters, digits, `-` and `_`, with a letter or digit at both ends.
pub(super) fn service(name: &str) -> Verdict {
    let hint = "use up to 63 letters, digits, - and _, with a letter or digit at both ends";
    if name.is_empty() {
        return Err(Fault::invalid("the service has no name", hint));
    }
    if name.len() > SERVICE_NAME_MAX {
        return Err(Fault::invalid(format!("the name {} has {} characters", quote(name), name.len()), hint));
    }
    if !is_service_name(name) {
        return Err(Fault::invalid(format!("{} is not a name for a service", quote(name)), hint));
    }
    // A complete id takes precedence over every name, so a service with such a name could not be found by it.
    if name.to_ascii_lowercase().parse::<ServiceId>().is_ok() {
        let hint = "choose another name: this one could be the id of a service";
        return Err(Fault::invalid(format!("the name {} has the form of an id", quote(name)), hint));
    }
    Ok(())
}

/// Whether a text is a valid service name.
pub(crate) fn is_service_name(name: &str) -> bool {
    name.len() <= SERVICE_NAME_MAX && is_word(name, "-_")
}

/// The display name that an operator gives a node; may be empty.
pub(super) fn node(name: &str) -> Verdict {
    if name.is_empty() || (name.len() <= HOSTNAME_MAX && is_word(name, "-_.")) {
        return Ok(());
    }
    let hint = "use up to 253 letters, digits, - . and _, with a letter or digit at both ends";
    Err(Fault::invalid(format!("{} is not a name for a node", quote(name)), hint))
}

/// An operator's name.
pub(crate) fn operator(name: &str) -> Verdict {
    let hint = "use up to 63 letters, digits, - _ and ., with a letter or digit at both ends";
    if name.is_empty() || name.len() > SERVICE_NAME_MAX || !is_word(name, "-_.") {
        return Err(Fault::invalid(format!("{} is not a name for an operator", quote(name)), hint));
    }
    if name.to_ascii_lowercase().parse::<OperatorId>().is_ok() {
        let hint = "choose another name: this one could be the id of an operator";
        return Err(Fault::invalid(format!("the name {} has the form of an id", quote(name)), hint));
    }
    Ok(())
}

/// The name of a tag. It starts with a letter: indexes, times and durations start with a digit.
pub(crate) fn tag(name: &str) -> Verdict {
    let is_time = ["now", "today", "yesterday"].contains(&name.to_ascii_lowercase().as_str());
    let begins_well = name.starts_with(|first: char| first.is_ascii_alphabetic());
    if begins_well && !is_time && name.len() <= SERVICE_NAME_MAX && is_word(name, "-_.") {
        return Ok(());
    }
    let hint =
        "use up to 63 letters, digits, - _ and ., with a letter at the beginning, and a letter or digit at the end";
    Err(Fault::invalid(format!("{} is not a name for a point of history", quote(name)), hint))
}

/// The host name that a node reports. Real host names exceed DNS's rules in length and with `_`; a name that a person or a shell
/// would not read as a host name is rejected, and so is the id of another node.
pub(crate) fn hostname(name: &str) -> Verdict {
    let hint = "give the node a host name of up to 253 letters, digits, - . and _ (`swarmd --hostname`)";
    if name.is_empty() {
        return Err(Fault::invalid("the node has no host name", hint));
    }
    if name.len() > HOSTNAME_MAX || !is_word(name, "-_.") {
        return Err(Fault::invalid(format!("{} is not a host name", quote(name)), hint));
    }
    if name.to_ascii_lowercase().parse::<NodeId>().is_ok() {
        let hint = "give the node another host name (`swarmd --hostname`): this one could be the id of a node";
        return Err(Fault::invalid(format!("the host name {} has the form of an id", quote(name)), hint));
    }
    Ok(())
}

/// Labels: a key is printable, has no space and no `=`, because it is written `key=value`.
pub(super) fn labels(labels: &BTreeMap<String, String>) -> Verdict {
    let unfit = |key: &str| key.is_empty() || key.chars().any(|c| c.is_whitespace() || c.is_control() || c == '=');
    match labels.keys().find(|key| unfit(key)) {
        Some(key) => {
            let hint = "write labels as key=value, with a key that has neither spaces nor =";
            Err(Fault::invalid(format!("{} is not the key of a label", quote(key)), hint))
        }
        None => Ok(()),
    }
}

/// Letters, digits and, between them, the given punctuation.
pub(super) fn is_word(text: &str, punctuation: &str) -> bool {
    let ends = [text.bytes().next(), text.bytes().next_back()];
    ends.iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || punctuation.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_services_are_swarmkits() {
        let longest = "a".repeat(SERVICE_NAME_MAX);
        for name in ["a", "web", "Web-1", "a_b--c__d", "0", longest.as_str()] {
            assert_eq!(service(name), Ok(()), "{name}");
        }
        let too_long = "a".repeat(SERVICE_NAME_MAX + 1);
        for name in ["", "-a", "a-", "_a", "a.b", "a b", "a/b", "é", too_long.as_str()] {
            assert!(service(name).is_err(), "{name}");
        }
    }

    #[test]
    fn no_name_of_a_service_reads_as_an_id() {
        use events::Id;

        let id = ServiceId::from_bits(u128::MAX).to_string();
        for name in [id.clone(), id.to_uppercase()] {
            let fault = service(&name).expect_err(&name);
            assert!(fault.sentence.contains("has the form of an id"), "{}", fault.sentence);
        }
        assert_eq!(service(&id[..20]), Ok(()));
    }

    #[test]
    fn nodes_are_named_like_hosts() {
        for name in ["", "node-1", "node-1.example.org"] {
            assert_eq!(node(name), Ok(()), "{name}");
        }
        for name in [".a", "a b", "a\n"] {
            assert!(node(name).is_err(), "{name}");
        }
        for name in ["my_host.local", "1", "a--b"] {
            assert_eq!(hostname(name), Ok(()), "{name}");
        }
        let bad = ["", "a b", "a\tb", "-a", "a.", "a\u{202e}b", "a\u{200b}", "a;b", "$(x)", "é", "\u{1b}[2J"];
        for name in bad.into_iter().chain(["h".repeat(HOSTNAME_MAX + 1).as_str()]) {
            assert!(hostname(name).is_err(), "{name}");
        }
    }

    #[test]
    fn no_host_name_reads_as_an_id() {
        for name in ["1a2b3c4d5e6f7a8b9c0d1e2f3", "1A2B3C4D5E6F7A8B9C0D1E2F3", &NodeId::MAX.to_string()] {
            let fault = hostname(name).expect_err(name);
            assert!(fault.sentence.ends_with("has the form of an id"), "{}", fault.sentence);
        }
        // Too short, too long, too large for an id, or with other characters: a container's default host name has 12.
        let others =
            ["3f2a9b1c4d5e", "1a2b3c4d5e6f7a8b9c0d1e2f34", "zzzzzzzzzzzzzzzzzzzzzzzzz", "1a2b3c4d5e6f-a8b9c0d1e2f3"];
        for name in others {
            assert_eq!(hostname(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn keys_of_labels_can_be_written() {
        let label = |key: &str| labels(&BTreeMap::from([(key.to_owned(), "any = value".to_owned())]));
        for key in ["a", "com.docker.stack.namespace", "traefik.http.routers.a.tls.domains[0].main"] {
            assert_eq!(label(key), Ok(()), "{key}");
        }
        for key in ["", "a b", "a=b", "a\n"] {
            assert!(label(key).is_err(), "{key}");
        }
    }
}
