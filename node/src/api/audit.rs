//! Checkpoints that the other managers sign too.

use tonic::Status;
use wire::v1::Cosigner;

use super::{Context, status};
use crate::control::Control;
use crate::control::audit::Signed;

/// A checkpoint of history as a manager has it, with the signatures of the others that answer and have the same. One that has another
/// history is an alarm: somebody rewrote one of the two.
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
                root,
                own_root,
                "another manager has another history: somebody rewrote one of the two"
            );
        }
    }
    Ok((signed, others))
}
