//! Converts messages between managers to and from the wire format.

use events::frame::FrameHash;
use wire::v1::{
    Beat as WireBeat, DiskSpace, ForwardedCall, ForwardedCommand, ForwardedOutcome, Head, HistoryFrame, HistoryPage,
    NodeUses, NotOffered, OfferedKeyring, PeerMessage as Wire, Presence, RaftMessage, Stand as WireStand,
    Standing as WireStanding, Uses, WantHistory, peer_message::Message,
};
use zeroize::Zeroizing;

use commands::space::Space;

use crate::control::views;
use crate::log::FrameLink;
use crate::manager::replica::{Beat, Call, MemberStatus, MembersStatus, PeerMessage, UsesOfNode};

/// Converts a message to the wire format.
pub fn to_wire(message: PeerMessage) -> Wire {
    let message = match message {
        PeerMessage::Raft(data) => Message::Raft(RaftMessage { data }),
        PeerMessage::WantHistory { after, to } => {
            Message::WantHistory(WantHistory { after: after.map(views::head), to })
        }
        PeerMessage::History { to, frames } => {
            let frames = frames.into_iter().map(|(index, stored)| HistoryFrame { index, stored });
            Message::History(HistoryPage { to, frames: frames.collect() })
        }
        PeerMessage::Secrets { at, secrets } => Message::Keyring(OfferedKeyring { at, payloads: secrets }),
        PeerMessage::NotOffered { at } => Message::NotOffered(NotOffered { at }),
        PeerMessage::Command { call, first, mut request } => {
            let request = std::mem::take(&mut *request);
            Message::Command(ForwardedCommand { call: call_to_wire(call), request, first: Some(first) })
        }
        PeerMessage::Resend { call } => Message::Resend(call_to_wire(call)),
        PeerMessage::Disk(Space { free_bytes, total_bytes }) => Message::Disk(DiskSpace { free_bytes, total_bytes }),
        PeerMessage::MembersStatus(members_status) => Message::Standing(members_status_to_wire(members_status)),
        PeerMessage::Outcome { call, outcome } => {
            Message::Outcome(ForwardedOutcome { call: call_to_wire(call), outcome })
        }
        PeerMessage::Presence(beats) => {
            let beats =
                beats.into_iter().map(|Beat { node, session, ticks_ago }| WireBeat { node, session, ticks_ago });
            Message::Presence(Presence { beats: beats.collect() })
        }
        PeerMessage::Uses(nodes) => {
            let nodes = nodes.into_iter().map(|UsesOfNode { node, session, tasks }| NodeUses { node, session, tasks });
            Message::Uses(Uses { nodes: nodes.collect() })
        }
    };
    Wire { message: Some(message) }
}

/// Converts a message from the wire format; `None` if its kind is unknown to this build, or it is malformed.
pub fn from_wire(message: Wire) -> Option<PeerMessage> {
    Some(match message.message? {
        Message::Raft(RaftMessage { data }) => PeerMessage::Raft(data),
        Message::WantHistory(WantHistory { after, to }) => {
            let after = match after {
                Some(head) => Some(link(&head)?),
                None => None,
            };
            PeerMessage::WantHistory { after, to }
        }
        Message::History(HistoryPage { to, frames }) => {
            let frames = frames.into_iter().map(|HistoryFrame { index, stored }| (index, stored));
            PeerMessage::History { to, frames: frames.collect() }
        }
        Message::Keyring(OfferedKeyring { at, payloads }) => PeerMessage::Secrets { at, secrets: payloads },
        Message::NotOffered(NotOffered { at }) => PeerMessage::NotOffered { at },
        Message::Command(mut command) => {
            let request = Zeroizing::new(std::mem::take(&mut command.request));
            let call = call_from_wire(std::mem::take(&mut command.call));
            PeerMessage::Command { call, first: command.first.unwrap_or(call.number), request }
        }
        Message::Resend(call) => PeerMessage::Resend { call: call_from_wire(call) },
        Message::Disk(DiskSpace { free_bytes, total_bytes }) => PeerMessage::Disk(Space { free_bytes, total_bytes }),
        Message::Standing(members_status) => PeerMessage::MembersStatus(members_status_from_wire(members_status)),
        Message::Outcome(ForwardedOutcome { call, outcome }) => {
            PeerMessage::Outcome { call: call_from_wire(call), outcome }
        }
        Message::Presence(Presence { beats }) => {
            let beats =
                beats.into_iter().map(|WireBeat { node, session, ticks_ago }| Beat { node, session, ticks_ago });
            PeerMessage::Presence(beats.collect())
        }
        Message::Uses(Uses { nodes }) => {
            let nodes = nodes.into_iter().map(|NodeUses { node, session, tasks }| UsesOfNode { node, session, tasks });
            PeerMessage::Uses(nodes.collect())
        }
    })
}

