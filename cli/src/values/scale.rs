//! The arguments of `service scale`: `web=6`.

use events::spec::limits::REPLICAS_MAX;

use super::{Invalid, number};

/// A service and its new number of replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// The service: a name, an id or a unique prefix of an id.
    pub service: String,
    /// The number of replicas.
    pub replicas: u64,
}

/// Reads `service=replicas`.
///
/// # Errors
/// When the service is empty or the number is malformed.
pub fn parse(text: &str) -> Result<Scale, Invalid> {
    let hint = "write SERVICE=REPLICAS, such as web=6";
    let parts = text.rsplit_once('=').filter(|(service, _)| !service.is_empty());
    let (service, replicas) =
        parts.ok_or_else(|| Invalid::new(format!("\"{text}\" is not a service and its replicas"), hint))?;
    let replicas = number::within(0..=REPLICAS_MAX)(replicas);
    let replicas = replicas.map_err(|why| Invalid::new(format!("replicas of {service}: {why}"), hint))?;
    Ok(Scale { service: service.to_owned(), replicas })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_and_a_whole_number_are_needed() {
        assert_eq!(parse("web=6"), Ok(Scale { service: "web".to_owned(), replicas: 6 }));
        for text in ["", "web", "web=", "=6", "web=-1", "web=1.5", "web=many", "web=99999999999"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
