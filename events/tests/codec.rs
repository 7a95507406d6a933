//! Properties of the codec: what was written can be read back, and no input makes a reader panic.

mod support;

use events::catalogue::NUMBERS;
use events::codec::{decode_frame, decode_volatile, encode_entry, has_kind, kinds, split_entry};
use events::{CommandRecord, Event, Frame, FrameHeader, Id, Timestamp, VolatilePayload, frame};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::RngSeed;

/// The same cases in every run, so that a failure can be reproduced.
fn config() -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() }
}

fn any_header() -> impl Strategy<Value = FrameHeader> {
    (any::<u64>(), any::<i64>(), any::<u64>(), vec(any::<u8>(), 32), any::<Option<u128>>()).prop_map(
        |(index, ns, term, previous_hash, leader)| FrameHeader {
            format: frame::FORMAT,
            index,
            log_time: Timestamp::from_unix_ns(ns),
            feature_level: frame::FEATURE_LEVEL,
            previous_hash,
            leader: leader.map(Id::from_bits),
            term,
        },
    )
}

fn any_command() -> impl Strategy<Value = CommandRecord> {
    (any::<u128>(), ".*", any::<Option<String>>(), any::<Option<u64>>()).prop_map(|(id, kind, reason, causation)| {
        CommandRecord { id: Id::from_bits(id), kind, reason, causation, ..CommandRecord::default() }
    })
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let event = (any::<u16>(), select(support::samples()))
        .prop_map(|(position, kind)| Event::by_command(usize::from(position), kind));
    (any_header(), vec(any_command(), 0..4), vec(event, 0..12)).prop_map(|(header, commands, events)| Frame {
        header,
        commands,
        events,
    })
}

fn any_secrets() -> impl Strategy<Value = Vec<VolatilePayload>> {
    let payload = (".*", any::<Option<Vec<u8>>>()).prop_map(|(key, value)| VolatilePayload { key, value });
    vec(payload, 0..4)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_was_written_is_read(frame in any_frame(), secrets in any_secrets()) {
        let entry = encode_entry(&frame, secrets.clone());
        let sections = split_entry(&entry).expect("an entry");
        for (name, number) in NUMBERS {
            let is_there = kinds(&frame).any(|kind| kind.name() == *name);
            prop_assert_eq!(has_kind(sections.frame, &[*number]).expect("a frame"), is_there, "{}", name);
        }
        prop_assert_eq!(decode_frame(sections.frame).expect("a frame"), frame);
        prop_assert_eq!(decode_volatile(sections.volatile).expect("secrets"), secrets);
    }

    #[test]
    fn what_was_printed_is_read(frame in any_frame()) {
        let text = serde_json::to_string(&frame).expect("frames are plain data");
        prop_assert_eq!(serde_json::from_str::<Frame>(&text).expect("a frame"), frame);
    }

    #[test]
    fn an_entry_that_is_cut_short_or_damaged_is_refused_or_read(
        frame in any_frame(),
        secrets in any_secrets(),
        cut in any::<Index>(),
        damage in vec((any::<Index>(), any::<u8>()), 1..8),
    ) {
        let mut entry = encode_entry(&frame, secrets);
        read(&entry[..cut.index(entry.len())]);
        for (position, byte) in damage {
            let position = position.index(entry.len());
            entry[position] = byte;
        }
        read(&entry);
    }

    #[test]
    fn no_bytes_bring_a_reader_down(bytes in vec(any::<u8>(), 0..512)) {
        read(&bytes);
        let _ = (decode_frame(&bytes).is_ok(), decode_volatile(&bytes).is_ok(), has_kind(&bytes, &[10]).is_ok());
    }
}

/// Reads as much of an entry as possible.
fn read(entry: &[u8]) {
    if let Ok(sections) = split_entry(entry) {
        let _ = (decode_frame(sections.frame).is_ok(), decode_volatile(sections.volatile).is_ok());
    }
}
