//! A snapshot restores the state that it was created from, and damage to any of its chunks is rejected.

use events::{CommandId, CommandRecord, Id, NodeId};

use super::*;

/// A way to damage the chunks of a snapshot.
type Damage<'a> = dyn Fn(&mut Vec<Vec<u8>>) + 'a;

/// A state with rows in some parts, one of which has many chunks, and none in others.
fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let at = Stamp { index: 9, time: Timestamp::from_unix_ns(7) };
    for number in 1..=20_000 {
        let node = NodeId::from_bits(u128::MAX - number as u128);
        cluster.banned.insert(node, Timestamp::from_unix_ns(number));
    }
    for id in 1..=3 {
        let command = CommandRecord { id: CommandId::from_bits(id), ..CommandRecord::default() };
        cluster.requests.remember(&command, &at);
    }
    cluster.position = at;
    cluster
}

fn all(cluster: &Cluster) -> Vec<Vec<u8>> {
    chunks(cluster).collect()
}

/// The chunk of a part that starts with this name.
fn chunk_of(chunks: &[Vec<u8>], name: &str) -> usize {
    let is_it =
        |chunk: &Vec<u8>| postcard::take_from_bytes::<&str>(&chunk[LENGTH_BYTES..]).is_ok_and(|it| it.0 == name);
    chunks.iter().position(is_it).expect("every part has a chunk")
}

#[test]
fn a_state_is_read_from_pieces_of_any_size() {
    let written = cluster();
    let chunks = all(&written);
    assert!(chunks.iter().all(|chunk| chunk.len() < CHUNK_BYTES + 100), "chunks are bounded");
    let parts = written.parts().len();
    assert!(chunks.len() > 2 + parts, "{} chunks: large parts have several, empty ones have one", chunks.len());
    let whole = chunks.concat();
    for piece in [7, 4_096, whole.len()] {
        let read = read(whole.chunks(piece)).expect("it was just written");
        assert_eq!(read.position, written.position);
        assert!(all(&read) == chunks, "pieces of {piece} bytes");
    }
}

#[test]
fn what_is_not_a_snapshot_is_refused_with_its_reason() {
    let good = all(&cluster());
    let banned = chunk_of(&good, "banned");
    let damaged = |damage: &Damage| {
        let mut chunks = good.clone();
        damage(&mut chunks);
        read(chunks).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let table: [(&str, &Damage, &str); 8] = [
        ("another fold version", &|chunks| chunks[0][LENGTH_BYTES] += 1, "has fold version"),
        (
            "a table of a later build",
            &|chunks| chunks.insert(3, framed(postcard::to_allocvec("volumes").expect("a name"))),
            "the snapshot has the table volumes, which this build does not support",
        ),
        ("no table of nodes", &|chunks| drop(chunks.remove(chunk_of(chunks, "nodes"))), "lacks the table nodes"),
        ("a chunk is lost", &|chunks| drop(chunks.remove(banned + 1)), "does not have the hash"),
        ("the end is lost", &|chunks| drop(chunks.pop()), "its end is missing"),
        ("more after the end", &|chunks| chunks.push(framed(Vec::new())), "continues after its end"),
        ("half a row", &|chunks| chunks[banned] = framed(chunks[banned][LENGTH_BYTES..40].to_vec()), "is damaged"),
        ("a length out of bounds", &|chunks| chunks[banned][LENGTH_BYTES - 1] = 0xff, "a chunk of"),
    ];
    for (what, damage, reason) in table {
        let error = damaged(damage);
        assert!(error.contains(reason), "{what}: {error:?}");
    }
    assert_eq!(
        read::<&[u8]>([]).expect_err("nothing is no snapshot"),
        SnapshotError::Malformed("its end is missing".into())
    );
}
