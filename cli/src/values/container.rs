//! Simple values of containers: host names, addresses of name servers, capabilities.

use std::net::IpAddr;

use events::spec::{CAPABILITY_HINT, CONTAINER_HOSTNAME_HINT, is_capability, is_container_hostname};

use super::Invalid;

/// Checks a host name, which may be a template; an empty one removes the setting.
///
/// # Errors
/// When it is not a valid host name.
pub fn hostname(text: &str) -> Result<String, Invalid> {
    // The manager checks templates, and nodes check the result.
    if text.is_empty() || text.contains("{{") || is_container_hostname(text) {
        return Ok(text.to_owned());
    }
    Err(Invalid::new(format!("\"{text}\" is not a host name"), CONTAINER_HOSTNAME_HINT))
}

/// Reads the address of a name server.
///
/// # Errors
/// When it is not an IP address.
pub fn nameserver(text: &str) -> Result<IpAddr, Invalid> {
    let hint = "give the name server by its address, such as 10.0.0.53 or fd00::53";
    text.parse().map_err(|_| Invalid::new(format!("\"{text}\" is not an IP address"), hint))
}

/// Checks the name of a capability and returns it unchanged.
///
/// # Errors
/// When the capability does not exist.
pub fn capability(text: &str) -> Result<String, Invalid> {
    if is_capability(text) {
        return Ok(text.to_owned());
    }
    Err(Invalid::new(format!("there is no capability \"{text}\""), CAPABILITY_HINT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_checked_and_sent_as_written() {
        assert_eq!(hostname("{{.Node.Hostname}}"), Ok("{{.Node.Hostname}}".to_owned()));
        assert_eq!(hostname(""), Ok(String::new()));
        assert!(hostname("bad host name!").is_err());
        assert_eq!(nameserver("fd00::53").map(|address| address.to_string()), Ok("fd00::53".to_owned()));
        assert!(nameserver("dns.local").is_err());
        assert_eq!(capability("cap_net_admin"), Ok("cap_net_admin".to_owned()));
        assert!(capability("NOT_A_CAP").is_err());
    }
}
