//! Invariants of every committed state and of every turn. A violation panics with the frame.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use events::{CommandId, Event, Frame, Id, IdGenerator, Role, ServiceId, TaskState, Timestamp};
use node::log::LogStore;
use node::manager::fold::Folded;
use node::security::JoinToken;
use projections::{Cluster, ClusterSecret, Keyring, Stamp, Touched, check, snapshot};

use crate::manager::ROOT_KEY;
use crate::mask::MaskNames;

/// Maximum number of frames that are read at a time, and their bytes.
const FRAMES_MAX: usize = 1_000;
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Checks the committed state, and folds history independently.
#[derive(Default)]
pub struct Oracle {
    /// The state that follows from history alone.
    replayed: Folded,
    /// Commands that took effect, by id, with the index of their frame.
    effects: BTreeMap<CommandId, u64>,
    /// The answers to operators: the command, and the index of its frame.
    acknowledged: Vec<(CommandId, u64)>,
    secrets: Vec<String>,
    /// The manager's last keyring, and the frame that it belongs to.
    keyring: Option<(u64, Arc<Keyring>)>,
    /// The names of ids in history.
    pub names: MaskNames,
}

impl Oracle {
    /// Adds a secret that must never be shown.
    pub fn keep_secret(&mut self, secret: &str) {
        self.secrets.push(secret.to_owned());
    }

    /// The state that follows from history so far.
    pub fn cluster(&self) -> &Cluster {
        &self.replayed.cluster
    }

    /// Records the secrets that belong to a frame.
    pub fn note_keyring(&mut self, index: u64, keyring: &Arc<Keyring>) {
        self.keyring = Some((index, Arc::clone(keyring)));
    }

    /// Records that an operator got the answer that a command took effect.
    pub fn acknowledge(&mut self, command: CommandId, index: u64) {
        assert_eq!(self.effects.get(&command).copied().unwrap_or(index), index, "one effect for each command id");
        self.acknowledged.push((command, index));
    }

    /// Whether history contains this command: one that changed nothing leaves no trace there.
    pub fn took_effect(&self, command: CommandId) -> bool {
        self.effects.contains_key(&command)
    }

    /// Checks a committed state and the history that led to it.
    pub fn observe(&mut self, cluster: &Cluster, store: &Arc<dyn LogStore>) {
        let before = self.replayed.cluster.clone();
        let from = before.position.index + 1;
        let frames = store.history(from, FRAMES_MAX, BYTES_MAX).expect("history can be read");
        for (index, stored) in frames {
            self.replay(index, &stored);
        }
        let index = cluster.position.index;
        assert_eq!(self.replayed.cluster.position.index, index, "history and the state end with the same frame");
        assert_eq!(
            self.replayed.cluster.state_hash(),
            cluster.state_hash(),
            "replay equals the state at frame {index}"
        );
        let faults = check::check(cluster);
        assert!(faults.is_empty(), "after frame {index}: {faults:#?}");
        states_never_go_back(&before, cluster);
    }

    /// A settled state must leave reconcilers nothing to do, whatever part of it they look at.
    pub fn settled(&self, cluster: &Cluster, now: Timestamp) {
        let mut next = cluster.clone();
        let at = Stamp { index: cluster.position.index + 1, time: now.max(cluster.position.time) };
        let mut ids = IdGenerator::new(cluster.id(), at.index);
        let heard = reconcilers::LastSeen { at: at.time, timeout: cluster.heartbeat_timeout() };
        let presence = cluster.nodes.iter().map(|(node, _)| (node, heard)).collect();
        let mut candidates = reconcilers::Candidates::default();
        let (ids, candidates) = (&mut ids, &mut candidates);
        let mut ctx = reconcilers::Ctx {
            now: at.time,
            ids,
            presence: &presence,
            peers: &reconcilers::Peers::default(),
            uses: &reconcilers::Uses::new(),
            candidates,
        };
        let everything = Touched { everything: true, ..Touched::default() };
        let settled = reconcilers::settle(&mut next, everything, &mut ctx, &at, reconcilers::Budget::FRAME);
        let said: Vec<&Event> = settled.events.iter().collect();
        assert!(said.is_empty(), "after frame {}, settling everything says: {said:#?}", cluster.position.index);
    }

    /// A snapshot restores exactly the same state.
    pub fn snapshot_round_trip(&self, cluster: &Cluster) {
        let read = snapshot::read(snapshot::chunks(cluster)).expect("a snapshot that was just written can be read");
        assert_eq!(read.state_hash(), cluster.state_hash(), "a snapshot of frame {}", cluster.position.index);
        let faults = check::check(&read);
        assert!(faults.is_empty(), "in the snapshot of frame {}: {faults:#?}", cluster.position.index);
    }

