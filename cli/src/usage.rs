//! Turns errors of the command line parser into our failures.

use std::error::Error as _;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::failure::{Failure, Kind};
use crate::format::Format;
use crate::values::Invalid;

/// Why there is no command to run.
#[derive(Debug)]
pub enum Stop {
    /// The user asked for the help or the version, which this prints.
    Help(clap::Error),
    /// A command without a subcommand: its help, which lists them. It counts as an error like [`Stop::Wrong`].
    NoCommand(String),
    /// The command line is invalid.
    Wrong {
        /// The error.
        failure: Failure,
        /// The format in which to report it.
        format: Format,
    },
}

/// Verbs that hints never suggest.
const DESTRUCTIVE: [&str; 2] = ["rm", "remove"];

/// Features of SwarmKit and Docker that do not exist here, and what to do instead.
pub const NOT_IN_THIS_VERSION: [(&str, &str, &str); 2] = [
    ("swarmctl", "network", "tasks publish ports on their nodes: `swarmctl service create --ports NAME:PORT`"),
    ("swarmctl", "volume", "`swarmctl service create --volume NAME:TARGET` uses a volume of the engine"),
];

/// Features of Docker that have another name here.
pub const OTHER_NAMES: [(&str, &str, &str); 12] = [
    ("swarmctl", "ps", "`swarmctl task ls` lists the tasks, `--filter service=NAME` those of a service"),
    ("swarmctl", "info", "`swarmctl cluster inspect` shows the cluster, `swarmctl version` the manager"),
    ("swarmctl", "container", "`swarmctl task` has ls, inspect, logs, exec, attach, cp, stats and rm"),
    ("swarmctl", "swarm leave", "`swarmctl node leave` takes a node out of the cluster"),
    ("swarmctl", "swarm update", "`swarmctl cluster update` changes the settings of the cluster"),
    ("swarmctl", "swarm ca", "`swarmctl cluster ca` shows the root certificate, and rotates it with --rotate"),
    ("swarmctl", "swarm unlock", "`swarmctl cluster unlock` unlocks a manager"),
    ("swarmctl", "swarm unlock-key", "`swarmctl cluster unlock-key` shows the unlock key"),
    ("swarmctl", "swarm join-token", "`swarmctl cluster inspect` shows the join tokens"),
    ("swarmctl", "swarm", "`swarmd` creates a cluster or joins one; `swarmctl cluster inspect` shows the join tokens"),
    ("swarmctl", "join-token", "`swarmctl cluster inspect` shows the join tokens"),
    ("swarmctl cluster", "join-token", "`swarmctl cluster inspect` shows the join tokens"),
];

/// Flags of Docker, and what to do instead.
pub const OTHER_FLAGS: [(&str, &str); 9] = [
    ("--at", "only reads of the state have it: logs have --since and --until, `events` has --from and --to"),
    ("--host", "it comes before the command: `swarmctl --host URL COMMAND`"),
    ("--rollback", "`swarmctl service rollback` restores the previous spec, or any other with --to"),
    ("--role", "`swarmctl node promote` and `swarmctl node demote` change the role of a node"),
    ("--no-trunc", "nothing is shortened here; omit it"),
    ("--pretty", "this is the usual format; `--format json` is the other"),
    ("--with-registry-auth", "`--registry-auth` or SWARM_REGISTRY_AUTH gives the credentials"),
    (
        "--endpoint-mode",
        "there are no virtual addresses in this version: tasks publish ports on their nodes with --publish",
    ),
    ("--resolve-image", "`service create` and `service update` take --no-resolve-image"),
];

/// Known flags of Docker that do not exist here are not misspellings, and a template is not a format.
fn other_flag(error: &clap::Error) -> Option<Failure> {
    let flag = argument(error)?;
    if error.kind() == ErrorKind::UnknownArgument {
        let (_, hint) = OTHER_FLAGS.iter().find(|(name, _)| *name == flag)?;
        return Some(Failure::new(Kind::Usage, format!("unexpected argument '{flag}' found")).hint(*hint));
    }
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else { return None };
    (flag == "--format" && value.contains("{{")).then(|| {
        Failure::new(Kind::Usage, "--format takes no templates")
            .hint("-q prints ids alone; with `--format json` there is an object a line, of which jq takes what it is asked for")
    })
}

