//! Declaration of the parts of the state: one list defines the fields of [`Cluster`](crate::Cluster), its hash, its snapshot and
//! the check of its indices.

use postcard::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

use crate::{Requests, Settings, Table};

/// A part of the state that events determine: it is covered by the state hash and contained in snapshots.
pub(crate) trait Part {
    /// The hash of all its rows.
    fn hash(&self) -> u64;

    /// Its rows in order, each encoded.
    fn rows(&self) -> Box<dyn Iterator<Item = Vec<u8>> + '_>;

    /// Decodes the row at the start of `bytes` and adds it; returns the remaining bytes.
    ///
    /// # Errors
    /// When there is no valid row of this part.
    fn read_row<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Error>;
}

impl<K, V> Part for Table<K, V>
where
    K: Ord + Copy + Serialize + DeserializeOwned,
    V: Clone + Serialize + DeserializeOwned,
{
    fn hash(&self) -> u64 {
        Table::hash(self)
    }

    fn rows(&self) -> Box<dyn Iterator<Item = Vec<u8>> + '_> {
        Box::new(self.iter().map(|row| encoded(&row)))
    }

    fn read_row<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Error> {
        let ((key, value), rest) = postcard::take_from_bytes(bytes)?;
        self.insert_read(key, value, &bytes[..bytes.len() - rest.len()]);
        Ok(rest)
    }
}

/// The settings are one row.
impl Part for std::sync::Arc<Settings> {
    fn hash(&self) -> u64 {
        xxh3_64(&encoded(&**self))
    }

    fn rows(&self) -> Box<dyn Iterator<Item = Vec<u8>> + '_> {
        Box::new(std::iter::once(encoded(&**self)))
    }

    fn read_row<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Error> {
        let (settings, rest) = postcard::take_from_bytes(bytes)?;
        *self = std::sync::Arc::new(settings);
        Ok(rest)
    }
}

/// The newest command represents all of them in the hash: the others follow from the frames.
impl Part for Requests {
    fn hash(&self) -> u64 {
        xxh3_64(&encoded(&self.newest()))
    }

    fn rows(&self) -> Box<dyn Iterator<Item = Vec<u8>> + '_> {
        Box::new(self.iter().map(|row| encoded(&row)))
    }

    fn read_row<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Error> {
        let ((key, answer), rest) = postcard::take_from_bytes(bytes)?;
        self.insert(key, answer);
        Ok(rest)
    }
}

fn encoded(row: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(row).expect("rows are plain data, which always encodes")
}

/// Declares the state: its parts, which events determine, and its indices, which are derived from the parts.
macro_rules! state {
    (
        $(#[$about:meta])*
        pub struct $state:ident
        parts { $($(#[$about_part:meta])* $part_visibility:vis $part:ident: $part_type:ty,)+ }
        indices { $($(#[$about_index:meta])* $index_visibility:vis $index:ident: $index_type:ty = $what:literal,)+ }
        derived by [$($derive:path),+ $(,)?]
    ) => {
        $(#[$about])*
        pub struct $state {
            $($(#[$about_part])* $part_visibility $part: $part_type,)+
            $($(#[$about_index])* $index_visibility $index: $index_type,)+
            /// The position in the log of this state.
            pub position: $crate::Stamp,
        }

        impl $state {
            /// The parts determined by events, by name.
            pub(crate) fn parts(&self) -> Vec<(&'static str, &dyn $crate::parts::Part)> {
                vec![$((stringify!($part), &self.$part)),+]
            }

            /// The part with this name, if there is one.
            pub(crate) fn part_mut(&mut self, name: &str) -> Option<&mut dyn $crate::parts::Part> {
                $(if name == stringify!($part) {
                    return Some(&mut self.$part);
                })+
                None
            }

            /// Derives all indices, on a state that has only parts.
            pub(crate) fn derive_indices(&mut self) {
                $($derive(self);)+
            }

            /// The indices that differ from those derived from the parts.
            pub(crate) fn inconsistent_indices(&self) -> Vec<&'static str> {
                let mut derived = Self { $($part: self.$part.clone(),)+ ..Self::default() };
                derived.derive_indices();
                let mut inconsistent = Vec::new();
                $(if self.$index != derived.$index {
                    inconsistent.push($what);
                })+
                inconsistent
            }
        }
    };
}

pub(crate) use state;