    /// After a restart, everything that was committed or acknowledged still exists. The manager's state, from a checkpoint and
    /// the frames after it, is identical to the last byte with the state from all of history.
    pub fn nothing_is_lost(&self, cluster: &Cluster, keyring: &Arc<Keyring>) {
        let index = cluster.position.index;
        let equal = snapshot::chunks(cluster).eq(snapshot::chunks(&self.replayed.cluster));
        assert!(equal, "a start at frame {index} made another state than history");
        keyring_fits(cluster, keyring);
        if let Some((seen, before)) = &self.keyring {
            assert!(*seen != index || before == keyring, "a start at frame {index} brought other secrets");
        }
        let known = self.replayed.cluster.position.index;
        assert!(cluster.position.index >= known, "frames {}..={known} are lost", cluster.position.index + 1);
        for (command, index) in &self.acknowledged {
            assert_eq!(self.effects.get(command), Some(index), "the effect of {command}, acknowledged, is lost");
        }
    }

    /// No shown text may contain a secret.
    pub fn shows_no_secret(&self, text: &str) {
        for secret in self.secrets.iter().map(String::as_str).chain(ROOT_KEY.lines().nth(1)) {
            assert!(!text.contains(secret), "a transcript shows the secret \"{secret}\":\n{text}");
        }
    }

    fn replay(&mut self, index: u64, stored: &Bytes) {
        for secret in self.secrets.iter().map(String::as_str).chain(ROOT_KEY.lines().nth(1)) {
            let shown = stored.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!shown, "frame {index} of history holds the secret \"{secret}\"");
        }
        let frame: Frame = self.replayed.fold_frame(index, stored).expect("history can be folded");
        self.names.learn(&frame);
        for command in frame.commands.iter().filter(|command| command.id != CommandId::default()) {
            let earlier = self.effects.insert(command.id, index);
            assert_eq!(earlier, None, "command {} took effect twice", command.id.bits());
        }
    }
}

/// The keyring contains exactly the secrets whose digests are in the state, and credentials of existing services.
fn keyring_fits(cluster: &Cluster, keyring: &Keyring) {
    let index = cluster.position.index;
    let key = keyring.text(&cluster.settings.root_key());
    let outside = cluster.settings.root_key_outside;
    let fits = key.map_or(outside, |key| !outside && (cluster.settings.root_generation > 0 || key == ROOT_KEY));
    assert!(fits, "the root's key at frame {index}");
    for role in [Role::Worker, Role::Manager] {
        let token = keyring.text(&cluster.settings.token_key(role)).and_then(|text| text.parse::<JoinToken>().ok());
        let fits = token.is_some_and(|token| token.has_secret(cluster.settings.token_sha256(role)));
        assert!(fits, "the keyring has another join token than the state for {role:?} at frame {index}");
    }
    for service in cluster.services.values() {
        let name = &service.spec.template().container().registry_auth_key;
        assert!(name.is_empty() || keyring.get(name).is_some(), "{name} is lost at frame {index}");
        for name in &service.env_secrets {
            assert!(keyring.get(name).is_some(), "{name} is lost at frame {index}");
        }
    }
    let mut payloads: BTreeSet<String> = cluster.secrets.values().flat_map(ClusterSecret::keys).collect();
    for name in keyring.names().filter(|name| name.starts_with("secret/")) {
        assert!(payloads.remove(name), "{name}, which no secret has, is kept at frame {index}");
    }
    assert_eq!(payloads, BTreeSet::new(), "data of secrets is lost at frame {index}");
    for name in keyring.names().filter(|name| name.starts_with("env-secret/")) {
        let known = cluster.services.values().any(|service| service.env_secrets.contains(name));
        assert!(known, "{name}, which no service knows, is kept at frame {index}");
    }
    for id in keyring.names().filter_map(|name| name.strip_prefix("registry-auth/")) {
        let there = id.parse::<ServiceId>().is_ok_and(|id| cluster.services.contains(id));
        assert!(there, "the credentials of the service {id}, which is gone, are kept at frame {index}");
    }
}

/// A task's state and its desired state never go back.
pub(crate) fn states_never_go_back(before: &Cluster, after: &Cluster) {
    for old in before.tasks.values() {
        let Some(new) = after.tasks.get(old.id) else { continue };
        assert!(new.state >= old.state, "task {} went from {:?} back to {:?}", old.id, old.state, new.state);
        assert!(new.desired >= old.desired, "what is wanted of task {} went back to {:?}", old.id, new.desired);
        assert!(old.node.is_none() || new.node == old.node, "task {} moved to another node", old.id);
        assert!(new.state != TaskState::Remove, "task {} is in a state that can only be desired", old.id);
    }
}