/// A known command that does not exist here, or has another name, is not a misspelling.
fn expected_elsewhere(error: &clap::Error, command: Option<&str>, args: &[OsString]) -> Option<Failure> {
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let command = command?;
    let next = args.iter().skip_while(|arg| *arg != given.as_str()).nth(1).and_then(|arg| arg.to_str());
    let both = next.map(|next| format!("{given} {next}"));
    let given =
        both.filter(|both| OTHER_NAMES.iter().any(|(_, verb, _)| verb == both)).unwrap_or_else(|| given.clone());
    let known = |(of, verb, _): &&(&str, &str, &str)| *of == command && *verb == given;
    let absent = NOT_IN_THIS_VERSION.iter().find(known).map(|(_, _, instead)| ("is not in this version", instead));
    let (what, instead) =
        absent.or_else(|| OTHER_NAMES.iter().find(known).map(|(_, _, instead)| ("has another name here", instead)))?;
    Some(Failure::new(Kind::Usage, format!("`{command} {given}` {what}")).hint(*instead))
}

/// An image after the service, as in `service create`, where an update does not have it.
fn stray_image(error: &clap::Error, command: Option<&str>) -> Option<Failure> {
    let stray = argument(error).filter(|word| error.kind() == ErrorKind::UnknownArgument && !word.starts_with('-'))?;
    (command? == "swarmctl service update").then(|| {
        Failure::new(Kind::Usage, format!("unexpected argument '{stray}' found"))
            .hint(format!("`--image {stray}` changes the image"))
    })
}

/// Turns a parser error into ours.
pub fn stop(error: clap::Error, args: &[OsString]) -> Stop {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Stop::Help(error),
        _ if is_missing_subcommand(&error) && wanted_format(args) == Format::Table => Stop::NoCommand(help(&error)),
        _ => {
            let failure = negative(&error, args).unwrap_or_else(|| failure(&error, args));
            Stop::Wrong { failure, format: wanted_format(args) }
        }
    }
}

/// Whether a subcommand is missing. The kind of that parser error depends on whether the environment provides the value of a
/// flag.
fn is_missing_subcommand(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand)
}

/// The short help of the command that an error is about.
fn help(error: &clap::Error) -> String {
    let path = command(&error.render().to_string()).unwrap_or_default();
    let mut root = crate::command();
    root.build();
    // The parser wrote this path: every word of it is a command.
    let mut about =
        path.split(' ').skip(1).fold(root, |about, word| about.find_subcommand(word).cloned().unwrap_or(about));
    about.render_help().to_string()
}

/// The error for a value like `-5s`, which the parser takes for an unknown flag.
fn negative(error: &clap::Error, args: &[OsString]) -> Option<Failure> {
    let taken = argument(error).filter(|_| error.kind() == ErrorKind::UnknownArgument)?;
    let number = |word: &str| word.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    let pair = words.windows(2).find(|pair| pair[0].starts_with("--") && pair[1].starts_with(&taken))?;
    let sentence = format!("{} cannot be \"{}\": it is below zero", pair[0], pair[1]);
    number(&pair[1]).then(|| Failure::new(Kind::Usage, sentence).hint("write the value without a sign"))
}

