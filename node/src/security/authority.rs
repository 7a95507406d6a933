//! The cluster's certificate authority: a root certificate and its key, and the certificates that they sign.

use std::fmt;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use events::{Duration, Role, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKey, PublicKeyData, SanType,
    SerialNumber, SubjectPublicKeyInfo, date_time_ymd,
};
use x509_parser::asn1_rs::Tag;
use x509_parser::certificate::X509Certificate;

use super::certificate;
use super::subject::{Holder, Subject};
use super::{CertificateError, KeyError, PrivateKey, RootCertificate};

/// The authority's name, and the server name that a joining node expects of a manager.
pub(super) const AUTHORITY_NAME: &str = "swarm-ca";

/// How long a root is valid: 20 years of 365 days.
const ROOT_EXPIRY: Duration = Duration::from_secs(630_720_000);

/// The default validity of a node's certificate: 90 days.
pub const NODE_EXPIRY_DEFAULT: Duration = Duration::from_secs(2_160 * 3_600);

/// The minimum validity of a node's certificate; less would leave no time for renewal.
pub const NODE_EXPIRY_MIN: Duration = Duration::from_secs(3_600);

/// Certificates are backdated by this time, so that a node whose clock is behind accepts them.
pub(super) const BACKDATE: Duration = Duration::from_secs(3_600);

/// Length of an ECDSA P-256 public key: one byte for its form, two coordinates.
const P256_POINT_BYTES: usize = 65;

/// Maximum bytes of a request; one with a P-256 key and no names has about 400. Unauthenticated clients may send one.
const REQUEST_BYTES_MAX: usize = 4 * 1024;

/// Length of a serial number: 126 random bits.
const SERIAL_BYTES: usize = 16;

/// The cluster's root certificate with its key.
pub struct Authority {
    root: RootCertificate,
    key: PrivateKey,
}

/// An issued certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate, in PEM.
    pub cert_pem: String,
    /// The end of its validity.
    pub not_after: Timestamp,
    /// Its serial number, in hexadecimal.
    pub serial: String,
}

/// The public key of a valid request: two requests with the same key come from the same requester.
#[derive(Debug)]
pub struct RequestedKey(PublicKey);

impl RequestedKey {
    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    /// Whether a certificate was issued for this key.
    pub fn is_certified_by(&self, cert_pem: &str) -> bool {
        let certificates = certificate::all_in(cert_pem).unwrap_or_default();
        let Some(certificate) = certificates.first() else { return false };
        certificate::parse(certificate)
            .is_ok_and(|certificate| *certificate.public_key().subject_public_key.data == *self.as_bytes())
    }
}

