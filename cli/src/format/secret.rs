//! Secrets.

use wire::v1::SecretView;

use super::age;
use super::block::Block;
use super::table::Table;
use super::view::View;

/// A list of secrets.
pub fn table(secrets: &[SecretView], view: View) -> String {
    let mut table = Table::new(&["ID", "NAME", "REVISION", "CREATED", "UPDATED"]);
    for secret in secrets {
        table.row([
            secret.id.to_string(),
            secret.spec.name().to_owned(),
            secret.revisions.last().map_or_else(String::new, |newest| newest.revision.to_string()),
            age::ago(secret.meta.created_at, view.now),
            age::ago(secret.meta.updated_at, view.now),
        ]);
    }
    table.render(view.width)
}

/// One secret, with its revisions and the services that use it.
pub fn block(secret: &SecretView, view: View) -> String {
    let mut block = Block::default();
    let (named, ago) = (secret.spec.annotations(), |time| age::ago(time, view.now));
    block.field("ID", secret.id).field("Name", &named.name);
    block.each("Label", named.labels.iter().map(|(key, value)| format!("{key}={value}")));
    block.optional("Template driver", &secret.spec.template_driver);
    block.field("Created", ago(secret.meta.created_at)).field("Updated", ago(secret.meta.updated_at));
    block.each("Revision", secret.revisions.iter().map(|of| format!("{} ({})", of.revision, ago(of.created_at))));
    block.each("Service", secret.services.iter().cloned());
    block.render(view.width)
}
