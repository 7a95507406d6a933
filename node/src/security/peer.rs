//! The peer of a connection, as the connection itself authenticates it.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use events::{ClusterId, OperatorId};
use tokio::net::UnixStream;

use super::subject::Subject;

/// The peer of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A client without a certificate.
    Anonymous {
        /// Its address.
        address: SocketAddr,
    },
    /// The holder of a certificate issued by the cluster's root.
    Node {
        /// The subject of the certificate.
        subject: Subject,
        /// Its address.
        address: SocketAddr,
    },
    /// The holder of an operator's certificate issued by the cluster's root.
    CertifiedOperator {
        /// The operator.
        operator: OperatorId,
        /// The operator's cluster.
        cluster: ClusterId,
        /// Its address.
        address: SocketAddr,
    },
    /// A user of this machine, connected to the manager's unix socket.
    Operator {
        /// The user's name, or `uid 1000` if there is none.
        user: String,
    },
}

impl Peer {
    /// The local user at the other end of a unix socket, as the kernel reports it. Because the socket's mode may have been
    /// changed, only root and the user of this process are accepted.
    pub(super) fn operator(stream: &UnixStream) -> io::Result<Self> {
        let uid = stream.peer_cred()?.uid();
        let user = user_name(uid);
        if may_operate(uid, rustix::process::geteuid().as_raw()) {
            return Ok(Self::Operator { user });
        }
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{user} is neither root nor the owner of this swarmd"),
        ))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous { address } => write!(f, "a caller without certificate at {address}"),
            Self::Node { subject, address } => write!(f, "{subject} at {address}"),
            Self::CertifiedOperator { operator, address, .. } => write!(f, "operator {operator} at {address}"),
            Self::Operator { user } => write!(f, "local user {user}"),
        }
    }
}

/// Whether a local user may operate the cluster through a manager that runs as `own`.
fn may_operate(uid: u32, own: u32) -> bool {
    uid == 0 || uid == own
}

/// The name of a local user. Users that exist only in a directory service are shown by number: a lookup there could block for
/// long, while the file is small and local.
fn user_name(uid: u32) -> String {
    let users = std::fs::read("/etc/passwd").unwrap_or_default();
    name_in(&String::from_utf8_lossy(&users), uid).map_or_else(|| format!("uid {uid}"), str::to_owned)
}

/// The name of `uid` in lines of the form `name:password:uid:...`.
fn name_in(users: &str, uid: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_by_the_file() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\n# a comment\n\n:x:7::\nbroken\nada:x:1000:1000::/home/ada:\nbob:x:1000::";
        assert_eq!(name_in(users, 0), Some("root"));
        assert_eq!(name_in(users, 1000), Some("ada"));
        assert_eq!(name_in(users, 7), None);
        assert_eq!(name_in("", 0), None);
    }

    #[test]
    fn root_and_the_owner_operate_and_nobody_else() {
        for (uid, own, may) in
            [(0, 0, true), (0, 1000, true), (1000, 1000, true), (1000, 0, false), (1001, 1000, false)]
        {
            assert_eq!(may_operate(uid, own), may, "{uid} at the socket of {own}");
        }
    }

    #[test]
    fn a_user_without_a_name_has_a_number() {
        assert_eq!(user_name(u32::MAX - 1), "uid 4294967294");
    }
}
