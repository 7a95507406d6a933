//! Resolves the tag of an image to its digest once, so that all tasks run the same image even if the tag moves.

use events::{Platform, SecretText, ServiceSpec};
use wire::v1::{ResolveImageRequest, ServiceView};

use super::{container, task};
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::image;

/// Resolves the tag of the spec's image to its current digest, and adds the platforms of the image to the placement unless
/// platforms are set. If the tag cannot be resolved, the image stays unchanged, with a note; an image that the service runs
/// already keeps its digest.
///
/// # Errors
/// When the manager does not answer.
pub async fn pin<M: Manager>(
    spec: &mut ServiceSpec,
    present: Option<&ServiceView>,
    auth: Option<&SecretText>,
    session: &mut Session<'_, M>,
) -> Result<(), Failure> {
    let given = container(spec).image.clone();
    if given.is_empty() || image::has_digest(&given) {
        return Ok(());
    }
    let tagged = image::with_tag(&given);
    let request = ResolveImageRequest {
        image: tagged.clone(),
        registry_auth: auth.map(|auth| auth.0.clone()),
        // A service that an earlier line of a script creates has no credentials yet.
        service: present.map(|service| service.id.to_string()).filter(|id| !session.tentative.contains(id)),
    };
    let resolved = session.manager.resolve_image(request).await?;
    if let Some(image) = resolved.image {
        container(spec).image = image;
        name_platforms(spec, &resolved.platforms);
    }
    let Some(problem) = resolved.problem else { return Ok(()) };
    let running = present.map_or("", |service| service.spec.template().container().image.as_str());
    if image::has_digest(running) && image::without_digest(running) == tagged {
        running.clone_into(&mut container(spec).image);
        let known = present.map_or(&[][..], |service| &service.spec.template().placement().platforms);
        name_platforms(spec, known);
        return session.note(&format!("image {given} keeps its digest, the present one is not known: {problem}"));
    }
    let meaning = "has no digest, so nodes may run different versions of it";
    session.note(&format!("image {given} {meaning}: {problem}; --no-resolve-image does not ask for it"))
}

/// Restricts placement to these platforms, unless the spec names some.
fn name_platforms(spec: &mut ServiceSpec, platforms: &[Platform]) {
    let is_named = !spec.template().placement().platforms.is_empty();
    if !is_named && !platforms.is_empty() {
        task(spec).placement.get_or_insert_default().platforms = platforms.to_vec();
    }
}
