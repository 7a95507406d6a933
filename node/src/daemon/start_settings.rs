//! The persistent settings of a node: its addresses, its host name and its executor. A later start without these flags reuses
//! the last values, so that workers find the manager again, operators the control socket, monitoring the metrics, and the agent
//! its executor.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::agent;
use crate::daemon::config::{ArchiveDir, ENGINE_ADDR, ExecutorKind, MetricsAddr, REMOTE_PORT, RunArgs};
use crate::daemon::failure::Failure;
use crate::daemon::state_dir;
use crate::security::KeyLock;

/// The file in the state directory.
const FILE: &str = "start.json";

/// The settings of one start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartSettings {
    /// The address on which the node, as a manager, serves other nodes.
    pub listen_remote_api: SocketAddr,
    /// The address that other nodes connect to, if it was set.
    pub advertise_remote_api: Option<String>,
    /// Unix socket on which a manager serves operators.
    pub listen_control_api: PathBuf,
    /// The node's name, if it was set; otherwise it follows the machine's.
    pub hostname: Option<String>,
    /// The executor of the tasks.
    pub executor: ExecutorKind,
    /// The address of the Docker Engine.
    pub engine_addr: String,
    /// The address of metrics and probes, if they are served.
    pub metrics_addr: Option<SocketAddr>,
    /// Directory for archives of history, if set.
    pub history_archive: Option<PathBuf>,
}

impl Default for StartSettings {
    fn default() -> Self {
        Self {
            listen_remote_api: SocketAddr::from(([0, 0, 0, 0], REMOTE_PORT)),
            advertise_remote_api: None,
            listen_control_api: PathBuf::from(wire::DEFAULT_SOCKET),
            hostname: None,
            executor: ExecutorKind::Docker,
            engine_addr: ENGINE_ADDR.to_owned(),
            metrics_addr: None,
            history_archive: None,
        }
    }
}

impl StartSettings {
    /// The settings of this start: the flags, then the values of the last start, then the defaults. Also returns messages about
    /// what the flags change.
    pub fn of(args: &RunArgs, last: Option<Self>) -> (Self, Vec<String>) {
        let settings = last.clone().unwrap_or_default();
        let settings = Self {
            listen_remote_api: args.listen_remote_api.unwrap_or(settings.listen_remote_api),
            advertise_remote_api: args.advertise_remote_api.clone().or(settings.advertise_remote_api),
            listen_control_api: args.listen_control_api.clone().unwrap_or(settings.listen_control_api),
            hostname: args.hostname.clone().or(settings.hostname),
            executor: args.executor.unwrap_or(settings.executor),
            engine_addr: args.engine_addr.clone().unwrap_or(settings.engine_addr),
            metrics_addr: match args.metrics_addr {
                Some(MetricsAddr::At(addr)) => Some(addr),
                Some(MetricsAddr::Off) => None,
                None => settings.metrics_addr,
            },
            history_archive: match &args.history_archive {
                Some(ArchiveDir::At(dir)) => Some(dir.clone()),
                Some(ArchiveDir::Off) => None,
                None => settings.history_archive,
            },
        };
        let changes = last.map_or_else(Vec::new, |last| {
            let stale = settings.stale_advertised_port(&last).filter(|_| args.advertise_remote_api.is_none());
            settings.changes(&last).into_iter().chain(stale).collect()
        });
        (settings, changes)
    }

    /// Refuses a change of the executor while tasks may be running under the previous one: no process would manage them.
    ///
    /// # Errors
    /// When there are such tasks, or the agent's files cannot be read.
    pub fn require_executor_of(&self, last: &Self, dir: &Path, lock: &KeyLock) -> Result<(), Failure> {
        let (was, is) = (last.executor, self.executor);
        if was == is {
            return Ok(());
        }
        let tasks = agent::unfinished_tasks(dir, lock).map_err(agent::unusable_store)?;
        if tasks == 0 {
            return Ok(());
        }
        let tasks = if tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") };
        let sentence =
            format!("--executor {is} would leave {tasks} of this node running unmanaged under --executor {was}");
        let hint = format!(
            "start with --executor {was}, drain the node (`swarmctl node drain`), and change the executor once its tasks have \
             stopped; or, to give them up, end them by hand and delete {}",
            dir.join(FILE).display()
        );
        Err(Failure::new(sentence, hint))
    }

    /// A warning that other nodes still get the port of an address that was set earlier, while this node listens on another
    /// one.
    fn stale_advertised_port(&self, last: &Self) -> Option<String> {
        let port = self.listen_remote_api.port();
        let advertised = self.advertise_remote_api.as_ref()?;
        let (host, advertised_port) = advertised.rsplit_once(':')?;
        let stale = port != last.listen_remote_api.port() && advertised_port != port.to_string();
        stale.then(|| {
            format!(
                "other nodes still use {advertised} (--advertise-remote-api of an earlier start), but this node now listens \
                 at {}: unless something forwards port {advertised_port}, give --advertise-remote-api {host}:{port}",
                self.listen_remote_api
            )
        })
    }

