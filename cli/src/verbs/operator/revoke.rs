//! `swarmctl operator revoke`.

use wire::v1::RevokeOperator;
use wire::v1::command_request::Command;

use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// Revoke the certificates of operators, on every manager at once
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Operators: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "OPERATOR")]
    operators: Vec<String>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    for operator in &args.operators {
        let revoke = RevokeOperator { operator: operator.clone() };
        session.execute_and_print(Command::RevokeOperator(revoke), operator).await?;
    }
    Ok(())
}
