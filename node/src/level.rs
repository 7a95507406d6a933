//! The highest feature level that this process knows: that of its build.

use std::sync::OnceLock;

use events::frame::FEATURE_LEVEL;

static LEVEL: OnceLock<u32> = OnceLock::new();

/// The highest feature level that this process knows.
pub fn feature_level() -> u32 {
    *LEVEL.get_or_init(|| FEATURE_LEVEL)
}

/// Makes this process know no more than an older build did. Upgrades are tested with a program that begins with this.
///
/// # Panics
/// When the level was asked for already: then somebody may have said it.
pub fn know_only(level: u32) {
    assert!(LEVEL.set(level).is_ok(), "the feature level of this process is in use");
}
