//! What a node is started with and keeps: its addresses and its host name. A later start that does not name them uses those
//! of the last one, so that workers find a manager again, and its operators the control socket.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{REMOTE_PORT, RunArgs};
use crate::failure::Failure;
use crate::state_dir;

/// The file in the state directory.
const FILE: &str = "start.json";

/// Addresses and host name of one start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartSettings {
    /// Where the node, as a manager, serves other nodes.
    pub listen_remote_api: SocketAddr,
    /// Address that other nodes are told to use, where it was named.
    pub advertise_remote_api: Option<String>,
    /// Unix socket at which a manager serves operators.
    pub listen_control_api: PathBuf,
    /// The node's name, where it was named: any other follows the machine's.
    pub hostname: Option<String>,
}

impl StartSettings {
    /// The settings of this start: what the flags name, then what the last start had, then the defaults. And in words, what
    /// the flags change.
    pub fn of(args: &RunArgs, last: Option<Self>) -> (Self, Vec<String>) {
        let settings = last.clone().unwrap_or_else(|| Self {
            listen_remote_api: SocketAddr::from(([0, 0, 0, 0], REMOTE_PORT)),
            advertise_remote_api: None,
            listen_control_api: PathBuf::from(wire::DEFAULT_SOCKET),
            hostname: None,
        });
        let settings = Self {
            listen_remote_api: args.listen_remote_api.unwrap_or(settings.listen_remote_api),
            advertise_remote_api: args.advertise_remote_api.clone().or(settings.advertise_remote_api),
            listen_control_api: args.listen_control_api.clone().unwrap_or(settings.listen_control_api),
            hostname: args.hostname.clone().or(settings.hostname),
        };
        let changes = last.map_or_else(Vec::new, |last| settings.changes(&last));
        (settings, changes)
    }

    /// What differs from the last start, one sentence for each flag.
    fn changes(&self, last: &Self) -> Vec<String> {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "not given".to_owned());
        let path = |value: &PathBuf| value.display().to_string();
        let flags = [
            ("--listen-remote-api", last.listen_remote_api.to_string(), self.listen_remote_api.to_string()),
            ("--advertise-remote-api", text(&last.advertise_remote_api), text(&self.advertise_remote_api)),
            ("--listen-control-api", path(&last.listen_control_api), path(&self.listen_control_api)),
            ("--hostname", text(&last.hostname), text(&self.hostname)),
        ];
        let differs = flags.into_iter().filter(|(_, was, is)| was != is);
        differs.map(|(flag, was, is)| format!("{flag} is {is} from now on; it was {was}")).collect()
    }

    /// What the last start left in a state directory, if there was one.
    ///
    /// # Errors
    /// When the file cannot be read, or is not one of these.
    pub fn load(dir: &Path) -> Result<Option<Self>, Failure> {
        let path = dir.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(state_dir::unusable(&path, &error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            let hint = "delete it, and give the addresses and the host name of this node as flags once more";
            Failure::new(format!("{} cannot be read: {error}", path.display()), hint)
        })
    }

    /// Keeps the settings for the next start, unless they are those that are kept already.
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

    use super::*;
    use crate::config::Cli;

    fn flags(words: &[&str]) -> RunArgs {
        Cli::parse_from([&["swarmd"], words].concat()).run
    }

    #[test]
    fn a_start_without_flags_is_the_last_one_again_and_flags_that_differ_are_told() {
        let named =
            ["--listen-remote-api", "127.0.0.1:5000", "--hostname", "m1", "--listen-control-api", "/run/a.sock"];
        let (first, told) = StartSettings::of(&flags(&named), None);
        assert_eq!((first.listen_remote_api.port(), first.hostname.as_deref(), told.len()), (5000, Some("m1"), 0));
        let (again, told) = StartSettings::of(&flags(&[]), Some(first.clone()));
        assert_eq!((&again, told), (&first, vec![]));
        let other = ["--hostname", "m2", "--advertise-remote-api", "m2:5000"];
        let (moved, told) = StartSettings::of(&flags(&other), Some(first.clone()));
        assert_eq!(moved.listen_remote_api, first.listen_remote_api);
        let expected = [
            "--advertise-remote-api is m2:5000 from now on; it was not given",
            "--hostname is m2 from now on; it was m1",
        ];
        assert_eq!(told, expected);
        let (defaults, _) = StartSettings::of(&flags(&[]), None);
        assert_eq!(defaults.listen_remote_api.to_string(), "0.0.0.0:4242");
    }

    #[test]
    fn what_is_kept_is_read_and_damage_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(StartSettings::load(dir.path()), Ok(None));
        let (settings, _) = StartSettings::of(&flags(&["--hostname", "m1"]), None);
        settings.save(dir.path()).expect("saved");
        assert_eq!(StartSettings::load(dir.path()), Ok(Some(settings)));
        std::fs::write(dir.path().join(FILE), "{").expect("written");
        let refused = StartSettings::load(dir.path()).expect_err("it is damaged");
        assert!(refused.hint.starts_with("delete it"), "{refused}");
    }
}
