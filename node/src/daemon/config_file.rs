//! The config file: the flags of `swarmd`, in TOML, by the same names. It is parsed as if its lines were on the command line,
//! so that every value is checked in the same way; the command line and the environment take precedence over the file.

use std::any::TypeId;
use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind as ClapError;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, CommandFactory, FromArgMatches};
use toml_edit::{Document, Item, Value};

use crate::daemon::config::Cli;
use crate::daemon::failure::{Failure, code};

/// The file that is read if it exists and no other one is set.
pub const DEFAULT: &str = "/etc/swarmlog/swarmd.toml";
/// Maximum bytes of the file.
const BYTES_MAX: u64 = 64 * 1024;
/// Flags that are only allowed on a command line.
const NOT_IN_A_FILE: [&str; 5] = ["config", "dev", "force-new-cluster", "help", "version"];
/// The two flags for a join token: one on the command line replaces both in the file.
const TOKEN: [&str; 2] = ["join-token", "join-token-file"];
/// Mode bits that let users other than the owner read a file.
const READABLE_BY_OTHERS: u32 = 0o044;
/// Minimum similarity of an unknown name to a known one for a suggestion, from 0 to 1.
const ALIKE: f64 = 0.8;

/// The arguments of `swarmd`, and the config file that was used.
#[derive(Debug)]
pub struct Arguments {
    /// The command line, merged with the file.
    pub cli: Cli,
    /// The config file.
    pub file: Option<PathBuf>,
}

/// Why there are no valid arguments.
#[derive(Debug)]
pub enum Refused {
    /// The command line is invalid, alone or together with the file; or it only requests help.
    Line(clap::Error),
    /// The file is invalid.
    File(Failure),
}

/// Parses a command line and the config file.
///
/// # Errors
/// When either is invalid, or the given file cannot be read.
pub fn read(line: impl IntoIterator<Item = OsString>) -> Result<Arguments, Refused> {
    read_with(line, Path::new(DEFAULT))
}

fn read_with(line: impl IntoIterator<Item = OsString>, default: &Path) -> Result<Arguments, Refused> {
    let mut line: Vec<OsString> = line.into_iter().collect();
    // Flags missing on the command line may be in the file, so this first pass refuses nothing.
    let given = Cli::command().ignore_errors(true).try_get_matches_from(&line);
    let mut file = None;
    if let Ok(given) = given
        && let Some(text) = text(&given, default).map_err(Refused::File)?
    {
        let flags = text.flags(&given).map_err(Refused::File)?;
        // Inserted before the others, because an argument that is not a flag would end the flags.
        line.splice(1.min(line.len())..1.min(line.len()), flags.into_iter().map(OsString::from));
        file = Some(text.path);
    }
    let matches = Cli::command().try_get_matches_from(line).map_err(Refused::Line)?;
    Ok(Arguments { cli: Cli::from_arg_matches(&matches).map_err(Refused::Line)?, file })
}

/// A config file.
struct Text {
    path: PathBuf,
    text: String,
    is_private: bool,
}

/// The config file for a command line, if any: offline commands and `--dev` use none.
fn text(given: &ArgMatches, default: &Path) -> Result<Option<Text>, Failure> {
    // The lenient first pass may have stopped before it reached a flag's default.
    let is_dev = matches!(given.try_get_one::<bool>("dev"), Ok(Some(true)));
    if given.subcommand().is_some() || is_dev {
        return Ok(None);
    }
    let named = given.get_one::<PathBuf>("config");
    let path = named.map_or(default, PathBuf::as_path);
    let refuse = |why: String| {
        let hint = "name a file of flags in TOML with --config, or leave it out";
        Failure::new(format!("the config file {} {why}", path.display()), hint).with_code(code::USAGE)
    };
    let cannot = |error: std::io::Error| refuse(format!("cannot be read: {error}"));
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => return Ok(None),
        opened => opened.map_err(cannot)?,
    };
    let is_private = file.metadata().map_err(cannot)?.mode() & READABLE_BY_OTHERS == 0;
    let mut text = String::new();
    file.take(BYTES_MAX + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(refuse(format!("is larger than {} KiB", BYTES_MAX / 1024)));
    }
    Ok(Some(Text { path: path.to_owned(), text, is_private }))
}

