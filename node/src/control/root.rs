//! The cluster's root certificate, and its rotation. Keys and tokens are created here because they need randomness, which the
//! core does not have.

use commands::{Command, Rejection, RejectionKind, RotateRoot, SecretText};
use events::{ClusterSpec, Duration};
use projections::Cluster;
use wire::v1::RootRotationView;

use super::enrolment::broken;
use super::{Control, views};
use crate::security::{Authority, AuthorityError, ExternalAuthority, JoinToken, RootCertificate};

/// The subject of rejections about roots.
pub const SUBJECT: &str = "root certificate";
/// Minimum remaining validity of an external root: a year, as in SwarmKit.
const ROOT_VALIDITY_MIN: Duration = Duration::from_secs(365 * 24 * 3600);
/// Maximum nodes listed as outstanding in a rotation.
const SHOWN_MAX: usize = 5;

impl Control {
    /// A new root with its join tokens, cross-signed by the current one if its key is available; or the given root, whose key
    /// an external authority has.
    ///
    /// # Errors
    /// When the root is not usable, no authority signs for it, it cannot be cross-signed, or the system provides no random
    /// bytes.
    pub fn rotate_root(&self, given: Option<&str>) -> Result<Command, Rejection> {
        let given = given.map(|text| self.external_root(text)).transpose()?;
        let next = match given {
            Some(root) => self.root_of_others(&root),
            None => self.root_of_its_own(),
        };
        next.map(Box::new).map(Command::RotateRoot)
    }

    /// Refuses external authorities with an invalid root certificate, since the core does not parse certificates; and settings
    /// with which certificates could no longer be signed.
    ///
    /// # Errors
    /// When the settings are refused.
    pub(super) fn judge_external_cas(&self, spec: &ClusterSpec) -> Result<(), Rejection> {
        for ca in &spec.external_cas {
            if let Err(error) = RootCertificate::from_pem(&ca.ca_cert_pem) {
                let sentence = format!("the root certificate of {} cannot be used: {error}", ca.url);
                let hint = "give the file with the one root certificate that it signs for, in PEM, as cacert";
                return Err(Rejection::invalid("cluster", sentence, hint));
            }
        }
        let settings = &self.state.cluster.settings;
        let signing = settings.rotation.as_ref().map_or(&settings.root_cert_pem, |rotation| &rotation.cert_pem);
        let is_signed_for = RootCertificate::from_pem(signing)
            .is_ok_and(|root| ExternalAuthority::of(&root, &spec.external_cas).is_some());
        if !settings.signing_key_outside() || is_signed_for {
            return Ok(());
        }
        let sentence = "certificates could no longer be signed: the root's key is outside the cluster";
        let hint = "name an external certificate authority that signs for the present root";
        Err(Rejection::conflict("cluster", sentence, hint))
    }

    /// A given root to rotate to, if an external authority signs for it.
    fn external_root(&self, text: &str) -> Result<RootCertificate, Rejection> {
        let invalid = |why: String, hint: &str| Rejection::invalid(SUBJECT, why, hint);
        let file = "give the file with the one root certificate, in PEM";
        let root = RootCertificate::from_pem(text)
            .map_err(|error| invalid(format!("the root certificate cannot be used: {error}"), file))?;
        let settings = &self.state.cluster.settings;
        if root.to_pem() == settings.root_cert_pem {
            return Err(invalid("this is the present root certificate".to_owned(), "give another one"));
        }
        if root.not_after() < self.now + ROOT_VALIDITY_MIN {
            let why = format!("the root certificate is valid until {} only", root.not_after());
            return Err(invalid(why, "give one that is valid for at least a year"));
        }
        if ExternalAuthority::of(&root, &settings.spec.external_cas).is_none() {
            let hint = "name one first with `swarmctl cluster update --external-ca protocol=cfssl,url=URL,cacert=FILE`";
            return Err(invalid("no external certificate authority signs for this root certificate".to_owned(), hint));
        }
        Ok(root)
    }

    /// A rotation to a root with an external key, cross-signed by the current one.
    fn root_of_others(&self, root: &RootCertificate) -> Result<RotateRoot, Rejection> {
        let present = self.present_authority()?.ok_or_else(|| {
            let sentence = "one root whose key is outside the cluster cannot take the place of another";
            let hint = "first rotate to a root of the cluster's own with `swarmctl cluster ca --rotate`";
            Rejection::conflict(SUBJECT, sentence, hint)
        })?;
        rotation_to(root, SecretText::default(), present.cross_sign(root, self.now).map_err(unusable)?)
    }

    /// A rotation to a new root with its key. If the current root's key is external, it still has to be cross-signed.
    fn root_of_its_own(&self) -> Result<RotateRoot, Rejection> {
        let next = Authority::generate(self.now).map_err(unusable)?;
        let cross_cert_pem = match self.present_authority()? {
            Some(present) => present.cross_sign(next.root(), self.now).map_err(unusable)?,
            None => String::new(),
        };
        rotation_to(next.root(), SecretText(next.key().to_pem().to_string()), cross_cert_pem)
    }

    /// The current root with its key; `None` if the key is external.
    fn present_authority(&self) -> Result<Option<Authority>, Rejection> {
        let settings = &self.state.cluster.settings;
        if settings.root_key_outside {
            return Ok(None);
        }
        let key = self.state.keyring.text(&settings.root_key());
        let key = key.ok_or_else(|| broken("this manager does not have the root's key".to_owned()))?;
        Authority::from_pem(&settings.root_cert_pem, key).map(Some).map_err(unusable)
    }
}

fn rotation_to(root: &RootCertificate, key_pem: SecretText, cross_cert_pem: String) -> Result<RotateRoot, Rejection> {
    let (cert_pem, digest) = (root.to_pem(), root.digest());
    Ok(RotateRoot {
        cert_pem,
        digest,
        cross_cert_pem,
        key_pem,
        worker_token: token(root)?,
        manager_token: token(root)?,
    })
}

fn token(root: &RootCertificate) -> Result<(SecretText, [u8; 32]), Rejection> {
    let token = JoinToken::generate(root).ok_or_else(|| broken("the system provides no random bytes".to_owned()))?;
    Ok((SecretText(token.to_string()), token.secret_sha256()))
}

/// The rejection of a root that cannot be used for signing.
pub fn unusable(error: AuthorityError) -> Rejection {
    broken(error.to_string())
}

/// The rejection when no configured authority has the current root's key.
pub fn no_key() -> Rejection {
    let sentence = "no external certificate authority is named that has the present root's key";
    let hint = "name the authority that has it with `swarmctl cluster update --external-ca protocol=cfssl,url=URL`";
    Rejection::new(RejectionKind::Unavailable, SUBJECT, sentence, hint)
}

/// The progress of a rotation, if one is in progress.
pub fn rotation(cluster: &Cluster) -> Option<RootRotationView> {
    let rotation = cluster.settings.rotation.as_ref()?;
    let waits_for = cluster.nodes.values().filter(|node| !node.has_moved(rotation)).take(SHOWN_MAX);
    Some(RootRotationView {
        digest: rotation.digest.clone(),
        started_at: rotation.started_at,
        nodes: cluster.nodes.len() as u64,
        moved: rotation.moved,
        waits_for: waits_for.map(|node| views::node_name(node).to_owned()).collect(),
    })
}
