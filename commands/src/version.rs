//! Optimistic updates: a change names the version that it was made from.

use crate::Rejection;

/// Refuses a change that was made from another version than the present one. Without a version anything goes.
///
/// # Errors
/// Conflict, naming both versions.
pub(crate) fn in_sequence(subject: &str, present: u64, named: Option<u64>) -> Result<(), Rejection> {
    match named {
        Some(version) if version != present => {
            let sentence = format!(
                "update out of sequence: {subject} is at version {present}, the change was made from version {version}"
            );
            let hint = format!("look at {subject} again, and repeat the change on its current version, {present}");
            Err(Rejection::conflict(subject, sentence, hint))
        }
        Some(_) | None => Ok(()),
    }
}