impl Text {
    /// The settings of the file that the command line does not override, as flags.
    fn flags(&self, given: &ArgMatches) -> Result<Vec<String>, Failure> {
        let document = Document::parse(self.text.as_str()).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            self.refuse(at, error.message(), "the form is `name = \"value\"`, as in TOML")
        })?;
        let command = Cli::command();
        let mut flags = Vec::new();
        for (name, item) in document.as_table() {
            let at = document.as_table().key(name).and_then(|key| key.span()).map_or(0, |span| span.start);
            let arg = known(&command).find(|arg| arg.get_long() == Some(name));
            let arg =
                arg.ok_or_else(|| self.refuse(at, &format!("there is no setting \"{name}\""), &near(&command, name)))?;
            if name == TOKEN[0] && !self.is_private {
                let hint = format!("chmod 600 {}, or use join-token-file", self.path.display());
                return Err(self.refuse(at, "other users can read this file and the join token in it", &hint));
            }
            let written = written(name, arg, item)
                .map_err(|hint| self.refuse(at, &format!("\"{name}\" has the wrong form"), &hint))?;
            self.judge(at, &written)?;
            if !is_given(given, name) {
                flags.extend(written);
            }
        }
        Ok(flags)
    }

    /// Refuses what would be refused on the command line. Flags required in addition may be given there.
    fn judge(&self, at: usize, flags: &[String]) -> Result<(), Failure> {
        let line = ["swarmd".to_owned()].into_iter().chain(flags.iter().cloned());
        match Cli::command().try_get_matches_from(line) {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), ClapError::MissingRequiredArgument | ClapError::ArgumentConflict) => {
                Ok(())
            }
            Err(error) => {
                let failure = Failure::from(error);
                Err(self.refuse(at, &failure.sentence, &failure.hint))
            }
        }
    }

    fn refuse(&self, at: usize, why: &str, hint: &str) -> Failure {
        let line = self.text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
        Failure::new(format!("{}, line {line}: {why}", self.path.display()), hint).with_code(code::USAGE)
    }
}

/// The flags that are allowed in a file.
fn known(command: &clap::Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| arg.get_long().is_some_and(|name| !NOT_IN_A_FILE.contains(&name)))
}

/// Whether the command line or the environment sets a flag.
fn is_given(given: &ArgMatches, name: &str) -> bool {
    let names: &[&str] = if TOKEN.contains(&name) { &TOKEN } else { &[name] };
    names.iter().any(|name| {
        let source = given.value_source(&name.replace('-', "_"));
        matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    })
}

/// A setting as flags, or its expected form.
fn written(name: &str, arg: &Arg, item: &Item) -> Result<Vec<String>, String> {
    let flag = |value: &Value| scalar(value).map(|value| format!("--{name}={value}"));
    match (arg.get_action(), item.as_value()) {
        (_, Some(Value::Boolean(on))) if is_switch(arg) => Ok(vec![format!("--{name}={}", on.value())]),
        _ if is_switch(arg) => Err(format!("write `{name} = true` or `{name} = false`")),
        (ArgAction::Append, Some(Value::Array(list))) => {
            let flags: Option<Vec<String>> = list.iter().map(flag).collect();
            flags.ok_or_else(|| format!("write `{name} = [\"VALUE\"]`"))
        }
        (_, value) => {
            let flag = value.and_then(flag).map(|flag| vec![flag]);
            flag.ok_or_else(|| format!("write `{name} = \"VALUE\"`"))
        }
    }
}

/// Whether a flag is boolean.
fn is_switch(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<bool>()
}

fn scalar(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned).or_else(|| value.as_integer().map(|number| number.to_string()))
}

