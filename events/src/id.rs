//! Identities: one newtype per noun, 128 bits, formatted as 25 characters of base 36 like SwarmKit's, as Docker's clients expect.

use std::fmt;
use std::hash::Hash;
use std::str::FromStr;

use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::Timestamp;

/// Characters of an id's text: 36^25 is the first power of 36 above 2^128.
pub const TEXT_LENGTH: usize = 25;

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// The common operations of all ids.
pub trait Id: Copy + Ord + Hash + Default + fmt::Display + fmt::Debug + FromStr<Err = ParseIdError> + 'static {
    /// The noun, for messages: "node".
    const NOUN: &'static str;
    /// The id with these bits.
    fn from_bits(bits: u128) -> Self;
    /// The id's bits.
    fn bits(self) -> u128;
}

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseIdError {
    noun: &'static str,
    text: String,
}

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not a {} id: expected {TEXT_LENGTH} characters 0-9 and a-z", self.text, self.noun)
    }
}

impl std::error::Error for ParseIdError {}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $noun:literal;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        // Aligned to 16 bytes, an optional id would take 32; a cluster holds several ids for each of a million tasks.
        #[repr(C, packed(8))]
        pub struct $name(u128);

        impl $name {
            /// The greatest id.
            pub const MAX: Self = Self(u128::MAX);
        }

        impl Id for $name {
            const NOUN: &'static str = $noun;
            fn from_bits(bits: u128) -> Self { Self(bits) }
            fn bits(self) -> u128 { self.0 }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(encode(self.0, &mut [0; TEXT_LENGTH])) }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(self, f) }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                decode(text).map(Self).ok_or_else(|| ParseIdError { noun: $noun, text: text.to_owned() })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.to_le_bytes().serialize(serializer) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
                } else {
                    <[u8; 16]>::deserialize(deserializer).map(u128::from_le_bytes).map(Self)
                }
            }
        }

        impl prost::Message for $name {
            fn encode_raw(&self, buf: &mut impl BufMut) {
                prost::encoding::fixed64::encode(1, &((self.0 >> 64) as u64), buf);
                prost::encoding::fixed64::encode(2, &(self.0 as u64), buf);
            }
            fn merge_field(&mut self, tag: u32, wire: WireType, buf: &mut impl Buf, ctx: DecodeContext)
                -> Result<(), prost::DecodeError> {
                let mut half = 0u64;
                match tag {
                    1 => {
                        prost::encoding::fixed64::merge(wire, &mut half, buf, ctx)?;
                        self.0 = (u128::from(half) << 64) | (self.0 & u128::from(u64::MAX));
                        Ok(())
                    }
                    2 => {
                        prost::encoding::fixed64::merge(wire, &mut half, buf, ctx)?;
                        self.0 = (self.0 & !u128::from(u64::MAX)) | u128::from(half);
                        Ok(())
                    }
                    _ => prost::encoding::skip_field(wire, tag, buf, ctx),
                }
            }
            fn encoded_len(&self) -> usize { 18 }
            fn clear(&mut self) { self.0 = 0; }
        }
    )* };
}

ids! {
    /// A cluster.
    ClusterId "cluster";
    /// One command, with an id chosen by its client.
    CommandId "command";
    /// A config.
    ConfigId "config";
    /// A node of the cluster.
    NodeId "node";
    /// An operator with a certificate.
    OperatorId "operator";
    /// A secret.
    SecretId "secret";
    /// A service.
    ServiceId "service";
    /// One connection of an agent to the cluster.
    SessionId "session";
    /// A sink of history.
    SinkId "sink";
    /// A task.
    TaskId "task";
}

/// Leading bits shared by the ids of one frame. Objects created together are changed together: their rows are adjacent in the
/// tables, so that a turn copies a tenth of the tree nodes that it would with scattered ids. So three characters of the text are
/// equal, too few to matter for id prefixes.
const SHARED_BITS: u32 = 16;

/// Generates the ids of one turn: a hash of the cluster, the frame's index, a counter and a salt, so that the core needs no
/// randomness. The first bits are those of the frame's first id.
#[derive(Debug, Clone)]
pub struct IdGenerator {
    cluster: ClusterId,
    frame_index: u64,
    issued: u64,
    salt: Option<[u8; 32]>,
    shared: Option<u128>,
}

impl IdGenerator {
    /// The generator for the frame with index `frame_index`.
    pub fn new(cluster: ClusterId, frame_index: u64) -> Self {
        Self { cluster, frame_index, issued: 0, salt: None, shared: None }
    }

    /// The same with a salt that no other frame with this index has. A log that was restored from a backup reaches the same
    /// indexes again; the workers that kept running have tasks with the ids from the first time. The epoch is drawn by each run
    /// of a manager, the hash is that of the previous frame, and the time distinguishes the first frames after a whole machine
    /// was restored.
    #[must_use]
    pub fn salted(self, epoch: u64, previous: Option<&[u8; 32]>, time: Timestamp) -> Self {
        let digest = Sha256::new()
            .chain_update(epoch.to_le_bytes())
            .chain_update(time.unix_ns().to_le_bytes())
            .chain_update(previous.map_or(&[][..], |hash| &hash[..]))
            .finalize();
        Self { salt: Some(digest.into()), ..self }
    }