fn failure(error: &clap::Error, args: &[OsString]) -> Failure {
    if let Some(invalid) = error.source().and_then(|source| source.downcast_ref::<Invalid>()) {
        // Only a flag is named: for a positional argument the sentence states the expected form.
        let flag = argument(error).filter(|argument| argument.starts_with('-'));
        let flag = flag.map_or_else(String::new, |flag| format!("{flag}: "));
        return Failure::new(Kind::Usage, format!("{flag}{}", invalid.sentence)).hint(invalid.hint);
    }
    let text = error.render().to_string();
    let command = command(&text);
    if is_missing_subcommand(error) {
        let command = command.unwrap_or_else(|| "swarmctl".to_owned());
        let sentence = format!("`{command}` needs a command");
        return Failure::new(Kind::Usage, sentence).hint(format!("`{command} --help` lists its commands"));
    }
    let known = expected_elsewhere(error, command.as_deref(), args)
        .or_else(|| stray_image(error, command.as_deref()))
        .or_else(|| other_flag(error));
    if let Some(failure) = known {
        return failure;
    }
    let failure = Failure::new(Kind::Usage, sentence(error, &text));
    let tips = text.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
    // The parser's tip to pass a flag's name as a value does not help with a misspelled flag. A verb that removes something is
    // not suggested, however similar.
    let removes = |tip: &str| DESTRUCTIVE.iter().any(|verb| tip.contains(&format!("'{verb}'")));
    let tips: Vec<&str> = tips.filter(|tip| !tip.starts_with("to pass ") && !removes(tip)).collect();
    let values = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) if !values.is_empty() => Some(values.join(", ")),
        Some(_) | None => None,
    };
    match (values, command) {
        _ if !tips.is_empty() => failure.hint(tips.join("; ")),
        (Some(values), _) => failure.hint(format!("write one of {values}")),
        (_, Some(command)) if error.kind() == ErrorKind::InvalidSubcommand => {
            failure.hint(format!("`{command} --help` lists its commands"))
        }
        (_, Some(command)) => failure.hint(format!("`{command} --help` shows its flags")),
        (_, None) => failure,
    }
}

/// The parser's sentence on one line, without the possible values: those become the hint.
fn sentence(error: &clap::Error, text: &str) -> String {
    if let (Some(ContextValue::String(value)), Some(argument), ErrorKind::InvalidValue) =
        (error.get(ContextKind::InvalidValue), argument(error), error.kind())
        && !value.is_empty()
    {
        return format!("{argument} cannot be \"{value}\"");
    }
    let paragraph: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let sentence = paragraph.join(" ");
    sentence.strip_prefix("error: ").unwrap_or(&sentence).to_owned()
}

/// The flag or argument that an error is about, without its value.
fn argument(error: &clap::Error) -> Option<String> {
    let argument = error.get(ContextKind::InvalidArg)?.to_string();
    let word = argument.split_whitespace().next()?;
    let flag = word.split_once("[=").map_or(word, |(flag, _)| flag);
    Some(flag.to_owned())
}

/// The command in the parser's text: the words of its usage line before the first placeholder.
fn command(text: &str) -> Option<String> {
    let usage = text.lines().find_map(|line| line.trim().strip_prefix("Usage: "))?;
    let word = |word: &&str| word.starts_with(|c: char| c.is_ascii_alphanumeric());
    Some(usage.split(' ').take_while(word).collect::<Vec<_>>().join(" "))
}

