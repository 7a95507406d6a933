//! Queries registries through the engine, which has their addresses, certificates and mirrors configured.

use bollard::Docker;
use events::Platform;
use http::HeaderValue;

use super::engine::Engine;
use crate::agent::executor::{ExecutorError, ImageFacts, RegistryAuth};

/// Maximum platforms per image.
const PLATFORMS_MAX: usize = 32;
/// What a registry states for entries that are not images.
const UNKNOWN: &str = "unknown";
/// An architecture whose name differs between images and nodes.
const ARM: &str = "arm";

/// A client whose requests carry the credentials, if there are any.
///
/// # Errors
/// Fatal when they cannot be sent.
pub(super) fn with_credentials(docker: Docker, auth: Option<&RegistryAuth>) -> Result<Docker, ExecutorError> {
    let Some(auth) = auth else { return Ok(docker) };
    // Not through bollard's credentials: it encodes them in a base64 alphabet that engines do not accept.
    let mut header = HeaderValue::from_str(&auth.0)
        .map_err(|_| ExecutorError::Fatal("the registry credentials of the service are malformed".into()))?;
    header.set_sensitive(true);
    Ok(docker.with_request_modifier(move |mut request| {
        request.headers_mut().insert("X-Registry-Auth", header.clone());
        request
    }))
}

/// What the registry reports about an image.
///
/// # Errors
/// The engine's message when the registry refuses or cannot be reached.
pub(super) async fn image(
    engine: &Engine,
    image: &str,
    auth: Option<&RegistryAuth>,
) -> Result<ImageFacts, ExecutorError> {
    let docker = with_credentials(engine.client()?.clone(), auth)?;
    let found = docker.inspect_registry_image(image, None).await.map_err(|error| engine.judge(error))?;
    let digest = found.descriptor.digest;
    let digest = digest.ok_or_else(|| ExecutorError::Fatal("the registry reports no digest".into()))?;
    let platforms =
        found.platforms.into_iter().map(|of| (of.os.unwrap_or_default(), of.architecture.unwrap_or_default()));
    Ok(ImageFacts { digest, platforms: platforms_of(platforms) })
}

/// The platforms that a node can have. Entries that describe an image (attestations) have an unknown platform and are skipped.
/// Nodes report their ARM variant (`armv7l`) and images do not, so any variant matches, as in Docker's own client.
fn platforms_of(said: impl Iterator<Item = (String, String)>) -> Vec<Platform> {
    let mut platforms = Vec::new();
    for (os, architecture) in said.filter(|(os, architecture)| os != UNKNOWN && architecture != UNKNOWN) {
        let architecture = if architecture == ARM { String::new() } else { architecture };
        let platform = Platform { os, architecture };
        if !platforms.contains(&platform) && platforms.len() < PLATFORMS_MAX {
            platforms.push(platform);
        }
    }
    platforms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_those_that_nodes_have() {
        let said =
            [("linux", "amd64"), ("linux", "arm"), ("linux", "arm"), ("unknown", "unknown"), ("windows", "amd64")];
        let said = said.map(|(os, architecture)| (os.to_owned(), architecture.to_owned()));
        let platforms = platforms_of(said.into_iter());
        let known: Vec<_> = platforms.iter().map(|of| (of.os.as_str(), of.architecture.as_str())).collect();
        assert_eq!(known, [("linux", "amd64"), ("linux", ""), ("windows", "amd64")]);
        let many = (0..1_000).map(|number| ("linux".to_owned(), number.to_string()));
        assert_eq!(platforms_of(many).len(), PLATFORMS_MAX);
    }
}
