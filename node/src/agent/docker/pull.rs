//! Pulls a missing image. Dropping the future cancels the request, and the engine cancels the pull; downloaded layers are kept,
//! so the next attempt continues from there.

use std::time::Duration;

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;

use super::engine::Engine;
use super::registry::with_credentials;
use crate::agent::executor::{ExecutorError, RegistryAuth};

/// A pull without progress for this long is cancelled and retried: the registry is unresponsive.
const STALL: Duration = Duration::from_secs(600);

/// Pulls an image.
///
/// # Errors
/// Fatal with the engine's message when the registry or the engine refuses, or the registry cannot be reached; Temporary when
/// the engine itself cannot be reached.
pub(super) async fn pull(engine: &Engine, image: &str, auth: Option<&RegistryAuth>) -> Result<(), ExecutorError> {
    let docker = with_credentials(engine.client_with_extra_time(STALL)?, auth)?;
    tracing::debug!(image, "pulling an image");
    let options = CreateImageOptionsBuilder::new().from_image(&reference(image)).build();
    let mut progress = docker.create_image(Some(options), None, None);
    loop {
        match tokio::time::timeout(STALL, progress.next()).await {
            Ok(Some(step)) => step.map(drop).map_err(|error| engine.judge(error))?,
            Ok(None) => return Ok(()),
            Err(_) => {
                return Err(ExecutorError::Temporary(format!("the pull of {image} made no progress for 10 minutes")));
            }
        }
    }
}

/// The image to pull: without a tag or digest the engine would pull every tag.
fn reference(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests {
    use super::reference;

    #[test]
    fn an_image_without_a_tag_is_the_latest_only() {
        for (image, wanted) in [
            ("nginx", "nginx:latest"),
            ("nginx:1", "nginx:1"),
            ("localhost:5000/nginx", "localhost:5000/nginx:latest"),
            ("localhost:5000/a/nginx:1", "localhost:5000/a/nginx:1"),
            ("nginx@sha256:00", "nginx@sha256:00"),
        ] {
            assert_eq!(reference(image), wanted);
        }
    }
}
