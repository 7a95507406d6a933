//! The encoding of a raft entry: a version byte, the length of the frame, the frame, and the volatile section.
//!
//! The frame's bytes are stored in history unchanged; the volatile section (secrets) is stored in the keyring and nowhere else.

use std::fmt;

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message};

use crate::schema::{Frame, VolatilePayload, VolatileSection};
use crate::{Kind, frame};

const VERSION: u8 = 1;
/// The field number of [`Frame::events`] in the schema.
const EVENTS: u32 = 3;
const HEADER_BYTES: usize = 5;

/// Why bytes are not a valid entry, or not one for this build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodecError {
    /// Fewer bytes than the entry states.
    Truncated,
    /// Written in a format that this build does not support.
    Version(u8),
    /// Not a valid protobuf message.
    Malformed(String),
    /// Contains an event that this build does not support and may not skip.
    NeedsFeatureLevel {
        /// The required level.
        level: u32,
        /// The frame's index.
        index: u64,
    },
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "the entry is truncated"),
            Self::Version(version) => write!(f, "the entry has format {version}, this build reads format {VERSION}"),
            Self::Malformed(why) => write!(f, "the entry is damaged: {why}"),
            Self::NeedsFeatureLevel { level, index } => {
                write!(f, "frame {index} needs feature level {level}, this build has {}", frame::FEATURE_LEVEL)
            }
        }
    }
}

impl std::error::Error for CodecError {}

/// The two sections of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sections<'a> {
    /// The frame's stored bytes.
    pub frame: &'a [u8],
    /// The encoded [`VolatileSection`].
    pub volatile: &'a [u8],
}

/// Encodes an entry with these contents.
pub fn encode_entry(frame: &Frame, volatile: Vec<VolatilePayload>) -> Vec<u8> {
    let section = VolatileSection { payloads: volatile };
    let frame_bytes = frame.encoded_len();
    let mut entry = Vec::with_capacity(HEADER_BYTES + frame_bytes + section.encoded_len());
    entry.push(VERSION);
    entry.extend_from_slice(&u32::try_from(frame_bytes).unwrap_or(u32::MAX).to_le_bytes());
    // In place: there is room, and a separate buffer would be one more copy of the secrets.
    for encoded in [frame.encode(&mut entry), section.encode(&mut entry)] {
        encoded.expect("a vector takes all that is encoded");
    }
    entry
}

/// Splits an entry without decoding its sections.
///
/// # Errors
/// When the entry is truncated or has another format.
pub fn split_entry(entry: &[u8]) -> Result<Sections<'_>, CodecError> {
    let (&version, rest) = entry.split_first().ok_or(CodecError::Truncated)?;
    if version != VERSION {
        return Err(CodecError::Version(version));
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(CodecError::Truncated)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| CodecError::Truncated)?;
    let (frame, volatile) = rest.split_at_checked(length).ok_or(CodecError::Truncated)?;
    Ok(Sections { frame, volatile })
}

/// Decodes a frame; unknown events are dropped if their writer marked them ignorable.
///
/// # Errors
/// When the bytes are damaged, or contain an unknown event that may not be skipped.
pub fn decode_frame(stored: &[u8]) -> Result<Frame, CodecError> {
    let mut frame = Frame::decode(stored).map_err(malformed)?;
    let unknown = frame.events.iter().any(|event| event.kind.is_none() && event.ignorable != Some(true));
    if unknown || frame.header.format > frame::FORMAT {
        return Err(CodecError::NeedsFeatureLevel { level: frame.header.feature_level, index: frame.header.index });
    }
    frame.events.retain(|event| event.kind.is_some());
    Ok(frame)
}

/// Whether a frame has an event of one of these kinds, by their [numbers](crate::catalogue::NUMBERS). Nothing is decoded, so that
/// a reader that needs few events skips the others at a tenth of the cost.
///
/// # Errors
/// When the bytes are damaged.
pub fn has_kind(stored: &[u8], numbers: &[u32]) -> Result<bool, CodecError> {
    let mut frame = stored;
    while !frame.is_empty() {
        let (number, wire_type) = decode_key(&mut frame).map_err(malformed)?;
        if (number, wire_type) != (EVENTS, WireType::LengthDelimited) {
            skip_field(wire_type, number, &mut frame, DecodeContext::default()).map_err(malformed)?;
            continue;
        }
        let length = decode_varint(&mut frame).map_err(malformed)?;
        let length = usize::try_from(length).map_err(|_| CodecError::Truncated)?;
        let (event, rest) = frame.split_at_checked(length).ok_or(CodecError::Truncated)?;
        if is_kind(event, numbers)? {
            return Ok(true);
        }
        frame = rest;
    }
    Ok(false)
}

fn is_kind(mut event: &[u8], numbers: &[u32]) -> Result<bool, CodecError> {
    while !event.is_empty() {
        let (number, wire_type) = decode_key(&mut event).map_err(malformed)?;
        if numbers.contains(&number) {
            return Ok(true);
        }
        skip_field(wire_type, number, &mut event, DecodeContext::default()).map_err(malformed)?;
    }
    Ok(false)
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` calls")]
fn malformed(error: DecodeError) -> CodecError {
    CodecError::Malformed(error.to_string())
}

/// Decodes a volatile section.
///
/// # Errors
/// When the bytes are damaged.
pub fn decode_volatile(section: &[u8]) -> Result<Vec<VolatilePayload>, CodecError> {
    let section = VolatileSection::decode(section).map_err(malformed)?;
    Ok(section.payloads)
}

/// The kinds of a frame's events, in order.
pub fn kinds(frame: &Frame) -> impl Iterator<Item = &Kind> {
    frame.events.iter().filter_map(|event| event.kind.as_ref())
}
