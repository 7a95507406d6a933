//! `swarmctl operator create`.

use std::path::PathBuf;

use clap::ValueEnum;
use events::{OperatorId, OperatorRole};
use serde::Serialize;
use wire::v1::{CreateOperatorRequest, OperatorCertificate};

use crate::failure::{Failure, Kind};
use crate::format::Format;
use crate::identity::NewIdentity;
use crate::manager::Manager;
use crate::session::Session;

/// Create an operator, who can manage the cluster from another machine
///
/// Creates a key and has the cluster certify it. Both are written to a new directory that only its owner can read, together with
/// the cluster's root certificates. With that directory, --host and --identity give access to the cluster in the given role; the
/// history shows the operator's name. A viewer sees everything but tokens and keys, an operator also changes services, tasks and
/// configs, an admin may do everything.
///
/// Example: swarmctl operator create ada --role operator, then
/// swarmctl --host https://10.0.0.1 --identity ada service ls
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the operator, which the history shows
    #[arg(value_name = "NAME")]
    name: String,

    /// Role of the operator
    #[arg(long, value_name = "ROLE", default_value = "viewer")]
    role: Role,

    /// Directory to create for the identity (default: the operator's name)
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Role {
    Viewer,
    Operator,
    Admin,
}

/// The result as JSON.
#[derive(Serialize)]
struct Created {
    operator: OperatorId,
    directory: PathBuf,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.refuse_trial("the cluster certifies a key that is made for it")?;
    // The directory is created before the cluster checks the name, which is also the directory's default name.
    if args.name.is_empty() || args.name.contains('/') {
        let failure = Failure::new(Kind::Usage, format!("\"{}\" is not a name for an operator", args.name));
        return Err(failure.hint("use up to 63 letters, digits, - _ and ., with a letter or digit at both ends"));
    }
    let directory = args.directory.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    let identity = NewIdentity::begin(&directory)?;
    let certificate = match certified(args, &identity, session).await {
        Ok(certificate) => certificate,
        Err(failure) => {
            identity.give_up();
            return Err(failure);
        }
    };
    identity.keep(&certificate)?;
    match session.globals.format {
        Format::Json => session.json(&Created { operator: certificate.operator, directory }),
        Format::Table => session.line(&directory.display().to_string()),
    }
}

async fn certified<M: Manager>(
    args: &Args,
    identity: &NewIdentity,
    session: &mut Session<'_, M>,
) -> Result<OperatorCertificate, Failure> {
    let role = match args.role {
        Role::Viewer => OperatorRole::Viewer,
        Role::Operator => OperatorRole::Operator,
        Role::Admin => OperatorRole::Admin,
    };
    let request = CreateOperatorRequest {
        id: (session.env.command_ids)(),
        reason: session.globals.reason.clone(),
        name: args.name.clone(),
        role: role.into(),
        csr_pem: identity.request_pem()?,
    };
    session.manager.create_operator(request).await
}