/// Why an authority cannot be created or does not sign.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The request is invalid.
    #[error("the certificate request is not valid: {0}")]
    Request(&'static str),
    /// The root certificate is not usable.
    #[error("the root certificate cannot be used: {0}")]
    Root(#[source] CertificateError),
    /// The root key is not usable.
    #[error("the root key cannot be used: {0}")]
    Key(#[source] KeyError),
    /// Certificate and key do not match.
    #[error("the root key does not belong to the root certificate")]
    KeyMismatch,
    /// Certificates signed now would not be valid.
    #[error("the root certificate expired at {0}")]
    Expired(Timestamp),
    /// Its name cannot be written in a certificate that signs it.
    #[error("the name of the root certificate has a form that cannot be repeated in another certificate")]
    RootName,
    /// The system provided no random bytes.
    #[error("the system provides no random bytes")]
    Random,
    /// Signing failed.
    #[error("the certificate cannot be signed: {0}")]
    Signing(#[source] rcgen::Error),
}

impl Authority {
    /// A new root, valid from `now`.
    pub fn generate(now: Timestamp) -> Result<Self, AuthorityError> {
        let key = PrivateKey::generate().map_err(AuthorityError::Key)?;
        let mut params = root_params()?;
        set_validity(&mut params, now, now + ROOT_EXPIRY);
        params.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
        let certificate = params.self_signed(key.pair()).map_err(AuthorityError::Signing)?;
        let root = RootCertificate::from_der(certificate.der().clone()).map_err(AuthorityError::Root)?;
        Ok(Self { root, key })
    }

    /// The authority with this root certificate and key, both in PEM.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, AuthorityError> {
        let root = RootCertificate::from_pem(cert_pem).map_err(AuthorityError::Root)?;
        let key = PrivateKey::from_pem(key_pem).map_err(AuthorityError::Key)?;
        if key.fits(root.der()).map_err(AuthorityError::Root)? {
            Ok(Self { root, key })
        } else {
            Err(AuthorityError::KeyMismatch)
        }
    }

    /// The root certificate.
    pub fn root(&self) -> &RootCertificate {
        &self.root
    }

    /// The root's key: its holder controls the cluster.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Cross-signs the root certificate `next`: nodes that trust this root then trust certificates of `next`.
    pub fn cross_sign(&self, next: &RootCertificate, now: Timestamp) -> Result<String, AuthorityError> {
        let parsed = certificate::parse(next.der()).map_err(AuthorityError::Root)?;
        let key = SubjectPublicKeyInfo::from_der(parsed.public_key().raw).map_err(AuthorityError::Signing)?;
        let mut params = root_params()?;
        params.distinguished_name = name_of(&parsed)?;
        set_validity(&mut params, now, self.root.not_after().min(next.not_after()));
        params.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
        let issuer = Issuer::from_ca_cert_der(self.root.der(), self.key.pair()).map_err(AuthorityError::Signing)?;
        let certificate = params.signed_by(&key, &issuer).map_err(AuthorityError::Signing)?;
        // Certificates of the next root contain its name in exactly these bytes.
        let signed = certificate::parse(certificate.der()).map_err(AuthorityError::Root)?;
        if signed.subject().as_raw() != parsed.subject().as_raw() {
            return Err(AuthorityError::RootName);
        }
        Ok(super::key::pem("CERTIFICATE", certificate.der()))
    }

    /// A PEM request to sign this root, for another authority.
    pub fn request(&self) -> Result<String, AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = root_params()?.distinguished_name;
        let request = params.serialize_request(self.key.pair()).and_then(|request| request.pem());
        request.map_err(AuthorityError::Signing)
    }

    /// The key of a request that this authority would sign now. Does not sign.
    ///
    /// # Errors
    /// As [`sign`](Self::sign).
    pub fn judge(&self, csr_pem: &str, now: Timestamp) -> Result<RequestedKey, AuthorityError> {
        judge(&self.root, csr_pem, now)
    }

    /// Issues a certificate to `holder` for the key in `csr_pem`.
    ///
    /// Only the public key of the request is used, after its signature has proved that the requester holds the private key;
    /// names, usages and everything else are ignored. The certificate is valid for `expiry` from `now`, but at least
    /// [`NODE_EXPIRY_MIN`], and no longer than the root.
    pub fn sign(
        &self,
        csr_pem: &str,
        holder: impl Into<Holder>,
        now: Timestamp,
        expiry: Duration,
    ) -> Result<Issued, AuthorityError> {
        let public_key = self.judge(csr_pem, now)?.0;
        let not_after = whole_seconds(now + expiry.max(NODE_EXPIRY_MIN)).min(self.root.not_after());
        let serial = random_serial()?;
        let mut params = params_of(holder.into())?;
        set_validity(&mut params, now, not_after);
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let issuer = Issuer::from_ca_cert_der(self.root.der(), self.key.pair()).map_err(AuthorityError::Signing)?;
        let certificate = params.signed_by(&public_key, &issuer).map_err(AuthorityError::Signing)?;
        let serial = serial.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Issued { cert_pem: super::key::pem("CERTIFICATE", certificate.der()), not_after, serial })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("root", &self.root).finish_non_exhaustive()
    }
}

/// The key of a request that would be signed for this root now.
///
/// # Errors
/// When the request is invalid, or a certificate signed now would not be valid.
pub fn judge(root: &RootCertificate, csr_pem: &str, now: Timestamp) -> Result<RequestedKey, AuthorityError> {
    let public_key = requested_key(csr_pem)?;
    if root.not_after() <= now {
        return Err(AuthorityError::Expired(root.not_after()));
    }
    Ok(RequestedKey(public_key))
}

