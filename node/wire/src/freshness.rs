//! How new the state has to be that a manager reads for an answer. It travels with each read as metadata of the call, as it is the
//! same for all of them.

use tonic::metadata::{MetadataMap, MetadataValue};

use crate::v1::{Refusal, RefusalKind};

/// Present: the state as it is at the manager that is asked will do.
const STALE: &str = "swarmlog-stale";
/// The index of a frame that the state has to hold.
const MIN_INDEX: &str = "swarmlog-min-index";

/// How new the state has to be that is read. By default it holds everything that was acknowledged before the question, by
/// whichever manager.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freshness {
    /// Whether the state as it is at the manager that is asked will do. It may be older, without a bound.
    pub stale: bool,
    /// The index of a frame that the client knows of, and the state has to hold.
    pub min_index: Option<u64>,
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
    }

    /// Reads it from a call's metadata.
    ///
    /// # Errors
    /// When it says something else than it may.
    pub fn read(metadata: &MetadataMap) -> Result<Self, Refusal> {
        let min_index = metadata.get(MIN_INDEX).map(|value| {
            let index = value.to_str().ok().and_then(|text| text.parse().ok());
            index.ok_or_else(|| Refusal {
                kind: RefusalKind::Invalid.into(),
                subject: MIN_INDEX.to_owned(),
                sentence: "the index that the state has to hold is not a number".to_owned(),
                hint: Some("use the swarmctl of this version".to_owned()),
            })
        });
        Ok(Self { stale: metadata.contains_key(STALE), min_index: min_index.transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (stale, min_index) in [(false, None), (true, None), (false, Some(0)), (true, Some(u64::MAX))] {
            let (freshness, mut metadata) = (Freshness { stale, min_index }, MetadataMap::new());
            freshness.write(&mut metadata);
            assert_eq!(Freshness::read(&metadata), Ok(freshness));
        }
        let mut metadata = MetadataMap::new();
        metadata.insert(MIN_INDEX, MetadataValue::from_static("soon"));
        assert_eq!(Freshness::read(&metadata).map_err(|refusal| refusal.kind()), Err(RefusalKind::Invalid));
    }
}
