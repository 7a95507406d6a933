//! Entries of a container's hosts file: `name:address`, as in Docker's tools.

use std::net::IpAddr;

use super::Invalid;

/// Reads `name:address` and returns the line of hosts(5).
///
/// # Errors
/// When the name is empty or the address is not an IP address.
pub fn parse(text: &str) -> Result<String, Invalid> {
    let parts = text.split_once(':').filter(|(name, _)| !name.is_empty() && !name.contains(char::is_whitespace));
    let address = parts.and_then(|(name, address)| Some((name, address.parse::<IpAddr>().ok()?)));
    match address {
        Some((name, address)) => Ok(format!("{address} {name}")),
        None => Err(Invalid::new(
            format!("host \"{text}\" is not a name and an address"),
            "write NAME:ADDRESS, such as db:10.0.0.7",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_comes_first_in_the_file() {
        assert_eq!(parse("db:10.0.0.7"), Ok("10.0.0.7 db".to_owned()));
        assert_eq!(parse("db:::1"), Ok("::1 db".to_owned()));
        for text in ["", "db", "db:", ":10.0.0.7", "db:host", "a b:10.0.0.7"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