    /// The next id.
    #[allow(clippy::should_implement_trait, reason = "ids never run out, and each call chooses its noun")]
    pub fn next<I: Id>(&mut self) -> I {
        self.issued += 1;
        let digest = Sha256::new()
            .chain_update(self.cluster.bits().to_le_bytes())
            .chain_update(self.frame_index.to_le_bytes())
            .chain_update(self.issued.to_le_bytes())
            .chain_update(self.salt.as_ref().map_or(&[][..], |salt| &salt[..]))
            .finalize();
        let mut bits = [0; 16];
        bits.copy_from_slice(&digest[..16]);
        let bits = u128::from_le_bytes(bits);
        let shared = *self.shared.get_or_insert(bits);
        I::from_bits(shared_prefix(shared) | (bits & !shared_prefix(u128::MAX)))
    }
}

/// The bits shared by the ids of one frame.
const fn shared_prefix(bits: u128) -> u128 {
    bits >> (u128::BITS - SHARED_BITS) << (u128::BITS - SHARED_BITS)
}

/// The range of ids whose text starts with `prefix`; `None` if no id can.
pub fn prefix_range<I: Id>(prefix: &str) -> Option<(I, I)> {
    if prefix.is_empty() || prefix.len() > TEXT_LENGTH {
        return None;
    }
    let low = format!("{prefix:0<TEXT_LENGTH$}");
    let high = format!("{prefix:z<TEXT_LENGTH$}");
    let last = if prefix.bytes().all(|digit| DIGITS.contains(&digit)) {
        decode(&high).unwrap_or(u128::MAX)
    } else {
        return None;
    };
    Some((I::from_bits(decode(&low)?), I::from_bits(last)))
}

fn encode(mut bits: u128, text: &mut [u8; TEXT_LENGTH]) -> &str {
    // Twelve digits fit into 64 bits: one 128-bit division costs as much as all of theirs.
    const CHUNK: usize = 12;
    const BASE: u128 = 36u128.pow(CHUNK as u32);
    for chunk in text.rchunks_mut(CHUNK) {
        let mut low = (bits % BASE) as u64;
        bits /= BASE;
        for digit in chunk.iter_mut().rev() {
            *digit = DIGITS[(low % 36) as usize];
            low /= 36;
        }
    }
    std::str::from_utf8(text).unwrap_or_default()
}

fn decode(text: &str) -> Option<u128> {
    if text.len() != TEXT_LENGTH {
        return None;
    }
    text.bytes().try_fold(0u128, |bits, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'z' => byte - b'a' + 10,
            _ => return None,
        };
        bits.checked_mul(36)?.checked_add(u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn text_round_trips_at_both_ends() {
        for bits in [0, 1, 35, 36, u128::MAX] {
            let id = NodeId::from_bits(bits);
            assert_eq!(id.to_string().len(), TEXT_LENGTH);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn wire_form_round_trips() {
        let id = TaskId::from_bits(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210);
        assert_eq!(TaskId::decode(id.encode_to_vec().as_slice()), Ok(id));
        assert_eq!(id.encoded_len(), id.encode_to_vec().len());
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "abc", "zzzzzzzzzzzzzzzzzzzzzzzzz", "0000000000000000000000000A"] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_prefix_spans_exactly_the_ids_that_start_with_it() {
        let mut ids = IdGenerator::new(ClusterId::from_bits(7), 1);
        let all: Vec<TaskId> = (0..500).map(|_| ids.next()).collect();
        for prefix in ["0", "a", "7", "9z", "f5l"] {
            let Some((low, high)) = prefix_range::<TaskId>(prefix) else { continue };
            for id in &all {
                assert_eq!((low..=high).contains(id), id.to_string().starts_with(prefix), "{id} {prefix}");
            }
        }
        assert_eq!(prefix_range::<TaskId>("A"), None);
    }

    #[test]
    fn ids_of_a_frame_are_neighbours_and_those_of_others_are_not() {
        let of_frame = |frame| {
            let mut ids = IdGenerator::new(ClusterId::from_bits(7), frame);
            (0..100).map(|_| ids.next::<TaskId>()).collect::<std::collections::BTreeSet<TaskId>>()
        };
        let beginnings: Vec<_> = (0..100).map(of_frame).collect();
        for ids in &beginnings {
            assert_eq!(ids.len(), 100, "all are different");
            let first: std::collections::BTreeSet<u128> = ids.iter().map(|id| shared_prefix(id.bits())).collect();
            assert_eq!(first.len(), 1);
        }
        let first: std::collections::BTreeSet<u128> =
            beginnings.iter().flatten().map(|id| shared_prefix(id.bits())).collect();
        assert!(first.len() > 95, "{} beginnings", first.len());
    }

    #[test]
    fn generators_of_the_same_frame_agree() {
        let ids = |frame| IdGenerator::new(ClusterId::from_bits(7), frame).next::<TaskId>();
        assert_eq!(ids(4), ids(4));
        assert_ne!(ids(4), ids(5));
    }

    #[test]
    fn frames_of_the_same_index_in_two_futures_share_no_id() {
        let time = Timestamp::from_unix_ns;
        let futures = [
            (1, None, time(5)),
            (2, None, time(5)),
            (1, Some([1; 32]), time(5)),
            (1, Some([2; 32]), time(5)),
            (1, Some([1; 32]), time(6)),
        ];
        let mut seen = std::collections::BTreeSet::new();
        for (epoch, previous, time) in futures {
            let ids = || IdGenerator::new(ClusterId::from_bits(7), 4).salted(epoch, previous.as_ref(), time);
            let (mut first, mut again) = (ids(), ids());
            for _ in 0..100 {
                let id: TaskId = first.next();
                assert_eq!(id, again.next(), "the same future");
                assert!(seen.insert(id), "{epoch} {previous:?} {time}");
            }
        }
    }
}
