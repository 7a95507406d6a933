//! The commands and flags of SwarmKit's `swarmctl`: each exists here too, or has a documented reason why not.

/// Flags of SwarmKit's services.
const SERVICE: &str = "name label replicas replicas-max-per-node image hostname command args env tty open-stdin ports network \
    memory-reservation memory-limit cpu-reservation cpu-limit generic-resources ulimit update-parallelism update-delay update-on-failure \
    update-order rollback-parallelism rollback-delay rollback-on-failure rollback-order restart-condition restart-delay \
    restart-max-attempts restart-window oom-score-adj constraint bind volume tmpfs npipe log-driver log-opt init";

/// Its commands with all aliases, and their flags.
const COMMANDS: [(&str, &str); 41] = [
    ("version", "socket no-resolve"),
    ("node ls", "quiet"),
    ("node inspect", "all"),
    ("node activate", ""),
    ("node pause", ""),
    ("node drain", ""),
    ("node promote", ""),
    ("node demote", ""),
    ("node rm|remove", "force"),
    ("node update", "label"),
    ("service|svc ls", "quiet"),
    ("service inspect", "all"),
    ("service create", "mode secret"),
    ("service create", SERVICE),
    ("service update", "add-secret rm-secret add-config rm-config add-capability rm-capability force"),
    ("service update", SERVICE),
    ("service rm|remove", ""),
    ("service logs|log", "follow"),
    ("task ls", "all quiet"),
    ("task inspect", ""),
    ("task rm|remove", ""),
    ("network ls", ""),
    ("network create", ""),
    ("network inspect", ""),
    ("network rm|remove", ""),
    ("cluster ls", "quiet"),
    ("cluster inspect", ""),
    (
        "cluster update",
        "taskhistory certexpiry external-ca heartbeatperiod log-driver log-opt rotate-join-token rotate-unlock-key autolock",
    ),
    ("cluster unlock-key", ""),
    ("secret create", "file driver"),
    ("secret ls", "quiet"),
    ("secret inspect", ""),
    ("secret rm|remove", ""),
    ("config create", "file"),
    ("config ls", "quiet"),
    ("config inspect", ""),
    ("config rm|remove", ""),
    // Its short flags.
    ("node ls", "-q -s -n"),
    ("node inspect", "-a"),
    ("service logs", "-f"),
    ("secret create", "-f"),
];

/// What does not exist here, and its replacement.
const ABSENT: [(&str, &str); 5] = [
    ("network", "networks between nodes are not in this version; tasks publish ports on their nodes with --ports"),
    ("service update --name", "the service is named before the flags, and cannot be renamed"),
    ("service create --npipe", "--mount type=npipe,source=...,target=... says the same"),
    ("service update --npipe", "--mount type=npipe,source=...,target=... says the same"),
    ("secret create --driver", "drivers that fetch secrets from elsewhere are not in this version"),
];

fn find(path: &[&str]) -> Option<clap::Command> {
    let mut root = crate::command();
    root.build();
    path.iter().try_fold(root, |within, name| within.find_subcommand(name).cloned())
}

fn has_flag(command: &clap::Command, flag: &str) -> bool {
    command.get_arguments().any(|argument| match flag.strip_prefix('-') {
        Some(letter) => argument.get_short().is_some_and(|short| letter.chars().eq([short])),
        None => argument.get_long() == Some(flag) || argument.get_all_aliases().is_some_and(|all| all.contains(&flag)),
    })
}

/// All command paths that the aliases allow.
fn paths(names: &str) -> Vec<Vec<&str>> {
    names.split(' ').fold(vec![Vec::new()], |paths, word| {
        word.split('|').flat_map(|name| paths.iter().map(move |path| [path.as_slice(), &[name]].concat())).collect()
    })
}

#[test]
fn every_command_and_flag_of_swarmkit_is_here_or_has_a_reason() {
    let mut used = std::collections::BTreeSet::new();
    let mut absent = |what: &str| {
        let row = ABSENT.iter().find(|(path, _)| what == *path || what.starts_with(&format!("{path} ")));
        row.map(|(path, _)| used.insert(*path)).is_some()
    };
    let mut missing = Vec::new();
    for (names, flags) in COMMANDS {
        for path in paths(names) {
            let name = path.join(" ");
            let Some(command) = find(&path) else {
                missing.extend((!absent(&name)).then_some(name));
                continue;
            };
            for flag in flags.split_whitespace().filter(|flag| !has_flag(&command, flag)) {
                let name = format!("{name} --{flag}");
                missing.extend((!absent(&name)).then_some(name));
            }
        }
    }
    assert_eq!(missing, [""; 0]);
    let stale: Vec<&str> = ABSENT.iter().map(|(path, _)| *path).filter(|path| !used.contains(path)).collect();
    assert_eq!(stale, [""; 0], "these are here after all");
}

/// A hint that something does not exist is wrong once it exists.
#[test]
fn nothing_that_exists_is_said_to_be_missing() {
    for (of, verb, _) in crate::usage::NOT_IN_THIS_VERSION.iter().chain(&crate::usage::OTHER_NAMES) {
        let path: Vec<&str> = of.split(' ').skip(1).chain([*verb]).collect();
        assert!(find(&path).is_none(), "{of} {verb}");
    }
}
