//! The structure of the workspace as in ARCHITECTURE.md: which crate may depend on which, and what the core may depend on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Node, PackageId};

/// Crates with pure logic only.
const CORE: [&str; 4] = ["events", "projections", "commands", "reconcilers"];

/// Crates that the core may not depend on, even transitively. Cargo unites the features of all crates, so `rand_core`, whose
/// interface is used by the persistent maps, includes a source of randomness that only the shell uses.
const IMPURE: [(&str, &str); 8] = [
    ("bollard", "containers are run by executors"),
    ("mio", "the core does no I/O"),
    ("raft", "consensus belongs to the shell"),
    ("rand", "the core draws no randomness"),
    ("rocksdb", "storage belongs to the shell"),
    ("rustix", "the core asks nothing of the operating system"),
    ("tokio", "nothing in the core waits"),
    ("tonic", "the core does no I/O"),
];

/// The arrows of the diagram, and those that follow from them: a crate and the crates of ours that it may depend on.
const ARROWS: [(&str, &[&str]); 9] = [
    ("events", &[]),
    ("projections", &["events"]),
    ("commands", &["events", "projections"]),
    ("reconcilers", &["events", "projections"]),
    ("wire", &["events"]),
    ("node", &["events", "projections", "commands", "reconcilers", "verify", "wire"]),
    ("cli", &["events", "verify", "wire"]),
    ("verify", &["events", "projections"]),
    ("tests", &["events", "projections", "commands", "reconcilers", "wire", "node", "cli", "verify"]),
];

/// The packages of the workspace and all their dependencies.
struct Graph {
    metadata: Metadata,
}

impl Graph {
    fn read() -> Self {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
        let metadata = MetadataCommand::new().manifest_path(manifest).exec().expect("cargo describes the workspace");
        Self { metadata }
    }

    fn name(&self, id: &PackageId) -> &str {
        self.metadata[id].name.as_str()
    }

    fn nodes(&self) -> &[Node] {
        &self.metadata.resolve.as_ref().expect("cargo resolves dependencies").nodes
    }

    fn member(&self, name: &str) -> &PackageId {
        let found = self.metadata.workspace_packages().into_iter().find(|package| package.name.as_str() == name);
        &found.unwrap_or_else(|| panic!("there is no crate {name}")).id
    }

    /// Everything that a crate is linked with, and its dependents.
    fn linked_with<'a>(&'a self, root: &'a PackageId) -> BTreeMap<&'a PackageId, &'a PackageId> {
        let nodes: BTreeMap<_, _> = self.nodes().iter().map(|node| (&node.id, node)).collect();
        let mut found = BTreeMap::new();
        let mut open = vec![root];
        while let Some(by) = open.pop() {
            let normal = |kind: &cargo_metadata::DepKindInfo| kind.kind == DependencyKind::Normal;
            for dependency in nodes[by].deps.iter().filter(|dependency| dependency.dep_kinds.iter().any(normal)) {
                if found.insert(&dependency.pkg, by).is_none() {
                    open.push(&dependency.pkg);
                }
            }
        }
        found
    }
}

#[test]
fn the_core_is_pure() {
    let graph = Graph::read();
    let impure = BTreeMap::from(IMPURE);
    for core in CORE {
        let linked = graph.linked_with(graph.member(core));
        assert!(!linked.is_empty(), "{core} is built on something");
        for (id, by) in linked {
            if let Some(reason) = impure.get(graph.name(id)) {
                panic!("{core} is built on {} (by {}): {reason}", graph.name(id), graph.name(by));
            }
        }
    }
}

/// The auditor's program has few dependencies.
#[test]
fn the_verifier_needs_no_database_and_no_runtime() {
    let graph = Graph::read();
    for (id, by) in graph.linked_with(graph.member("verify")) {
        let name = graph.name(id);
        assert!(!["rocksdb", "tokio", "tonic", "rustls"].contains(&name), "{name} (by {})", graph.name(by));
    }
}

