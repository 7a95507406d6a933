//! Published ports in Docker's form: `8080:80/tcp`, or `published=8080,target=80,protocol=tcp,mode=host`.

use events::PortConfig;

use super::{Invalid, port};

const HINT: &str = "write PUBLISHED:PORT[/tcp|udp|sctp], such as 8080:80, or published=8080,target=80";

/// Reads a port. Its name is derived from its number and protocol.
///
/// # Errors
/// When it has neither form, contains a range or an address of the node, uses the routing mesh, or a port is not between 1 and
/// 65535.
pub fn parse(text: &str) -> Result<PortConfig, Invalid> {
    if text.contains('=') { parse_long(text) } else { parse_short(text) }
}

/// Reads the port of a container, such as `80` or `53/udp`.
///
/// # Errors
/// When it is malformed.
pub fn parse_target(text: &str) -> Result<PortConfig, Invalid> {
    let (target, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    build(text, "", target, protocol)
}

fn parse_short(text: &str) -> Result<PortConfig, Invalid> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (published, target) = ports.rsplit_once(':').unwrap_or(("", ports));
    build(text, published, target, protocol)
}

fn parse_long(text: &str) -> Result<PortConfig, Invalid> {
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("published", value)) => published = value,
            Some(("target", value)) => target = value,
            Some(("protocol", value)) => protocol = value,
            Some(("mode", "host")) => {}
            Some(("mode", "ingress")) => {
                let sentence = format!("port \"{text}\" asks for the routing mesh, which is not in this version");
                return Err(Invalid::new(sentence, "use mode=host: the port listens on each node that runs a task"));
            }
            Some(_) | None => {
                return Err(Invalid::new(format!("port \"{text}\" has the unknown part \"{part}\""), HINT));
            }
        }
    }
    build(text, published, target, protocol)
}

fn build(text: &str, published: &str, target: &str, protocol: &str) -> Result<PortConfig, Invalid> {
    if published.contains(':') {
        let sentence = format!("port \"{text}\" names an address of the node");
        return Err(Invalid::new(sentence, "ports listen on all addresses of the node: write PUBLISHED:PORT"));
    }
    if published.contains('-') || target.contains('-') {
        let sentence = format!("port \"{text}\" is a range");
        return Err(Invalid::new(sentence, "publish each port by itself"));
    }
    let published = if published.is_empty() { String::new() } else { format!(":{published}") };
    let why = |_| Invalid::new(format!("\"{text}\" is not a port to publish"), HINT);
    port::parse(&format!("{target}-{protocol}:{target}/{protocol}{published}")).map_err(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_of_dockers_forms_are_read() {
        let table = [
            ("8080:80", "80-tcp:80/tcp:8080"),
            ("80", "80-tcp:80/tcp"),
            ("53:53/udp", "53-udp:53/udp:53"),
            ("published=8080,target=80", "80-tcp:80/tcp:8080"),
            ("target=53,protocol=udp,mode=host", "53-udp:53/udp"),
        ];
        for (text, shown) in table {
            assert_eq!(parse(text).map(|port| port::show(&port)), Ok(shown.to_owned()), "{text}");
        }
        assert_eq!(parse_target("53/udp").map(|port| port::show(&port)), Ok("53-udp:53/udp".to_owned()));
    }

    #[test]
    fn what_docker_can_and_this_cannot_is_refused_with_a_reason() {
        for (text, why) in [
            ("127.0.0.1:8080:80", "an address"),
            ("8080-8090:80", "a range"),
            ("published=80,target=80,mode=ingress", "routing mesh"),
            ("published=80,colour=red", "unknown part"),
            ("http:80:8080", "an address"),
            ("x:80", "not a port"),
            ("8080:0", "not a port"),
            ("", "not a port"),
            ("80/icmp", "not a port"),
        ] {
            let refused = parse(text).expect_err(text);
            assert!(refused.sentence.contains(why), "{text}: {refused}");
        }
    }
}