/// The name of a root, in a form that can be written unchanged in another certificate.
fn name_of(root: &X509Certificate<'_>) -> Result<DistinguishedName, AuthorityError> {
    let mut name = DistinguishedName::new();
    for attribute in root.subject().iter_attributes() {
        let text = attribute.as_str().map_err(|_| AuthorityError::RootName)?;
        let value = match attribute.attr_value().tag() {
            Tag::PrintableString => text.try_into().map(DnValue::PrintableString),
            Tag::Ia5String => text.try_into().map(DnValue::Ia5String),
            _ => Ok(DnValue::Utf8String(text.to_owned())),
        };
        let oid = attribute.attr_type().iter().ok_or(AuthorityError::RootName)?.collect::<Vec<u64>>();
        let kind = [
            DnType::CommonName,
            DnType::OrganizationName,
            DnType::OrganizationalUnitName,
            DnType::CountryName,
            DnType::StateOrProvinceName,
            DnType::LocalityName,
        ];
        let oids: [&[u64]; 6] =
            [&[2, 5, 4, 3], &[2, 5, 4, 10], &[2, 5, 4, 11], &[2, 5, 4, 6], &[2, 5, 4, 8], &[2, 5, 4, 7]];
        let known = oids.iter().position(|known| **known == oid[..]).map(|at| kind[at].clone());
        name.push(known.unwrap_or(DnType::CustomDnType(oid)), value.map_err(AuthorityError::Signing)?);
    }
    Ok(name)
}

/// The public key of a request with a valid signature.
fn requested_key(csr_pem: &str) -> Result<PublicKey, AuthorityError> {
    if csr_pem.len() > REQUEST_BYTES_MAX {
        return Err(AuthorityError::Request("it is longer than 4 KiB"));
    }
    let request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(|error| match error {
        rcgen::Error::InvalidCertificationRequestSignature => AuthorityError::Request("its signature is wrong"),
        rcgen::Error::UnsupportedExtension => AuthorityError::Request("it asks for an unknown extension"),
        _ => AuthorityError::Request("it is not a certificate signing request in PEM"),
    })?;
    let key = request.public_key;
    // The algorithm in a request is that of its signature and does not identify the curve, but the length does.
    if key.algorithm() == &PKCS_ECDSA_P256_SHA256 && key.der_bytes().len() == P256_POINT_BYTES {
        Ok(key)
    } else {
        Err(AuthorityError::Request("its key is not ECDSA P-256"))
    }
}

/// The parameters of every root certificate.
fn root_params() -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // As cfssl writes it: if cfssl signs this root, the name must be identical byte by byte.
    let name = AUTHORITY_NAME.try_into().map(DnValue::PrintableString).map_err(AuthorityError::Signing)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// The parameters of every certificate for `holder`, whoever requests it.
fn params_of(holder: Holder) -> Result<CertificateParams, AuthorityError> {
    let [name, unit, cluster] = holder.names();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, cluster);
    params.distinguished_name.push(DnType::OrganizationalUnitName, unit.as_str());
    params.distinguished_name.push(DnType::CommonName, name.as_str());
    let (authority, usages) = match holder {
        Holder::Node(Subject { role: Role::Manager, .. }) => {
            (Some(AUTHORITY_NAME), vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth])
        }
        Holder::Node(Subject { role: Role::Worker, .. }) => {
            (None, vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth])
        }
        Holder::Operator { .. } => (None, vec![ExtendedKeyUsagePurpose::ClientAuth]),
    };
    for name in [unit.as_str(), name.as_str()].into_iter().chain(authority) {
        params.subject_alt_names.push(SanType::DnsName(name.try_into().map_err(AuthorityError::Signing)?));
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages;
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, not_after: Timestamp) {
    let epoch = date_time_ymd(1970, 1, 1);
    let since_epoch = |at: Timestamp| whole_seconds(at).since(Timestamp::from_unix_ns(0));
    params.not_before = epoch + since_epoch(now - BACKDATE);
    params.not_after = epoch + since_epoch(not_after);
}

/// Certificates have no fractions of a second.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_unix_ns(at.unix_ns() / 1_000_000_000 * 1_000_000_000)
}