    /// The differences from the last start, one message per flag.
    fn changes(&self, last: &Self) -> Vec<String> {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "not given".to_owned());
        let path = |value: &PathBuf| value.display().to_string();
        let or_off = |value: Option<SocketAddr>| value.map_or_else(|| "off".to_owned(), |addr| addr.to_string());
        let dir_or_off = |value: &Option<PathBuf>| value.as_ref().map_or_else(|| "off".to_owned(), path);
        let flags = [
            ("--listen-remote-api", last.listen_remote_api.to_string(), self.listen_remote_api.to_string()),
            ("--advertise-remote-api", text(&last.advertise_remote_api), text(&self.advertise_remote_api)),
            ("--listen-control-api", path(&last.listen_control_api), path(&self.listen_control_api)),
            ("--hostname", text(&last.hostname), text(&self.hostname)),
            ("--executor", last.executor.to_string(), self.executor.to_string()),
            ("--engine-addr", last.engine_addr.clone(), self.engine_addr.clone()),
            ("--metrics-addr", or_off(last.metrics_addr), or_off(self.metrics_addr)),
            ("--history-archive", dir_or_off(&last.history_archive), dir_or_off(&self.history_archive)),
        ];
        let differs = flags.into_iter().filter(|(_, was, is)| was != is);
        differs.map(|(flag, was, is)| format!("{flag} is {is} from now on; it was {was}")).collect()
    }

    /// The settings of the last start, if there was one.
    ///
    /// # Errors
    /// When the file cannot be read, or is invalid.
    pub fn load(dir: &Path) -> Result<Option<Self>, Failure> {
        let path = dir.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(state_dir::unusable(&path, &error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            let hint =
                "delete it, and give the addresses, the host name and the executor of this node as flags once more";
            Failure::new(format!("{} cannot be read: {error}", path.display()), hint)
        })
    }

    /// The archive directory of the last start, for offline work on a state directory.
    ///
    /// # Errors
    /// Those of [`StartSettings::load`].
    pub fn archives_of(dir: &Path) -> Result<Option<PathBuf>, Failure> {
        Ok(Self::load(dir)?.and_then(|settings| settings.history_archive))
    }

    /// Saves the settings for the next start, unless they are unchanged.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), Failure> {
        if Self::load(dir)?.as_ref() == Some(self) {
            return Ok(());
        }
        let path = dir.join(FILE);
        let text = serde_json::to_vec_pretty(self).map_err(|error| Failure::new(error, ""))?;
        state_dir::replace(&path, &text).map_err(|error| state_dir::unusable(&path, &error))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use events::TaskState;

    use super::*;
    use crate::daemon::config::Cli;

    fn flags(words: &[&str]) -> RunArgs {
        Cli::parse_from([&["swarmd"], words].concat()).run
    }

    #[test]
    fn a_start_without_flags_is_the_last_one_again_and_flags_that_differ_are_told() {
        let named =
            ["--listen-remote-api", "127.0.0.1:5000", "--hostname", "m1", "--listen-control-api", "/run/a.sock"];
        let (first, warnings) = StartSettings::of(&flags(&named), None);
        assert_eq!((first.listen_remote_api.port(), first.hostname.as_deref(), warnings.len()), (5000, Some("m1"), 0));
        let (again, warnings) = StartSettings::of(&flags(&[]), Some(first.clone()));
        assert_eq!((&again, warnings), (&first, vec![]));
        let other = ["--hostname", "m2", "--advertise-remote-api", "m2:5000"];
        let (moved, warnings) = StartSettings::of(&flags(&other), Some(first.clone()));
        assert_eq!(moved.listen_remote_api, first.listen_remote_api);
        let expected = [
            "--advertise-remote-api is m2:5000 from now on; it was not given",
            "--hostname is m2 from now on; it was m1",
        ];
        assert_eq!(warnings, expected);
        let (defaults, _) = StartSettings::of(&flags(&[]), None);
        assert_eq!(defaults.listen_remote_api.to_string(), "0.0.0.0:4242");
    }

    #[test]
    fn the_executor_stays_and_another_is_told() {
        let named = ["--executor", "process", "--engine-addr", "unix:///run/a.sock"];
        let (first, _) = StartSettings::of(&flags(&named), None);
        // The flags of a later start, the resulting executor, and the messages.
        let table: [(&[&str], _, &[&str]); 3] = [
            (&[], ExecutorKind::Process, &[]),
            (&["--executor", "process"], ExecutorKind::Process, &[]),
            (
                &["--executor", "docker", "--engine-addr", "unix:///run/b.sock"],
                ExecutorKind::Docker,
                &[
                    "--executor is docker from now on; it was process",
                    "--engine-addr is unix:///run/b.sock from now on; it was unix:///run/a.sock",
                ],
            ),
        ];
        for (words, executor, expected) in table {
            let (settings, warnings) = StartSettings::of(&flags(words), Some(first.clone()));
            assert_eq!(
                (settings.executor, &warnings[..]),
                (executor, &expected.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
                "{words:?}"
            );
        }
        let (defaults, _) = StartSettings::of(&flags(&[]), None);
        assert_eq!((defaults.executor, &*defaults.engine_addr), (ExecutorKind::Docker, ENGINE_ADDR));
    }

    #[test]
    fn the_address_of_metrics_stays_until_it_is_switched_off() {
        // The flags of each start, the resulting address of metrics, and the messages.
        let table: [(&[&str], Option<&str>, &[&str]); 6] = [
            (&[], None, &[]),
            (
                &["--metrics-addr", "127.0.0.1:9420"],
                Some("127.0.0.1:9420"),
                &["--metrics-addr is 127.0.0.1:9420 from now on; it was off"],
            ),
            (&[], Some("127.0.0.1:9420"), &[]),
            (
                &["--metrics-addr", "127.0.0.1:9421"],
                Some("127.0.0.1:9421"),
                &["--metrics-addr is 127.0.0.1:9421 from now on; it was 127.0.0.1:9420"],
            ),
            (&["--metrics-addr", "off"], None, &["--metrics-addr is off from now on; it was 127.0.0.1:9421"]),
            (&[], None, &[]),
        ];
        let mut last = None;
        for (words, expected, warnings) in table {
            let (settings, changes) = StartSettings::of(&flags(words), last);
            assert_eq!(settings.metrics_addr.map(|addr| addr.to_string()).as_deref(), expected, "{words:?}");
            assert_eq!(changes, warnings, "{words:?}");
            last = Some(settings);
        }
    }

    #[test]
    fn an_advertised_port_that_is_listened_at_no_more_is_told() {
        let named = ["--listen-remote-api", "127.0.0.1:5000", "--advertise-remote-api", "m1:5000"];
        let (first, _) = StartSettings::of(&flags(&named), None);
        // The flags of a later start, and whether other nodes get a port that nothing listens on.
        let table: [(&[&str], bool); 5] = [
            (&[], false),
            (&["--listen-remote-api", "127.0.0.1:6000"], true),
            (&["--listen-remote-api", "127.0.0.2:5000"], false),
            (&["--listen-remote-api", "127.0.0.1:6000", "--advertise-remote-api", "m1:6000"], false),
            (&["--listen-remote-api", "127.0.0.1:6000", "--advertise-remote-api", "m1:7000"], false),
        ];
        for (words, stale) in table {
            let (_, warnings) = StartSettings::of(&flags(words), Some(first.clone()));
            let mended = warnings.iter().any(|warning| warning.ends_with("give --advertise-remote-api m1:6000"));
            assert_eq!(mended, stale, "{words:?}: {warnings:?}");
        }
    }

    #[test]
    fn another_executor_is_refused_while_tasks_may_run() {
        let dir = tempfile::tempdir().expect("a directory");
        let (last, _) = StartSettings::of(&flags(&["--executor", "process"]), None);
        let (next, _) = StartSettings::of(&flags(&["--executor", "docker"]), Some(last.clone()));
        assert_eq!(next.require_executor_of(&last, dir.path(), &KeyLock::default()), Ok(()), "no agent has run");
        // The state of each task, and how many may be running.
        let table: [(&[TaskState], &str); 4] = [
            (&[], ""),
            (&[TaskState::Complete, TaskState::Failed], ""),
            (&[TaskState::Running, TaskState::Complete], "1 task "),
            (&[TaskState::Running, TaskState::Preparing], "2 tasks "),
        ];
        for (row, (states, refused)) in table.into_iter().enumerate() {
            let dir = dir.path().join(row.to_string());
            agent::store_tasks(&dir, states);
            let answer = next.require_executor_of(&last, &dir, &KeyLock::default());
            assert_eq!(answer.is_err(), !refused.is_empty(), "{states:?}");
            if let Err(failure) = answer {
                assert!(failure.sentence.contains(refused), "{failure}");
            }
            assert_eq!(last.require_executor_of(&last, &dir, &KeyLock::default()), Ok(()), "the same executor");
        }
    }

    #[test]
    fn what_is_kept_is_read_and_damage_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(StartSettings::load(dir.path()), Ok(None));
        let (settings, _) = StartSettings::of(&flags(&["--hostname", "m1"]), None);
        settings.save(dir.path()).expect("saved");
        assert_eq!(StartSettings::load(dir.path()), Ok(Some(settings.clone())));
        // A file from before metrics were stored.
        let text = std::fs::read_to_string(dir.path().join(FILE)).expect("a file");
        std::fs::write(dir.path().join(FILE), text.replace(",\n  \"metrics_addr\": null", "")).expect("written");
        assert!(!std::fs::read_to_string(dir.path().join(FILE)).expect("a file").contains("metrics"));
        assert_eq!(StartSettings::load(dir.path()), Ok(Some(settings)));
        std::fs::write(dir.path().join(FILE), "{").expect("written");
        let refused = StartSettings::load(dir.path()).expect_err("it is damaged");
        assert!(refused.hint.starts_with("delete it"), "{refused}");
    }
}
