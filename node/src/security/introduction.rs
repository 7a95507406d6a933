//! How a client introduces itself in its ClientHello: a node with a digest of its certificate, a joining node with a digest of
//! its token.
//!
//! A handshake costs a manager a signature before the client is authenticated. So a client first presents something that only
//! members, or holders of a token, can know; all other clients wait in a separate queue, and delay neither, wherever they
//! connect from. An introduction grants no access. An eavesdropper can replay it, but only uses up the turns of the one node
//! that it identifies, or those that joining nodes share. It is sent as one of the application protocols (ALPN) that the client
//! offers, and no manager ever selects it.

use events::certificate::{self, CertificateDigest};
use events::{Id, NodeId};
use rustls::server::ClientHello;
use sha2::{Digest, Sha256};

use super::JoinToken;

const NODE: &[u8] = b"swarmlog/node/";
const JOINER: &[u8] = b"swarmlog/join/";

/// The prefix of what is digested with a token's secret, so that the digest is useless for any other purpose.
const PURPOSE: &[u8] = b"swarmlog introduction of a joiner";
const DIGEST_BYTES: usize = 16;

/// What a client presents before it is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Introduction {
    /// The client claims to be this node, and knows its certificate.
    Node {
        /// The node.
        node: NodeId,
        /// The digest of its certificate.
        certificate: CertificateDigest,
    },
    /// The client knows a join token.
    Joiner {
        /// A digest of the token's secret.
        token: [u8; DIGEST_BYTES],
    },
}

impl Introduction {
    /// The introduction of the node with this certificate.
    pub fn of_node(node: NodeId, cert_pem: &str) -> Self {
        Self::Node { node, certificate: certificate::digest(cert_pem) }
    }

    /// The introduction of a client with this token.
    pub fn of_joiner(token: &JoinToken) -> Self {
        Self::of_secret(&token.secret_sha256())
    }

    /// The introduction of a client with the token of this digest, which is stored in the log.
    pub fn of_secret(secret_sha256: &[u8; 32]) -> Self {
        let whole = Sha256::new().chain_update(PURPOSE).chain_update(secret_sha256).finalize();
        let mut token = [0; DIGEST_BYTES];
        token.copy_from_slice(&whole[..DIGEST_BYTES]);
        Self::Joiner { token }
    }

    /// The name of the application protocol that carries it.
    pub fn protocol(&self) -> Vec<u8> {
        match self {
            Self::Node { node, certificate } => [NODE, &node.bits().to_be_bytes(), certificate].concat(),
            Self::Joiner { token } => [JOINER, &token[..]].concat(),
        }
    }

    /// The introduction in a ClientHello.
    pub(super) fn within(hello: &ClientHello<'_>) -> Option<Self> {
        hello.alpn()?.find_map(Self::read)
    }

    fn read(protocol: &[u8]) -> Option<Self> {
        if let Some(rest) = protocol.strip_prefix(NODE) {
            let (node, certificate) = rest.split_first_chunk()?;
            let node = NodeId::from_bits(u128::from_be_bytes(*node));
            return Some(Self::Node { node, certificate: certificate.try_into().ok()? });
        }
        Some(Self::Joiner { token: protocol.strip_prefix(JOINER)?.try_into().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_introduction_is_read_as_it_was_written_and_nothing_else_is_one() {
        let node = Introduction::of_node(NodeId::from_bits(u128::MAX - 7), "a certificate");
        let joiner = Introduction::of_secret(&[3; 32]);
        for introduction in [node, joiner] {
            let protocol = introduction.protocol();
            assert!(protocol.len() <= usize::from(u8::MAX), "a name has a length of one byte");
            assert_eq!(Introduction::read(&protocol), Some(introduction));
            assert_eq!(Introduction::read(&protocol[..protocol.len() - 1]), None);
            assert_eq!(Introduction::read(&[&protocol[..], b"x"].concat()), None);
        }
        for other in [&b""[..], b"h2", NODE, JOINER] {
            assert_eq!(Introduction::read(other), None);
        }
    }

    #[test]
    fn a_digest_is_of_one_certificate_or_token_however_it_is_written() {
        let of = |pem| Introduction::of_node(NodeId::from_bits(1), pem);
        assert_eq!(of("one"), of("one\n"));
        assert_ne!(of("one"), of("another"));
        assert_ne!(Introduction::of_secret(&[1; 32]), Introduction::of_secret(&[2; 32]));
        let Introduction::Joiner { token } = Introduction::of_secret(&[1; 32]) else { panic!("a joiner's") };
        assert_ne!(token, [1; DIGEST_BYTES], "what the log keeps is not revealed to an eavesdropper");
    }
}
