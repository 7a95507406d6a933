//! `swarmctl cluster ca`.

use std::path::{Path, PathBuf};

use serde::Serialize;
use wire::v1::command_request::Command;
use wire::v1::{RootRotationView, RotateRoot};

use crate::failure::{Failure, Kind};
use crate::format::{Format, cluster};
use crate::manager::Manager;
use crate::session::Session;
use crate::wait::{WaitFlags, for_root};

/// Show the root certificate, or replace it
///
/// With --rotate, a new root replaces the present one without interruption: every node renews its certificate, both roots are
/// trusted meanwhile, and the old one is no longer trusted once every node has a certificate of the new root. The rotation waits
/// for nodes that are down until they are back or removed. When it is completed, the join tokens have changed, and operators need
/// new identities.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Replace the root certificate, and wait until every node has a certificate of the new one
    #[arg(long)]
    rotate: bool,

    /// With --rotate: the new root, whose key an external certificate authority has (`swarmctl cluster update --external-ca`);
    /// without it the cluster creates a new root itself
    #[arg(long, value_name = "FILE", requires = "rotate")]
    ca_cert: Option<PathBuf>,

    #[command(flatten)]
    wait: WaitFlags,
}

/// The result as JSON.
#[derive(Serialize)]
struct Root<'a> {
    root_cert_pem: &'a str,
    digest: &'a str,
    rotation: Option<&'a RootRotationView>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    if args.rotate {
        let cert_pem = args.ca_cert.as_deref().map(read).transpose()?;
        let reply = session.execute_and_print(Command::RotateRoot(RotateRoot { cert_pem }), "").await?;
        return for_root(session, &args.wait, reply.index).await;
    }
    let cluster = session.manager.cluster(false).await?;
    if session.globals.format == Format::Json {
        let (root_cert_pem, digest) = (&cluster.root_cert_pem, &cluster.root_ca_digest);
        return session.json(&Root { root_cert_pem, digest, rotation: cluster.root_rotation.as_ref() });
    }
    session.text(&cluster.root_cert_pem)?;
    match &cluster.root_rotation {
        Some(rotation) => session.note(&cluster::rotation(rotation)),
        None => Ok(()),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        let failure = Failure::new(Kind::Usage, format!("cannot read {}: {error}", path.display()));
        failure.hint("give the file with the root certificate with --ca-cert")
    })
}
