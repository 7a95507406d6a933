//! Checkpoints co-signed by the other managers, and their periodic comparison.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::Status;
use wire::v1::Cosigner;

use super::{Context, status};
use crate::control::Control;
use crate::control::audit::Signed;

/// How often the leading manager compares its history with that of the others.
const PERIOD: Duration = Duration::from_secs(3600);

/// Compares the history of the leading manager with that of the others once an hour, until `stop`, so that a rewritten history
/// is detected even if no client requests a checkpoint.
pub async fn compare_histories(context: Context, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
        if !context.state().leads {
            continue;
        }
        match cosigned(&context, context.control()).await {
            Ok((signed, _)) => tracing::debug!(index = signed.index, "the histories of the managers were compared"),
            Err(status) => tracing::warn!(error = status.message(), "the histories of the managers cannot be compared"),
        }
    }
}

/// A checkpoint of this manager's history, with the signatures of the responding managers with the same history. A manager with
/// a different history raises an alarm: one of the two was rewritten.
pub(super) async fn cosigned(context: &Context, control: Control) -> Result<(Signed, Vec<Cosigner>), Status> {
    let broken = |error: tokio::task::JoinError| Status::internal(error.to_string());
    let (signed, control) = {
        let signing = tokio::task::spawn_blocking(move || (control.checkpoint(None), control));
        let (signed, control) = signing.await.map_err(broken)?;
        (signed.map_err(status)?, control)
    };
    let answers = context.peering.checkpoints(signed.checkpoint.size, signed.index).await;
    let own_root = verify::verify::hex(&signed.checkpoint.root);
    let (signed, others) = control.cosign(signed, answers);
    for other in &others {
        if let Some(root) = &other.other_root {
            tracing::error!(
                manager = %other.node,
                frames = signed.checkpoint.size,
                "another manager has another history, with the root {root} and not {own_root}: one of the two was rewritten"
            );
        }
    }
    Ok((signed, others))
}
