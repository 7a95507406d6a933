//! Configs.

use events::spec::FileReference;
use wire::v1::ConfigView;

use super::age;
use super::block::Block;
use super::table::Table;
use super::view::View;
use crate::values::size;

/// A list of configs.
pub fn table(configs: &[ConfigView], view: View) -> String {
    let mut table = Table::new(&["ID", "NAME", "REVISION", "SIZE", "CREATED", "UPDATED"]);
    for config in configs {
        table.row([
            config.id.to_string(),
            config.spec.name().to_owned(),
            config.revisions.last().map_or_else(String::new, |newest| newest.revision.to_string()),
            size::show(config.bytes),
            age::ago(config.meta.created_at, view.now),
            age::ago(config.meta.updated_at, view.now),
        ]);
    }
    table.render(view.width)
}

/// One config, with its data if that is text.
pub fn block(config: &ConfigView, view: View) -> String {
    let mut block = Block::default();
    let named = config.spec.annotations();
    block.field("ID", config.id).field("Name", &named.name);
    block.each("Label", named.labels.iter().map(|(key, value)| format!("{key}={value}")));
    block.optional("Template driver", &config.spec.template_driver);
    let ago = |time| age::ago(time, view.now);
    block.field("Size", size::show(config.bytes)).field("Created", ago(config.meta.created_at));
    block.field("Updated", ago(config.meta.updated_at));
    block.each("Revision", config.revisions.iter().map(|of| format!("{} ({})", of.revision, ago(of.created_at))));
    block.each("Service", config.services.iter().cloned());
    match std::str::from_utf8(config.data.as_deref().unwrap_or_default()) {
        Ok(text) => block.each("Data", text.lines().map(str::to_owned)),
        Err(_) => block.field("Data", "not text: `--format json` shows its bytes"),
    };
    block.render(view.width)
}

/// A config or a secret in a container: `web.conf at /etc/web.conf, mode 0444`, with its owner if that is not root.
pub fn reference(of: &dyn FileReference) -> String {
    let owner = match of.owner() {
        Some((0, 0)) | None => String::new(),
        Some((uid, gid)) => format!(", owner {uid}:{gid}"),
    };
    format!("{} at {}, mode {:04o}{owner}", of.name(), of.path(), of.mode())
}

/// The revision that tasks get, and whether it is pinned: `, revision 2 (pinned)`.
pub fn revision(revision: u64, pinned: bool) -> String {
    format!(", revision {revision}{}", if pinned { " (pinned)" } else { "" })
}
