//! Parses addresses of operators. Reachability is not checked here: a valid address that does not respond is an outage and is
//! retried, but an invalid one is an error.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Longest host name in DNS, including the trailing dot.
const NAME_MAX: usize = 254;

/// Parses the address of a manager: `host:port`.
///
/// # Errors
/// What is wrong with it, and the expected form.
pub fn parse(text: &str) -> Result<String, String> {
    let parsed = split(text).map(|_| text.to_owned());
    parsed.map_err(|why| format!("{why}; the form is host:port, such as 10.0.0.1:4242 or manager-1:4242"))
}

/// Parses the address that other nodes connect to: `host:port` of one machine.
///
/// # Errors
/// What is wrong with it, and the expected form.
pub fn parse_advertised(text: &str) -> Result<String, String> {
    let addr = parse(text)?;
    let host = text.rsplit_once(':').map_or("", |(host, _)| host.trim_matches(['[', ']']));
    if host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified()) {
        return Err(format!(
            "other nodes cannot reach a node at {host}; give the address at which other nodes reach this one"
        ));
    }
    Ok(addr)
}

/// Parses an address to listen on; port 0 lets the system choose one.
///
/// # Errors
/// The expected form.
pub fn parse_listening(text: &str) -> Result<SocketAddr, String> {
    let form = "the form is IP:PORT, such as 0.0.0.0:4242 or [::]:4242, with a port up to 65535";
    text.parse().map_err(|_| form.to_owned())
}

fn split(text: &str) -> Result<(), &'static str> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err("an IPv6 address with a port must be in brackets, as in [::1]:4242");
    }
    let (host, port) = text.rsplit_once(':').ok_or("it has no port")?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bracketed {
        _ if host.is_empty() => return Err("it has no host"),
        Some(ip) if ip.parse::<Ipv6Addr>().is_err() => return Err("only an IPv6 address can be in brackets"),
        None if !is_name(host) => return Err("its host is neither a name nor an IP address"),
        Some(_) | None => {}
    }
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(1..) if digits => Ok(()),
        Ok(_) | Err(_) => Err("its port is not a number from 1 to 65535"),
    }
}

/// Whether this can be a host name or an IPv4 address; also accepts a trailing dot, and names that no node can have.
fn is_name(host: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    host.len() <= NAME_MAX && host.bytes().all(is_good) && !host.starts_with(['-', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for good in ["10.0.0.1:4242", "manager-1:1", "a_b.example.:65535", "[::1]:4242", "no-such-host.invalid:80"] {
            assert_eq!(parse(good).as_deref(), Ok(good));
        }
        let table = [
            ("nonsense", "no port"),
            ("", "no port"),
            ("not an address", "no port"),
            ("a:", "from 1 to 65535"),
            ("a:0", "from 1 to 65535"),
            ("a:+80", "from 1 to 65535"),
            ("a:70000", "from 1 to 65535"),
            ("a:http", "from 1 to 65535"),
            (":4242", "no host"),
            ("a b:4242", "neither a name nor"),
            ("http://a:4242", "neither a name nor"),
            ("::1", "brackets"),
            ("[a]:4242", "brackets"),
        ];
        for (bad, words) in table {
            let why = parse(bad).expect_err(bad);
            assert!(why.contains(words) && why.contains("the form is host:port"), "{bad}: {why}");
        }
    }

    #[test]
    fn nobody_is_told_to_come_to_every_address() {
        assert!(parse_advertised("10.0.0.1:4242").is_ok());
        for bad in ["0.0.0.0:4242", "[::]:4242"] {
            assert!(parse_advertised(bad).expect_err(bad).starts_with("other nodes cannot reach"));
        }
    }

    #[test]
    fn one_listens_at_numbers() {
        assert_eq!(parse_listening("127.0.0.1:0"), Ok(SocketAddr::from(([127, 0, 0, 1], 0))));
        for bad in ["everywhere", "localhost:4242", "0.0.0.0", "0.0.0.0:70000", ":4242"] {
            assert!(parse_listening(bad).expect_err(bad).contains("IP:PORT"));
        }
    }
}