/// A positive number of full length, so that its text has a fixed length.
fn random_serial() -> Result<[u8; SERIAL_BYTES], AuthorityError> {
    let mut serial = [0; SERIAL_BYTES];
    SystemRandom::new().fill(&mut serial).map_err(|_| AuthorityError::Random)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{DAY, NOW, subject};
    use super::super::{CertificateRequest, certificate, key};
    use super::*;
    use rcgen::KeyPair;
    use rustls_pki_types::CertificateSigningRequestDer;
    use rustls_pki_types::pem::PemObject;
    use x509_parser::prelude::GeneralName;

    fn authority() -> Authority {
        Authority::generate(NOW).expect("an authority")
    }

    fn refusal(csr_pem: &str) -> String {
        let error = authority().sign(csr_pem, subject(1, Role::Worker), NOW, DAY).expect_err("a refusal");
        assert!(matches!(error, AuthorityError::Request(_)), "{error}");
        error.to_string()
    }

    #[test]
    fn what_a_request_asks_for_is_ignored() {
        let key = KeyPair::generate().expect("a key");
        let mut asks = CertificateParams::new(["swarm-manager".to_owned(), "swarm-ca".to_owned()]).expect("names");
        asks.distinguished_name.push(DnType::CommonName, subject(2, Role::Manager).node.to_string());
        asks.distinguished_name.push(DnType::OrganizationalUnitName, "swarm-manager");
        asks.distinguished_name.push(DnType::OrganizationName, "another cluster");
        asks.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        asks.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let csr = asks.serialize_request(&key).and_then(|csr| csr.pem()).expect("a request");

        let worker = subject(1, Role::Worker);
        let issued = authority().sign(&csr, worker, NOW, DAY).expect("a certificate");
        let der = certificate::all_in(&issued.cert_pem).expect("PEM").remove(0);
        assert_eq!(Subject::of(&der), Ok(worker));
        let parsed = certificate::parse(&der).expect("a certificate");
        assert!(!parsed.is_ca());
        let usage = parsed.key_usage().expect("one extension").expect("key usage").value;
        assert!(usage.digital_signature() && !usage.key_cert_sign());
        assert_eq!(names(&der), ["swarm-worker".to_owned(), worker.node.to_string()]);
        assert_eq!(parsed.public_key().raw, key.subject_public_key_info(), "the asker's key");
    }

    fn names(der: &rustls_pki_types::CertificateDer<'_>) -> Vec<String> {
        let parsed = certificate::parse(der).expect("a certificate");
        let names = parsed.subject_alternative_name().expect("one extension").expect("names").value;
        let name = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            other => panic!("{other}"),
        };
        names.general_names.iter().map(name).collect()
    }

    #[test]
    fn managers_also_carry_the_authoritys_name() {
        let request = CertificateRequest::new().expect("a request");
        let manager = subject(1, Role::Manager);
        let issued = authority().sign(&request.csr_pem, manager, NOW, DAY).expect("a certificate");
        let der = certificate::all_in(&issued.cert_pem).expect("PEM").remove(0);
        assert_eq!(names(&der), ["swarm-manager".to_owned(), manager.node.to_string(), "swarm-ca".to_owned()]);
        assert_eq!(
            certificate::parse(&der).expect("a certificate").raw_serial_as_string().replace(':', ""),
            issued.serial
        );
    }

    #[test]
    fn bad_requests_are_refused_with_a_reason() {
        let (mine, other) =
            (CertificateRequest::new().expect("a request"), CertificateRequest::new().expect("a request"));
        let good = mine.csr_pem;
        let der = CertificateSigningRequestDer::from_pem_slice(good.as_bytes()).expect("PEM");
        let mut forged = der.to_vec();
        let (point, stolen) = (mine.key.pair().public_key_raw(), other.key.pair().public_key_raw());
        let at = forged.windows(point.len()).position(|bytes| bytes == point).expect("the public key");
        forged[at..at + stolen.len()].copy_from_slice(stolen);
        let forged = key::pem("CERTIFICATE REQUEST", &forged);
        assert_eq!(refusal(&forged), "the certificate request is not valid: its signature is wrong");

        let text = "the certificate request is not valid: it is not a certificate signing request in PEM";
        for broken in ["", "hello", &good[..good.len() / 2]] {
            assert_eq!(refusal(broken), text);
        }

        let long = format!("{good}{}", "\n".repeat(REQUEST_BYTES_MAX));
        assert_eq!(refusal(&long), "the certificate request is not valid: it is longer than 4 KiB");

        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
        let other =
            CertificateParams::default().serialize_request(&other).and_then(|csr| csr.pem()).expect("a request");
        assert_eq!(refusal(&other), "the certificate request is not valid: its key is not ECDSA P-256");
    }

    #[test]
    fn validity_is_backdated_bounded_below_and_by_the_root() {
        let authority = authority();
        let request = CertificateRequest::new().expect("a request").csr_pem;
        let validity = |now, expiry| {
            let issued = authority.sign(&request, subject(1, Role::Worker), now, expiry).expect("a certificate");
            let der = certificate::all_in(&issued.cert_pem).expect("PEM").remove(0);
            let (not_before, not_after) = certificate::validity(&certificate::parse(&der).expect("a certificate"));
            assert_eq!(not_after, issued.not_after);
            (not_before, not_after)
        };
        let half_a_second = Duration::from_millis(500);
        assert_eq!(validity(NOW + half_a_second, DAY), (NOW - BACKDATE, NOW + DAY));
        assert_eq!(validity(NOW, Duration::ZERO), (NOW - BACKDATE, NOW + NODE_EXPIRY_MIN));
        let root_ends = NOW + ROOT_EXPIRY;
        assert_eq!(authority.root().not_after(), root_ends);
        assert_eq!(validity(root_ends - DAY, DAY * 90).1, root_ends);
        let late = authority.sign(&request, subject(1, Role::Worker), root_ends, DAY);
        assert!(matches!(late, Err(AuthorityError::Expired(at)) if at == root_ends));
    }

    #[test]
    fn an_authority_survives_its_texts_and_hides_its_key() {
        let authority = authority();
        let key = authority.key().to_pem();
        let again = Authority::from_pem(&authority.root().to_pem(), &key).expect("the same authority");
        assert_eq!(again.root(), authority.root());
        let shown = format!("{authority:?}");
        assert!(key.lines().all(|line| !shown.contains(line)), "{shown}");
    }

    #[test]
    fn parts_that_are_no_authority_are_refused() {
        let (one, other) = (authority(), authority());
        let mixed = Authority::from_pem(&one.root().to_pem(), &other.key().to_pem());
        assert!(matches!(mixed, Err(AuthorityError::KeyMismatch)));
        let request = CertificateRequest::new().expect("a request");
        let leaf = one.sign(&request.csr_pem, subject(1, Role::Manager), NOW, DAY).expect("a certificate");
        let leaf = Authority::from_pem(&leaf.cert_pem, &request.key.to_pem());
        assert!(matches!(leaf, Err(AuthorityError::Root(CertificateError::NotAuthority))));
        let bundle = one.root().to_pem() + &other.root().to_pem();
        let bundle = Authority::from_pem(&bundle, &one.key().to_pem());
        assert!(matches!(bundle, Err(AuthorityError::Root(CertificateError::Count(2)))));
    }

    #[test]
    fn a_root_from_outside_is_signed_under_its_own_name() {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let country = "DE".try_into().map(DnValue::PrintableString).expect("two letters");
        params.distinguished_name.push(DnType::CountryName, country);
        params.distinguished_name.push(DnType::CommonName, "An external root \u{e9}");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(2060, 1, 1);
        let root = RootCertificate::from_der(params.self_signed(&key).expect("a root").der().clone()).expect("a root");
        let (old, now) = (authority(), Timestamp::from_unix_ns(1_800_000_000_000_000_000));
        let cross = certificate::all_in(&old.cross_sign(&root, now).expect("signed")).expect("PEM");
        let issuer = Issuer::from_ca_cert_der(root.der(), &key).expect("an issuer");
        let request = CertificateRequest::new().expect("a request");
        let mut leaf = params_of(subject(1, Role::Worker).into()).expect("names");
        set_validity(&mut leaf, now, now + DAY);
        let leaf = leaf.signed_by(request.key.pair(), &issuer).expect("signed").der().clone();
        super::super::identity::verify_chain([old.root()], &leaf, &cross, now)
            .expect("who trusts the old root trusts it");
        assert!(super::super::identity::verify_chain([old.root()], &leaf, &[], now).is_err());
    }
}
