//! What registries say, asked through the engine: it knows their addresses, certificates and mirrors.

use bollard::Docker;
use http::HeaderValue;

use super::engine::Engine;
use crate::agent::executor::{ExecutorError, RegistryAuth};

/// A client whose requests carry the credentials, if there are any.
///
/// # Errors
/// Fatal when they cannot be sent.
pub(super) fn with_credentials(docker: Docker, auth: Option<&RegistryAuth>) -> Result<Docker, ExecutorError> {
    let Some(auth) = auth else { return Ok(docker) };
    // Not through bollard's credentials: it encodes them in the alphabet of base64 that engines do not read.
    let mut header = HeaderValue::from_str(&auth.0)
        .map_err(|_| ExecutorError::Fatal("the registry credentials of the service are malformed".into()))?;
    header.set_sensitive(true);
    Ok(docker.with_request_modifier(move |mut request| {
        request.headers_mut().insert("X-Registry-Auth", header.clone());
        request
    }))
}

/// The digest that the tag of an image has at its registry.
///
/// # Errors
/// In the engine's words when the registry refuses or cannot be reached.
pub(super) async fn digest(engine: &Engine, image: &str, auth: Option<&RegistryAuth>) -> Result<String, ExecutorError> {
    let docker = with_credentials(engine.client()?.clone(), auth)?;
    let found = docker.inspect_registry_image(image, None).await.map_err(|error| engine.judge(error))?;
    found.descriptor.digest.ok_or_else(|| ExecutorError::Fatal("the registry names no digest".into()))
}
