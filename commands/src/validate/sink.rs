//! Sinks: names, destinations and filters.

use events::{SinkSpec, catalogue};

use super::config::name;
use super::{Fault, Verdict};
use crate::text::quote;

/// Maximum length of an address.
const WEBHOOK_BYTES_MAX: usize = 2_048;
/// Maximum length of a file name.
const FILE_BYTES_MAX: usize = 200;
/// Maximum number of entries of each filter, and maximum length of an entry.
const FILTER_MAX: usize = 100;
const FILTER_BYTES_MAX: usize = 200;
/// Length of the key that signs requests.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=1_024;

/// Checks a sink.
pub(crate) fn sink(spec: &SinkSpec) -> Verdict {
    name("sink", &spec.name)?;
    match (spec.webhook.as_str(), spec.file.as_str()) {
        (webhook, "") if !webhook.is_empty() => address(webhook)?,
        ("", file) if !file.is_empty() => file_name(file)?,
        _ => return Err(Fault::invalid("a sink has one target", "give either --webhook URL or --file NAME")),
    }
    let one = |entry: &String| Some(entry.clone()).filter(|entry| !entry.is_empty()).into_iter().collect::<Vec<_>>();
    let (object, node) = (one(&spec.object), one(&spec.node));
    for (flag, entries) in [
        ("--kind", &spec.kinds),
        ("--actor", &spec.actors),
        ("--command", &spec.commands),
        ("--object", &object),
        ("--node", &node),
    ] {
        let is_long = |entry: &&String| entry.is_empty() || entry.len() > FILTER_BYTES_MAX;
        if entries.len() > FILTER_MAX || entries.iter().any(|entry| is_long(&entry)) {
            let hint = format!("give up to {FILTER_MAX} values of up to {FILTER_BYTES_MAX} bytes");
            return Err(Fault::invalid(format!("{flag} is out of bounds"), hint));
        }
    }
    if let Some(unknown) = spec.kinds.iter().find(|kind| !catalogue::NAMES.contains(&kind.as_str())) {
        return Err(Fault::invalid(
            format!("there is no kind of event {}", quote(unknown)),
            "`swarmctl events --kind` completes the existing kinds",
        ));
    }
    match spec.commands.iter().find(|command| !catalogue::COMMANDS.contains(&command.as_str())) {
        Some(unknown) => Err(Fault::invalid(
            format!("there is no command {}", quote(unknown)),
            format!("commands are {}", catalogue::COMMANDS.join(", ")),
        )),
        None => Ok(()),
    }
}

/// Checks the key that signs requests.
pub(crate) fn sink_key(key: &[u8]) -> Verdict {
    if KEY_BYTES.contains(&key.len()) {
        return Ok(());
    }
    let sentence = format!("the key has {} bytes", key.len());
    Err(Fault::invalid(sentence, format!("give {} to {} bytes", KEY_BYTES.start(), KEY_BYTES.end())))
}

/// An address for requests. Credentials would stay in history permanently, so it must not contain any.
fn address(text: &str) -> Verdict {
    let refuse = |sentence: &str, hint: &str| Err(Fault::invalid(sentence.to_owned(), hint.to_owned()));
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let authority = rest.and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains(['#', '"', '<', '>', '\\', '`']);
    if authority.is_empty() || !is_plain || text.len() > WEBHOOK_BYTES_MAX {
        return refuse(&format!("{} is not an address of a webhook", quote(text)), "give https://HOST[:PORT][/PATH]");
    }
    if authority.contains('@') {
        let hint = "omit the part before the @, and sign the requests with --secret-file";
        return refuse("the address has a password in it, which history would keep permanently", hint);
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        Some(_) | None => (authority, None),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    if host.is_empty() || port.is_some_and(|port| !is_port(port)) {
        return refuse(&format!("{} names no host and port", quote(authority)), "give https://HOST[:PORT][/PATH]");
    }
    Ok(())
}

/// A bare name: each manager's own flag determines the directory.
fn file_name(text: &str) -> Verdict {
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_word && !text.starts_with('.') && text.len() <= FILE_BYTES_MAX {
        return Ok(());
    }
    let hint =
        "give a name of letters, digits, - _ and . without a path: the file is in the directory of `swarmd --sink-dir`";
    Err(Fault::invalid(format!("{} is not a name for a file of a sink", quote(text)), hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_address_without_secrets_or_a_name_without_a_path() {
        let long = format!("https://a/{}", "x".repeat(WEBHOOK_BYTES_MAX));
        for (webhook, file, sound) in [
            ("https://siem.example/in?x=1", "", true),
            ("http://127.0.0.1:8080", "", true),
            ("https://[::1]:8443/in", "", true),
            ("https://[::1]", "", true),
            ("", "events.jsonl", true),
            ("", "", false),
            ("https://a", "b", false),
            ("ftp://a", "", false),
            ("https://", "", false),
            ("https:///in", "", false),
            ("https://:80", "", false),
            ("https://a:0", "", false),
            ("https://a:99999", "", false),
            ("https://a b", "", false),
            ("https://a#b", "", false),
            ("https://a\r\nHost: b", "", false),
            ("https://user:password@a", "", false),
            (&long, "", false),
            ("", "/etc/passwd", false),
            ("", "../a", false),
            ("", "..", false),
            ("", ".hidden", false),
            ("", "a/b", false),
            ("", "a\0b", false),
            ("", &"a".repeat(FILE_BYTES_MAX + 1), false),
        ] {
            let spec =
                SinkSpec { name: "siem".into(), webhook: webhook.into(), file: file.into(), ..SinkSpec::default() };
            assert_eq!(sink(&spec).is_ok(), sound, "{webhook} {file}");
        }
    }

    #[test]
    fn filters_and_keys_are_bounded() {
        let spec = |kinds: Vec<String>, actors: Vec<String>| SinkSpec {
            name: "siem".into(),
            file: "a".into(),
            kinds,
            actors,
            ..SinkSpec::default()
        };
        for (kinds, actors, sound) in [
            (vec!["service_created".to_owned()], vec!["ada".to_owned()], true),
            (vec!["service_made".to_owned()], Vec::new(), false),
            (Vec::new(), vec![String::new()], false),
            (Vec::new(), vec!["a".repeat(FILTER_BYTES_MAX + 1)], false),
            (Vec::new(), vec!["a".to_owned(); FILTER_MAX + 1], false),
        ] {
            assert_eq!(sink(&spec(kinds.clone(), actors.clone())).is_ok(), sound, "{kinds:?} {actors:?}");
        }
        for (bytes, sound) in [(0, false), (15, false), (16, true), (1_024, true), (1_025, false)] {
            assert_eq!(sink_key(&vec![0; bytes]).is_ok(), sound, "{bytes}");
        }
    }
}
