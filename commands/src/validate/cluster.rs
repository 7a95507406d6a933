//! Cluster settings.

use std::time::Duration;

use events::spec::limits::{HEARTBEAT_GRACES, NODES_MAX};
use events::{ClusterSpec, ExternalCa};

use super::{Fault, Verdict, duration, placement};
use crate::reason::MAY_REQUIRE;
use crate::text::quote;

/// Minimum lifetime of a certificate: shorter ones would be renewed constantly.
const CERT_EXPIRY_MIN: Duration = Duration::from_secs(3_600);
/// Minimum time between heartbeats: with shorter ones a busy machine counts as dead.
const HEARTBEAT_PERIOD_MIN: Duration = Duration::from_millis(100);
/// Maximum: longer ones would leave the loss of a node unnoticed for days.
const HEARTBEAT_PERIOD_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Minimum time for which history stays in the database: recent history is read frequently.
const HISTORY_KEEP_MIN: Duration = Duration::from_secs(3_600);
/// External certificate authorities: each is asked in turn for up to 5 s, and a node waits 30 s for the answer.
const EXTERNAL_CAS_MAX: usize = 4;
/// Maximum length of the address of one, in bytes.
const URL_BYTES_MAX: usize = 512;
/// Maximum length of a root certificate in PEM, in bytes: a typical one has about 1 KiB.
const ROOT_BYTES_MAX: usize = 16 * 1024;

/// Checks the cluster's settings.
pub(crate) fn cluster(spec: &ClusterSpec) -> Verdict {
    duration(spec.node_cert_expiry_ns.unwrap_or(0), "life of certificates")?;
    if spec.cert_expiry() < CERT_EXPIRY_MIN {
        let sentence = format!("a certificate validity of {:?} is too short", spec.cert_expiry());
        return Err(Fault::invalid(sentence, "give at least 1h"));
    }
    let period = spec.heartbeat_period();
    if !(HEARTBEAT_PERIOD_MIN..=HEARTBEAT_PERIOD_MAX).contains(&period) {
        let sentence = format!("a heartbeat period of {period:?} is out of range");
        return Err(Fault::invalid(sentence, "give 100ms to 24h"));
    }
    if let Some(grace) = spec.heartbeat_grace
        && !HEARTBEAT_GRACES.contains(&grace)
    {
        let sentence = format!("the grace period must be at least 1 missed heartbeat and at most 1000, not {grace}");
        return Err(Fault::invalid(sentence, "give a number from 1 to 1000"));
    }
    if let Some(count) = spec.nodes_max
        && !NODES_MAX.contains(&count)
    {
        let sentence = format!("a cluster cannot be limited to {count} nodes");
        return Err(Fault::invalid(sentence, "give a limit from 1 to 1000000"));
    }
    if spec.external_cas.len() > EXTERNAL_CAS_MAX {
        let sentence = format!("{} external certificate authorities are too many", spec.external_cas.len());
        return Err(Fault::invalid(sentence, format!("name at most {EXTERNAL_CAS_MAX}")));
    }
    if let Some(keep) = spec.history_keep_ns
        && Duration::from_nanos(keep) < HISTORY_KEEP_MIN
    {
        let sentence = format!("history must be kept in the log for at least 1h, not {:?}", Duration::from_nanos(keep));
        return Err(Fault::invalid(sentence, "give 1h or more, or forever"));
    }
    spec.external_cas.iter().try_for_each(external_ca)?;
    spec.require_reason.iter().try_for_each(|verb| reasoned(verb))?;
    placement::strategy(spec.placement_strategy)
}

fn external_ca(ca: &ExternalCa) -> Verdict {
    let ExternalCa { url, ca_cert_pem } = ca;
    if !url.starts_with("https://") || url.len() > URL_BYTES_MAX || url.contains(|c: char| !c.is_ascii_graphic()) {
        let sentence = format!("{} is not the address of an external certificate authority", quote(url));
        let hint = "write https://HOST[:PORT]/PATH, such as https://ca.example:8888/api/v1/cfssl/sign";
        return Err(Fault::invalid(sentence, hint));
    }
    if !ca_cert_pem.contains("BEGIN CERTIFICATE") || ca_cert_pem.len() > ROOT_BYTES_MAX {
        let sentence = format!("the external certificate authority {} has no root certificate in PEM", quote(url));
        return Err(Fault::invalid(sentence, "give the file with the root certificate that it signs for as cacert"));
    }
    Ok(())
}

fn reasoned(verb: &str) -> Verdict {
    if MAY_REQUIRE.contains(&verb) {
        return Ok(());
    }
    let sentence = format!("a reason cannot be required for {}", quote(verb));
    Err(Fault::invalid(sentence, format!("name one of {}", MAY_REQUIRE.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_bounds() {
        assert_eq!(cluster(&ClusterSpec::default()), Ok(()));
        let expiry = |ns| cluster(&ClusterSpec { node_cert_expiry_ns: Some(ns), ..Default::default() }).is_ok();
        assert!(expiry(3_600_000_000_000) && !expiry(3_599_999_999_999) && !expiry(0) && !expiry(u64::MAX));
        let period = |ns| cluster(&ClusterSpec { heartbeat_period_ns: Some(ns), ..Default::default() }).is_ok();
        assert!(period(100_000_000) && !period(99_999_999) && !period(0) && !period(u64::MAX));
        let grace = |count| cluster(&ClusterSpec { heartbeat_grace: Some(count), ..Default::default() }).is_ok();
        assert!(grace(1) && grace(1_000) && !grace(0) && !grace(u32::MAX));
        let nodes = |count| cluster(&ClusterSpec { nodes_max: Some(count), ..Default::default() }).is_ok();
        assert!(nodes(1) && nodes(1_000_000) && !nodes(0) && !nodes(u32::MAX));
        let reasons =
            |verb: &str| cluster(&ClusterSpec { require_reason: vec![verb.to_owned()], ..Default::default() }).is_ok();
        assert!(reasons("service.remove") && !reasons("service.rm") && !reasons("node.join") && !reasons(""));
        let root = "-----BEGIN CERTIFICATE-----";
        let external = |count, url: &str, ca_cert_pem: &str| {
            let ca = ExternalCa { url: url.to_owned(), ca_cert_pem: ca_cert_pem.to_owned() };
            cluster(&ClusterSpec { external_cas: vec![ca; count], ..Default::default() }).is_ok()
        };
        assert!(external(4, "https://ca:8888/sign", root) && !external(5, "https://ca:8888/sign", root));
        assert!(
            !external(1, "http://ca/sign", root)
                && !external(1, "https://c a", root)
                && !external(1, "https://ca", "a root")
        );
    }
}
