//! Optimistic concurrency: a change states the version that it is based on.

use projections::Cluster;
use projections::views::objects;

use crate::Rejection;

/// Rejects a change based on another version than the current one. A change without a version is always accepted.
///
/// # Errors
/// Conflict, with both versions.
pub(crate) fn require_version(subject: &str, present: u64, named: Option<u64>) -> Result<(), Rejection> {
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

/// An object as it was when a plan was made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ExpectedVersion {
    /// Its id.
    pub id: String,
    /// Its name in rejections, such as `service web`.
    pub subject: String,
    /// Its version then.
    pub version: u64,
}

/// Rejects a plan if an object that it is based on has changed.
///
/// # Errors
/// Conflict, with the first such object.
pub fn unchanged(state: &Cluster, seen: &[ExpectedVersion]) -> Result<(), Rejection> {
    for ExpectedVersion { id, subject, version } in seen {
        let sentence = match objects::find(state, id) {
            Some(object) if object.version == *version => continue,
            Some(object) => format!("{subject} was changed at index {}, after the plan was created", object.version),
            None => format!("{subject} was removed after the plan was created"),
        };
        return Err(Rejection::conflict(subject, sentence, "create the plan again"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    #[test]
    fn a_plan_holds_as_long_as_what_it_read_is_as_it_was() {
        let state = Fixture::initialised().state;
        let settings = ExpectedVersion {
            id: state.id().to_string(),
            subject: "cluster".to_owned(),
            version: state.settings.version,
        };
        assert_eq!(unchanged(&state, &[]), Ok(()));
        assert_eq!(unchanged(&state, std::slice::from_ref(&settings)), Ok(()));
        for other in [
            ExpectedVersion { version: 999, ..settings.clone() },
            ExpectedVersion { id: "gone".to_owned(), ..settings.clone() },
        ] {
            let refused = unchanged(&state, &[settings.clone(), other]).expect_err("it is not as it was");
            assert_eq!((refused.kind, refused.subject.as_str()), (crate::RejectionKind::Conflict, "cluster"));
        }
    }
}