fn members_status_to_wire(MembersStatus { committed, members }: MembersStatus) -> WireStanding {
    let member =
        |MemberStatus { raft_id, matched, reachable, obstacle }| WireStand { raft_id, matched, reachable, obstacle };
    WireStanding { committed, members: members.into_iter().map(member).collect() }
}

fn members_status_from_wire(WireStanding { committed, members }: WireStanding) -> MembersStatus {
    let member =
        |WireStand { raft_id, matched, reachable, obstacle }| MemberStatus { raft_id, matched, reachable, obstacle };
    MembersStatus { committed, members: members.into_iter().map(member).collect() }
}

fn call_to_wire(Call { run, number }: Call) -> ForwardedCall {
    ForwardedCall { run, number }
}

fn call_from_wire(ForwardedCall { run, number }: ForwardedCall) -> Call {
    Call { run, number }
}

/// The last frame that a manager has, by its index and hash.
fn link(head: &Head) -> Option<FrameLink> {
    let digits = head.frame_hash.as_bytes();
    let mut hash = FrameHash::default();
    if digits.len() != 2 * hash.len() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(FrameLink { index: head.index, hash })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use events::{Id, VolatilePayload};

    use super::*;

    #[test]
    fn every_message_comes_over_as_it_was() {
        let frame = FrameLink { index: 7, hash: std::array::from_fn(|byte| byte as u8 * 7) };
        let messages = [
            PeerMessage::Raft(vec![1, 2, 3]),
            PeerMessage::WantHistory { after: None, to: 9 },
            PeerMessage::WantHistory { after: Some(frame), to: 9 },
            PeerMessage::History { to: 9, frames: vec![(8, Bytes::from_static(b"frame")), (9, Bytes::new())] },
            PeerMessage::Secrets { at: 9, secrets: vec![VolatilePayload::keep("key", "value")] },
            PeerMessage::NotOffered { at: 9 },
            PeerMessage::Command {
                call: Call { run: 1, number: 2 },
                first: 1,
                request: Zeroizing::new(b"{}".to_vec()),
            },
            PeerMessage::Resend { call: Call { run: 1, number: 2 } },
            PeerMessage::Disk(Space { free_bytes: 3, total_bytes: 4 }),
            PeerMessage::MembersStatus(MembersStatus {
                committed: 5,
                members: vec![
                    MemberStatus { raft_id: 1, matched: 5, reachable: true, obstacle: None },
                    MemberStatus { raft_id: 2, matched: 0, reachable: false, obstacle: Some("it leads".to_owned()) },
                ],
            }),
            PeerMessage::Outcome { call: Call { run: 1, number: 2 }, outcome: b"{}".to_vec() },
            PeerMessage::Presence(vec![Beat {
                node: events::NodeId::from_bits(1),
                session: events::SessionId::from_bits(2),
                ticks_ago: 3,
            }]),
            PeerMessage::Uses(vec![UsesOfNode {
                node: events::NodeId::from_bits(1),
                session: events::SessionId::from_bits(2),
                tasks: vec![wire::v1::TaskUse {
                    task: events::TaskId::from_bits(3),
                    cpu_permille: Some(4),
                    memory_permille: None,
                }],
            }]),
        ];
        for message in messages {
            assert_eq!(from_wire(to_wire(message.clone())), Some(message));
        }
    }

    #[test]
    fn what_is_malformed_or_of_another_build_is_nothing() {
        let short = Head { index: 1, frame_hash: "ab".to_owned() };
        let odd = Head { index: 1, frame_hash: "zz".repeat(32) };
        for after in [short, odd] {
            let message = Message::WantHistory(WantHistory { after: Some(after), to: 1 });
            assert_eq!(from_wire(Wire { message: Some(message) }), None);
        }
        assert_eq!(from_wire(Wire { message: None }), None);
        // A message without its lowest waiting number ignores the order.
        let call = ForwardedCall { run: 1, number: 7 };
        let command = Message::Command(ForwardedCommand { call, request: Vec::new(), first: None });
        let PeerMessage::Command { first, .. } = from_wire(Wire { message: Some(command) }).expect("a command") else {
            panic!("another message")
        };
        assert_eq!(first, 7);
    }
}
