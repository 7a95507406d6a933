//! Published ports in SwarmKit's form: `name:port[/protocol][:published]`, always on the node that runs the task.

use events::{PortConfig, PortProtocol, PublishMode};

use super::Invalid;

const HINT: &str = "write NAME:PORT[/tcp|udp|sctp][:PUBLISHED], such as http:80/tcp:8080";

/// Reads a port. Without a published port the engine picks one.
///
/// # Errors
/// When the name is empty, a port is not between 1 and 65535, or the protocol is unknown.
pub fn parse(text: &str) -> Result<PortConfig, Invalid> {
    let error = |why: String| Invalid::new(format!("port \"{text}\" {why}"), HINT);
    let mut parts = text.splitn(3, ':');
    let name = parts.next().filter(|name| !name.is_empty()).ok_or_else(|| error("has no name".to_owned()))?;
    if text.contains(':') && name.chars().all(|c| c.is_ascii_digit()) {
        let sentence = format!("port \"{text}\" begins with a number where its name belongs");
        return Err(Invalid::new(sentence, "for Docker's 8080:80 write --ports http:80:8080, or --publish 8080:80"));
    }
    let target = parts.next().ok_or_else(|| error("has no port after its name".to_owned()))?;
    let (target, protocol) = target.split_once('/').unwrap_or((target, "tcp"));
    let protocol = match protocol {
        "tcp" => PortProtocol::Tcp,
        "udp" => PortProtocol::Udp,
        "sctp" => PortProtocol::Sctp,
        other => return Err(error(format!("names the unknown protocol \"{other}\""))),
    };
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).map(u32::from);
    let outside = |text: &str| error(format!("has \"{text}\", which is not between 1 and 65535"));
    Ok(PortConfig {
        name: name.to_owned(),
        protocol: protocol.into(),
        target_port: number(target).ok_or_else(|| outside(target))?,
        published_port: parts.next().map_or(Ok(0), |published| number(published).ok_or_else(|| outside(published)))?,
        publish_mode: PublishMode::Host.into(),
    })
}

/// The name of a port's protocol.
pub fn protocol(port: &PortConfig) -> String {
    port.protocol().as_str_name().trim_start_matches("PORT_PROTOCOL_").to_ascii_lowercase()
}

/// Writes a port in the same form.
pub fn show(port: &PortConfig) -> String {
    let protocol = protocol(port);
    let published = if port.published_port == 0 { String::new() } else { format!(":{}", port.published_port) };
    format!("{}:{}/{protocol}{published}", port.name, port.target_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_and_published_port_may_be_left_out() {
        let table = [
            ("http:80", "http:80/tcp"),
            ("http:80/tcp:8080", "http:80/tcp:8080"),
            ("dns:53/udp", "dns:53/udp"),
            ("x:9:9", "x:9/tcp:9"),
            ("x:9/sctp", "x:9/sctp"),
        ];
        for (text, shown) in table {
            assert_eq!(parse(text).map(|port| show(&port)), Ok(shown.to_owned()), "{text}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "8080:80",
            "8080:80/udp",
            "80",
            "http:",
            ":80",
            "http:0",
            "http:65536",
            "http:80/icmp",
            "http:80:x",
            "http:80:1:2",
            "http:-1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