/// The output format that a command line requests, even if it is invalid otherwise.
fn wanted_format(args: &[OsString]) -> Format {
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    let pair = words.windows(2).any(|pair| pair[0] == "--format" && pair[1] == "json");
    if pair || words.iter().any(|word| word == "--format=json") { Format::Json } else { Format::Table }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(line: &str) -> (Failure, Format) {
        match crate::parse(line.split(' ')) {
            Err(Stop::Wrong { failure, format }) => (failure, format),
            other => panic!("{line}: {other:?}"),
        }
    }

    const CREATE: &str = "swarmctl service create --name web --image nginx";

    fn expect(table: &[(&str, &str, &str)]) {
        for &(line, sentence, hint) in table {
            let line = line.replace("CREATE", CREATE);
            let (failure, _) = wrong(&line);
            assert_eq!(failure.kind.exit_code(), 2, "{line}");
            assert!(failure.sentence.contains(sentence), "{line}: {}", failure.sentence);
            assert!(failure.hint.contains(hint), "{line}: {}", failure.hint);
            assert!(!failure.sentence.contains('\n') && !failure.hint.contains('\n'), "{line}");
        }
    }

    #[test]
    fn every_mistake_gets_a_sentence_and_a_hint() {
        expect(&[
            ("swarmctl --format json", "`swarmctl` needs a command", "`swarmctl --help`"),
            ("swarmctl service --format json", "`swarmctl service` needs a command", "`swarmctl service --help`"),
            ("swarmctl service crate", "unrecognized subcommand 'crate'", "'create'"),
            ("swarmctl network ls", "`swarmctl network` is not in this version", "--ports"),
            ("swarmctl ps", "`swarmctl ps` has another name here", "`swarmctl task ls`"),
            ("swarmctl swarm leave", "`swarmctl swarm leave` has another name here", "`swarmctl node leave`"),
            ("swarmctl swarm ca --rotate", "`swarmctl swarm ca` has another name here", "`swarmctl cluster ca`"),
            ("swarmctl swarm init", "`swarmctl swarm` has another name here", "`swarmd` creates a cluster"),
            ("swarmctl container ls", "`swarmctl container` has another name here", "`swarmctl task`"),
            ("swarmctl service update web --rollback", "unexpected argument '--rollback' found", "service rollback"),
            ("swarmctl node update n1 --role worker", "unexpected argument '--role' found", "node demote"),
            ("swarmctl service ls --host https://m", "unexpected argument '--host' found", "before the command"),
            ("swarmctl service update web redis:3", "unexpected argument 'redis:3' found", "`--image redis:3` changes"),
            ("swarmctl service update web -q", "unexpected argument '-q' found", "update --help` shows its flags"),
            ("swarmctl service update web --env-rm LOG=1", "--env-rm: \"LOG=1\" has a value", "without a value"),
            ("swarmctl node update n1 --label-rm a=b", "--label-rm: \"a=b\" has a value", "without a value"),
            ("swarmctl events --limit -1", "--limit: \"-1\" is not a whole number from 0 to", "digits"),
            ("swarmctl events --tail 10001", "--tail: \"10001\" is not a whole number from 0 to 10000", "digits"),
            ("swarmctl service ls --format {{.Name}}", "--format takes no templates", "jq"),
            ("swarmctl service logs web --at 8", "unexpected argument '--at' found", "--since and --until"),
            ("swarmctl task stats --at 8", "unexpected argument '--at' found", "only reads of the state"),
            ("swarmctl service ps web --no-trunc", "unexpected argument '--no-trunc' found", "nothing is shortened"),
            ("swarmctl node inspect n1 --pretty", "unexpected argument '--pretty' found", "usual format"),
            ("swarmctl service rn web", "unrecognized subcommand 'rn'", "lists its commands"),
            ("swarmctl node remov web", "unrecognized subcommand 'remov'", "lists its commands"),
            ("swarmctl service fry", "unrecognized subcommand 'fry'", "lists its commands"),
            (
                "swarmctl node activate n1 --detach",
                "unexpected argument '--detach' found",
                "activate --help` shows its flags",
            ),
            ("CREATE --label", "a value is required for '--label <KEY=VALUE>'", "--help"),
            ("CREATE --mode=", "a value is required for '--mode <MODE>'", "write one of replicated, global"),
            ("CREATE --detach=maybe", "--detach cannot be \"maybe\"", "write one of true, false"),
            ("swarmctl service create", "--name <NAME> <IMAGE>", "`swarmctl service create --help`"),
            ("swarmctl service create --nmae x", "unexpected argument '--nmae' found", "'--name'"),
            (
                "swarmctl service create --name x nginx --replica 2",
                "unexpected argument '--replica' found",
                "'--replicas'",
            ),
            ("swarmctl service scale web", "\"web\" is not a service and its replicas", "web=6"),
            ("swarmctl events --kind task_reapt", "--kind cannot be \"task_reapt\"", "'task_reaped'"),
            ("swarmctl events --from 7x", "--from: \"7x\" is neither", "2026-01-31"),
            ("CREATE --mode x", "--mode cannot be \"x\"", "write one of replicated, global"),
            ("CREATE --update-delay 5", "--update-delay: missing unit in duration \"5\"", "1m30s"),
            ("CREATE --memory-limit 5x", "--memory-limit: size \"5x\" has an unknown unit", "512M"),
            ("CREATE --cpu-limit half", "--cpu-limit: \"half\" is not a number of cores", "0.5"),
            ("CREATE --constraint node.role", "has no operator", "KEY==VALUE"),
            ("CREATE --ports 8080:80", "begins with a number", "--ports http:80:8080, or --publish 8080:80"),
            ("CREATE -p 1.2.3.4:80:80", "--publish: port", "PUBLISHED:PORT"),
            ("CREATE other", "cannot be used with", "--help"),
            ("CREATE --ports 80", "has no port after its name", "NAME:PORT"),
            ("CREATE --update-max-failure-ratio 2", "between 0 and 1", "0.25"),
        ]);
    }

    #[test]
    fn every_value_is_judged_where_it_is_written() {
        expect(&[
            ("CREATE --replicas many", "--replicas: \"many\" is not a whole number from 0 to 1000000", "digits"),
            ("CREATE --replicas -1", "--replicas: \"-1\" is not a whole number from 0 to 1000000", "digits"),
            ("CREATE --replicas=99999999999", "is not a whole number from 0 to 1000000", "digits"),
            ("CREATE --update-parallelism -1", "--update-parallelism: \"-1\" is not", "digits"),
            ("CREATE --restart-max-attempts -3", "--restart-max-attempts: \"-3\" is not", "digits"),
            ("CREATE --pids-limit -2", "--pids-limit: \"-2\" is not a whole number from -1 to", "digits"),
            ("CREATE --oom-score-adj 2000", "\"2000\" is not a whole number from -1000 to 1000", "digits"),
            ("CREATE --cpu-limit -0.5", "--cpu-limit: \"-0.5\" is not a number of cores", "0.5"),
            ("CREATE --update-delay -5s", "--update-delay cannot be \"-5s\": it is below zero", "sign"),
            ("CREATE --memory-limit -512M", "--memory-limit cannot be \"-512M\"", "sign"),
            ("CREATE -5", "unexpected argument '-5' found", "--help"),
            ("CREATE --ulimit nofile", "ulimit \"nofile\" has no limit", "NAME=SOFT"),
            ("CREATE --ulimit nofile=", "ulimit \"nofile=\" has no limit", "NAME=SOFT"),
            ("CREATE --dns nope", "--dns: \"nope\" is not an IP address", "10.0.0.53"),
            ("CREATE --cap-add NOT_A_CAP", "--cap-add: there is no capability \"NOT_A_CAP\"", "capabilities(7)"),
            ("CREATE --hostname bad!", "--hostname: \"bad!\" is not a host name", "63 characters"),
            ("swarmctl service update web --replicas -1", "--replicas: \"-1\" is not a whole number", "digits"),
            ("swarmctl service update web --cap-drop X", "--cap-drop: there is no capability \"X\"", "ALL"),
            ("swarmctl service scale web=-1", "replicas of web: \"-1\" is not a whole number from 0 to", "web=6"),
            ("swarmctl cluster update --heartbeatgrace -1", "\"-1\" is not a whole number from 1 to 1000", "digits"),
            ("swarmctl service create --name a.b --image x", "--name: \"a.b\" is not a name", "63 characters"),
            ("swarmctl service create --name a --image X", "--image: image \"X\" has capital letters", "NAME[:TAG]"),
        ]);
    }

    #[test]
    fn a_script_gets_its_mistake_as_json() {
        assert_eq!(wrong("swarmctl service create --format json").1, Format::Json);
        assert_eq!(wrong("swarmctl --format=json service").1, Format::Json);
        assert_eq!(wrong("swarmctl service create").1, Format::Table);
    }

    #[test]
    fn a_command_without_its_command_shows_its_help() {
        for (line, usage, listed) in [
            ("swarmctl", "Usage: swarmctl [OPTIONS] <COMMAND>", "  service "),
            ("swarmctl -s /tmp/s", "Usage: swarmctl [OPTIONS] <COMMAND>", "  service "),
            ("swarmctl service", "Usage: swarmctl service [OPTIONS] <COMMAND>", "  create "),
            ("swarmctl svc -s /tmp/s", "Usage: swarmctl service [OPTIONS] <COMMAND>", "  create "),
        ] {
            let Err(Stop::NoCommand(help)) = crate::parse(line.split(' ')) else { panic!("{line}: no help") };
            assert!(help.contains(usage) && help.contains(listed), "{line}: {help}");
        }
    }

    #[test]
    fn help_and_version_are_no_mistakes() {
        for line in [
            "swarmctl --help",
            "swarmctl service create -h",
            "swarmctl --version",
            "swarmctl help svc",
            "swarmctl service update -help",
            "swarmctl service update web -help",
        ] {
            assert!(matches!(crate::parse(line.split(' ')), Err(Stop::Help(_))), "{line}");
        }
    }
}
