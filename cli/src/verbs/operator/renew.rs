//! `swarmctl operator renew`.

use events::OperatorId;
use serde::Serialize;
use wire::v1::RenewOperatorRequest;

use crate::failure::{Failure, Kind};
use crate::format::Format;
use crate::identity::NewKey;
use crate::manager::Manager;
use crate::session::Session;

/// Renew the identity in --identity
///
/// Creates a new key, has the cluster certify it using the present certificate, and replaces both. The operator and the role stay
/// the same. An expired identity cannot be renewed: an admin has to create a new one.
///
/// Example: swarmctl --host https://10.0.0.1 --identity ada operator renew
#[derive(Debug, clap::Args)]
pub struct Args {}

/// The result as JSON.
#[derive(Serialize)]
struct Renewed {
    operator: OperatorId,
    not_after: String,
}

pub(super) async fn run<M: Manager>(_: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let Some(directory) = &session.globals.identity else {
        let failure = Failure::new(Kind::Usage, "no identity is given that could be renewed");
        return Err(failure.hint("give its directory with --identity, and a manager with --host"));
    };
    session.refuse_trial("the cluster certifies a key that is made for it")?;
    let key = NewKey::generate()?;
    let request = RenewOperatorRequest {
        id: (session.env.command_ids)(),
        reason: session.globals.reason.clone(),
        csr_pem: key.request_pem()?,
    };
    let certificate = session.manager.renew_operator(request).await?;
    key.keep(directory, &certificate)?;
    let not_after = certificate.not_after.to_string();
    match session.globals.format {
        Format::Json => session.json(&Renewed { operator: certificate.operator, not_after }),
        Format::Table => session.line(&format!("{} is valid until {not_after}", directory.display())),
    }
}
