//! How new the state has to be that a manager reads for an answer. It travels with each read as metadata of the call, as it is the
//! same for all of them.

use tonic::metadata::{MetadataMap, MetadataValue};

use crate::v1::{Refusal, RefusalKind};

/// Present: the state as it is at the manager that is asked will do.
const STALE: &str = "swarmlog-stale";
/// The index of a frame that the state has to hold.
const MIN_INDEX: &str = "swarmlog-min-index";
/// The index of the frame after which the state is wanted as it was.
const AT: &str = "swarmlog-at";

/// How new the state has to be that is read. By default it holds everything that was acknowledged before the question, by
/// whichever manager.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freshness {
    /// Whether the state as it is at the manager that is asked will do. It may be older, without a bound.
    pub stale: bool,
    /// The index of a frame that the client knows of, and the state has to hold.
    pub min_index: Option<u64>,
    /// The state is wanted as it was after this frame.
    pub at: Option<u64>,
}

impl Freshness {
    /// Writes it to a call's metadata.
    pub fn write(self, metadata: &mut MetadataMap) {
        if self.stale {
            metadata.insert(STALE, MetadataValue::from_static("true"));
        }
        if let Some(index) = self.min_index {
            metadata.insert(MIN_INDEX, MetadataValue::from(index));
        }
        if let Some(index) = self.at {
            metadata.insert(AT, MetadataValue::from(index));
        }
    }

    /// Reads it from a call's metadata.
    ///
    /// # Errors
    /// When it says something else than it may.
    pub fn read(metadata: &MetadataMap) -> Result<Self, Refusal> {
        let min_index = index(metadata, MIN_INDEX)?;
        Ok(Self { stale: metadata.contains_key(STALE), min_index, at: index(metadata, AT)? })
    }
}

fn index(metadata: &MetadataMap, key: &str) -> Result<Option<u64>, Refusal> {
    let Some(value) = metadata.get(key) else { return Ok(None) };
    let index = value.to_str().ok().and_then(|text| text.parse().ok());
    index.map(Some).ok_or_else(|| Refusal {
        kind: RefusalKind::Invalid.into(),
        subject: key.to_owned(),
        sentence: format!("the index in {key} is not a number"),
        hint: Some("use the swarmctl of this version".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (stale, min_index) in [(false, None), (true, None), (false, Some(0)), (true, Some(u64::MAX))] {
            let (freshness, mut metadata) = (Freshness { stale, min_index, at: min_index }, MetadataMap::new());
            freshness.write(&mut metadata);
            assert_eq!(Freshness::read(&metadata), Ok(freshness));
        }
        for key in [MIN_INDEX, AT] {
            let mut metadata = MetadataMap::new();
            metadata.insert(key, MetadataValue::from_static("soon"));
            assert_eq!(Freshness::read(&metadata).map_err(|refusal| refusal.kind()), Err(RefusalKind::Invalid));
        }
    }
}
