//! The required freshness of the state that a manager reads from. It is sent as metadata of each read, because it is the same
//! for all of them.

use tonic::metadata::{MetadataMap, MetadataValue};

use crate::v1::{Refusal, RefusalKind};

/// Set if the current state of the responding manager is sufficient.
const STALE: &str = "swarmlog-stale";
/// The index of a frame that the state must include.
const MIN_INDEX: &str = "swarmlog-min-index";
/// The index of the frame after which the past state is read.
const AT: &str = "swarmlog-at";

/// The required freshness of a read. By default it is linearizable: the state includes everything acknowledged before the
/// request, by any manager.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freshness {
    /// The current state of the responding manager is sufficient. It may lag behind without bound.
    pub stale: bool,
    /// The index of a frame that the client has seen, which the state must include.
    pub min_index: Option<u64>,
    /// Read the past state after this frame.
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
    /// When a value is malformed.
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