/// A suggestion for an unknown name.
fn near(command: &clap::Command, name: &str) -> String {
    let name = name.replace('_', "-");
    let likeness = |known: &str| strsim::jaro_winkler(known, &name);
    let best = known(command).filter_map(Arg::get_long).max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match best.filter(|best| likeness(best) >= ALIKE) {
        Some(best) => format!("write \"{best}\""),
        None => "the names are those of the flags, without the dashes in front: `swarmd --help` lists them".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::daemon::config::{ExecutorKind, LogLevel};

    fn read_file(text: &str, mode: u32, flags: &str) -> Result<Arguments, Refused> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("swarmd.toml");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
        let line = ["swarmd"].into_iter().chain(flags.split_whitespace()).map(OsString::from);
        read_with(line, &path)
    }

    const FILE: &str = r#"
        # A worker.
        state-dir = "/srv/swarmd"
        join-addr = "10.0.0.1:4242"
        join-token-file = "/run/token"
        log-level = "debug"
        allow-mount = ["/srv", "/data"]
        allow-privileged = true
        allow-core-dumps = false
        executor = "process"
    "#;

    #[test]
    fn a_file_says_what_flags_say() {
        let parsed = read_file(FILE, 0o644, "").expect("a file");
        let run = parsed.cli.run;
        assert_eq!(run.state_dir, Path::new("/srv/swarmd"));
        assert_eq!(run.join_addr.as_deref(), Some("10.0.0.1:4242"));
        assert_eq!(run.join_token_file.as_deref(), Some(Path::new("/run/token")));
        assert_eq!((run.log_level, run.executor), (LogLevel::Debug, Some(ExecutorKind::Process)));
        assert_eq!(run.allow_mount, [PathBuf::from("/srv"), PathBuf::from("/data")]);
        assert_eq!((run.allow_privileged, run.allow_core_dumps), (true, false));
        assert!(parsed.file.is_some());
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let run = |flags| read_file(FILE, 0o644, flags).expect("a file").cli.run;
        assert_eq!(run("--log-level warn --state-dir /x").log_level, LogLevel::Warn);
        assert!(run("--state-dir /x").allow_privileged);
        assert!(!run("--allow-privileged=false").allow_privileged, "a switch is turned off");
        assert!(run("--allow-core-dumps").allow_core_dumps && run("--allow-core-dumps=true").allow_core_dumps);
        assert_eq!(run("--allow-mount /mnt").allow_mount, [PathBuf::from("/mnt")], "a list is replaced");
        let token = run("--join-token SWMTKN-1-x");
        assert!(token.join_token.is_some() && token.join_token_file.is_none(), "one token replaces the other");
        let dev = read_file(FILE, 0o644, "--dev").expect("a command line");
        assert!(dev.file.is_none() && dev.cli.run.executor.is_none(), "it is not read at all");
        let replay = read_file("rubbish", 0o644, "replay").expect("a command line");
        assert!(replay.file.is_none());
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_line_and_what_is_right() {
        let table = [
            ("log_level = \"info\"", 0o600, "line 1: there is no setting \"log_level\"", "write \"log-level\""),
            ("\nlisten-remote = \"x\"", 0o600, "line 2: there is no setting", "write \"listen-remote-api\""),
            ("zzz = 1", 0o600, "there is no setting \"zzz\"", "the names are those of the flags"),
            ("dev = true", 0o600, "there is no setting \"dev\"", ""),
            ("config = \"x\"", 0o600, "there is no setting \"config\"", ""),
            ("log-level = \"loud\"", 0o600, "line 1: invalid value 'loud' for '--log-level", ""),
            ("allow-privileged = \"yes\"", 0o600, "has the wrong form", "write `allow-privileged = true`"),
            ("log-level = true", 0o600, "has the wrong form", "write `log-level = \"VALUE\"`"),
            ("[log]\nlevel = 1", 0o600, "there is no setting \"log\"", ""),
            ("log-level = ", 0o600, "line 1", "name = "),
            ("join-token = \"SWMTKN-1-x\"", 0o640, "other users can read this file", "chmod 600"),
        ];
        for (text, mode, sentence, hint) in table {
            let Err(Refused::File(refused)) = read_file(text, mode, "") else { panic!("{text} is refused") };
            assert!(refused.sentence.contains(sentence) && refused.hint.contains(hint), "{text}: {refused:?}");
            assert!(refused.code == code::USAGE && !refused.to_string().contains("SWMTKN"), "{refused}");
        }
        assert!(read_file("join-token = \"SWMTKN-1-x\"", 0o600, "--join-addr 10.0.0.1:1").is_ok());
        let large = format!("# {}", "x".repeat(BYTES_MAX as usize));
        assert!(matches!(read_file(&large, 0o600, ""), Err(Refused::File(_))));
    }

    #[test]
    fn only_a_file_that_is_named_has_to_exist() {
        let line = |flags: &[&str]| ["swarmd"].iter().chain(flags).map(OsString::from).collect::<Vec<_>>();
        let none = Path::new("/nonexistent/swarmd.toml");
        assert!(read_with(line(&[]), none).is_ok_and(|parsed| parsed.file.is_none()));
        assert!(matches!(read_with(line(&["--config", "/nonexistent/x"]), none), Err(Refused::File(_))));
        let wrong = "--nonsense|--listen-remote-api 127.0.0.1|--log-level loud|--executor podman|--metrics-addr 5052";
        for wrong in wrong.split('|') {
            let flags: Vec<&str> = wrong.split(' ').collect();
            assert!(matches!(read_with(line(&flags), none), Err(Refused::Line(_))), "{wrong}");
        }
    }
}
