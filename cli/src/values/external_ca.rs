//! Servers that sign certificates for the cluster: `protocol=cfssl,url=https://...,cacert=FILE`, as in Docker's tools.

use std::path::PathBuf;

use events::ExternalCa;

use super::Invalid;
use crate::failure::{Failure, Kind};

const HINT: &str =
    "write protocol=cfssl,url=https://HOST[:PORT]/PATH, and cacert=FILE for another root than the present one; or none";

/// One parsed flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExternalCaFlag {
    /// No server.
    None,
    /// A server.
    Server {
        /// Its URL.
        url: String,
        /// The file with the root certificate that it signs for; by default the present root.
        root: Option<PathBuf>,
    },
}

/// Reads the flag, but not yet the file.
///
/// # Errors
/// When a key is missing, unknown or repeated.
pub fn parse(text: &str) -> Result<ExternalCaFlag, Invalid> {
    if text == "none" {
        return Ok(ExternalCaFlag::None);
    }
    let invalid = |what: String| Invalid::new(what, HINT);
    let (mut protocol, mut url, mut root) = (None, None, None);
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| invalid(format!("\"{part}\" has no value")))?;
        let place = match key {
            "protocol" => &mut protocol,
            "url" => &mut url,
            "cacert" => &mut root,
            _ => return Err(invalid(format!("unknown key \"{key}\""))),
        };
        if place.replace(value.to_owned()).is_some() {
            return Err(invalid(format!("\"{key}\" is given twice")));
        }
    }
    if protocol.as_deref() != Some("cfssl") {
        return Err(invalid("the protocol must be cfssl".to_owned()));
    }
    let url = url
        .filter(|url| url.starts_with("https://"))
        .ok_or_else(|| invalid("url must begin with https://".to_owned()))?;
    Ok(ExternalCaFlag::Server { url, root: root.map(PathBuf::from) })
}

impl ExternalCaFlag {
    /// The server, with the root certificate that it signs for; `None` if the flag names none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn server(&self, present_root: &str) -> Result<Option<ExternalCa>, Failure> {
        let Self::Server { url, root } = self else { return Ok(None) };
        let ca_cert_pem = match root {
            None => present_root.to_owned(),
            Some(path) => std::fs::read_to_string(path).map_err(|error| {
                let failure = Failure::new(Kind::Usage, format!("cannot read {}: {error}", path.display()));
                failure.hint("give the file with the root certificate as cacert")
            })?,
        };
        Ok(Some(ExternalCa { url: url.clone(), ca_cert_pem }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_as_in_docker() {
        let url = "https://ca:8888/api/v1/cfssl/sign";
        let server = |root: Option<&str>| ExternalCaFlag::Server { url: url.to_owned(), root: root.map(PathBuf::from) };
        assert_eq!(parse("none"), Ok(ExternalCaFlag::None));
        assert_eq!(parse(&format!("protocol=cfssl,url={url}")), Ok(server(None)));
        assert_eq!(parse(&format!("cacert=/root.pem,protocol=cfssl,url={url}")), Ok(server(Some("/root.pem"))));
        for text in [
            "",
            "protocol=cfssl",
            "protocol=cfssl,url=http://ca",
            "url=https://ca",
            "protocol=acme,url=https://ca",
            "protocol=cfssl,url=https://ca,url=https://ca",
            "protocol=cfssl,url=https://ca,key=x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