/// Ensures that the test above does not pass vacuously.
#[test]
fn the_shell_is_not() {
    let graph = Graph::read();
    let linked = graph.linked_with(graph.member("node"));
    let names: BTreeSet<&str> = linked.keys().map(|id| graph.name(id)).collect();
    for (name, _) in IMPURE {
        assert!(names.contains(name), "the node is not built on {name}: is it still the name of a crate?");
    }
}

#[test]
fn crates_know_only_what_the_picture_says() {
    let graph = Graph::read();
    let allowed = BTreeMap::from(ARROWS);
    let ours: BTreeSet<&str> =
        graph.metadata.workspace_packages().iter().map(|package| package.name.as_str()).collect();
    assert_eq!(ours, allowed.keys().copied().collect(), "a crate is missing in the picture, or gone");
    for package in graph.metadata.workspace_packages() {
        let name = package.name.as_str();
        // Of every kind: with a dependency that is only for tests, a crate can no longer be understood without the other one.
        for dependency in package.dependencies.iter().filter(|dependency| ours.contains(dependency.name.as_str())) {
            let arrow = allowed[name].contains(&dependency.name.as_str());
            assert!(arrow, "{name} may not depend on {}: the arrow is not in the picture", dependency.name);
        }
    }
}

#[test]
fn the_core_has_one_set_of_bans() {
    let bans = CORE.map(|core| {
        let path = format!("{}/../{core}/clippy.toml", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    });
    for (core, text) in CORE.iter().zip(&bans) {
        assert!(*text == bans[0], "{core}/clippy.toml differs from events/clippy.toml");
    }
}

/// Names that the manager's answers may not use, and why. Messages of the wire schema are data, and serve as plain types there.
const TRANSPORT: [(&str, &str); 6] = [
    ("tonic", "answers know no transport"),
    ("tokio", "nothing there waits"),
    ("async ", "nothing there waits"),
    ("_client::", "whoever calls is outside"),
    ("_server::", "whoever serves is outside"),
    ("clock::now", "the present is given"),
];

#[test]
fn what_a_manager_answers_knows_no_transport() {
    let files = files_below(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../node/src/control")));
    assert!(files.len() > 5, "the answers are elsewhere: {files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a file of code");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        for (name, reason) in TRANSPORT {
            assert!(!code.contains(name), "{} names {name}: {reason}", file.display());
        }
    }
}

#[test]
fn every_socket_of_a_daemon_closes_connections_whose_peer_is_gone() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../node/src/daemon"));
    let makes = |file: &PathBuf| std::fs::read_to_string(file).is_ok_and(|text| text.contains("Server::builder()"));
    let made: Vec<PathBuf> = files_below(folder).into_iter().filter(makes).collect();
    assert_eq!(
        made,
        [folder.join("serve.rs")],
        "a server is made by `server_with_keepalive`, which pings idle connections"
    );
}

/// Names that a copy of the state may not use: they could change the cluster, or block.
const OUTSIDE_THE_SANDBOX: [(&str, &str); 7] = [
    ("crate::manager", "a copy has no replica, no queue and no proposals"),
    ("crate::log", "a copy has no store"),
    ("crate::control", "a copy answers nobody"),
    ("tokio", "nothing there waits"),
    ("async ", "nothing there waits"),
    ("std::fs", "a copy does no I/O"),
    ("clock::now", "time is virtual there"),
];

#[test]
fn the_sandbox_cannot_reach_the_log() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../node/src/sandbox"));
    let files = files_below(folder);
    assert!(files.len() > 3, "the sandbox is elsewhere: {files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a file of code");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        for (name, reason) in OUTSIDE_THE_SANDBOX {
            assert!(!code.contains(name), "{} names {name}: {reason}", file.display());
        }
        // It may use only its own module and the timers, which are data.
        let known = code.matches("crate::").count();
        let allowed = ["crate::timers", "crate::sandbox"].iter().map(|name| code.matches(name).count()).sum::<usize>();
        assert_eq!(known, allowed, "{} knows more of its crate than itself and the timers", file.display());
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
