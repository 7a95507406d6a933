//! One process of a crowd: it reads which agents to run, and reports their counters periodically.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::agent::{Agent, Shared};
use super::{Identity, write_counts};

/// The interval of these reports.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// Runs the agents listed in the file, until the parent process is gone.
pub fn run(order: &str) -> Result<()> {
    node::daemon::descriptors::raise();
    let order: Value = serde_json::from_slice(&std::fs::read(order)?)?;
    let manager: SocketAddr = order["manager"].as_str().context("no manager")?.parse()?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(order["root"].as_str().context("no root")?.as_bytes())?)?;
    let report_every = order["report_every_ms"].as_u64().map(Duration::from_millis);
    let shared = Arc::new(Shared::new(manager, roots, report_every));
    let agents = order["agents"].as_array().context("no agents")?;
    let agents: Vec<Agent> =
        agents.iter().map(|agent| Agent::new(&shared, &identity(agent)?)).collect::<Result<_>>()?;
    end_with_parent();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        for agent in agents {
            tokio::spawn(agent.hold());
        }
        loop {
            tokio::time::sleep(REPORT_INTERVAL).await;
            write_counts(&shared.counts())?;
        }
    })
}

fn identity(agent: &Value) -> Result<Identity> {
    let text = |index: usize| agent[index].as_str().map(str::to_owned).context("an agent has a certificate and a key");
    Ok(Identity { number: agent[0].as_u64().context("an agent has a number")?, cert_pem: text(1)?, key_pem: text(2)? })
}

/// Standard input closes when the parent process ends, for whatever reason.
fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}
