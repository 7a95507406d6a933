//! The source and destination of `task cp`: a path of a task, a local path, or standard input and output.

use std::ffi::OsString;
use std::path::PathBuf;

use super::Invalid;

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A path in a task, relative to its root.
    Task {
        /// The reference.
        task: String,
        /// The path.
        path: String,
    },
    /// A local path.
    Local(PathBuf),
    /// A tar archive on standard input or output.
    Stdio,
}

/// Reads a source or destination. As in `docker cp`, a text that starts with `/` or `.` is a local path.
pub fn parse(text: &str) -> Result<Place, Invalid> {
    if text.is_empty() {
        return Err(Invalid::new("there is no path", "write TASK:PATH, a local path, or -"));
    }
    if text == "-" {
        return Ok(Place::Stdio);
    }
    match text.split_once(':') {
        Some((task, path)) if !text.starts_with(['/', '.']) && !task.is_empty() => {
            if path.is_empty() {
                return Err(Invalid::new("there is no path in the task", "write TASK:PATH, such as web.1:/etc/hosts"));
            }
            let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
            Ok(Place::Task { task: task.to_owned(), path })
        }
        _ => Ok(Place::Local(text.into())),
    }
}

/// The name of a source at its destination; `None` if only its contents are copied: `/srv/.`, `.`, `/`.
pub fn name(path: &str) -> Option<OsString> {
    let path = path.trim_end_matches('/');
    match path.rsplit('/').next() {
        None | Some("" | "." | "..") => None,
        Some(name) => Some(name.into()),
    }
}

/// Whether a path can only refer to a directory.
pub fn means_directory(path: &str) -> bool {
    path.ends_with('/') || path.ends_with("/.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read_as_docker_reads_them() {
        let task = |task: &str, path: &str| Place::Task { task: task.to_owned(), path: path.to_owned() };
        let table = [
            ("-", Place::Stdio),
            ("web.1:/etc/hosts", task("web.1", "/etc/hosts")),
            ("web.1:srv/x:y", task("web.1", "/srv/x:y")),
            ("./web.1:/x", Place::Local("./web.1:/x".into())),
            ("/tmp/a:b", Place::Local("/tmp/a:b".into())),
            ("dir/file", Place::Local("dir/file".into())),
            (":x", Place::Local(":x".into())),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text).expect("it is a place"), expected, "{text}");
        }
        assert!(parse("web.1:").is_err() && parse("").is_err());
    }

    #[test]
    fn names_and_contents() {
        for (path, expected) in [
            ("/etc/hosts", Some("hosts")),
            ("dir/", Some("dir")),
            ("/srv/.", None),
            (".", None),
            ("..", None),
            ("/", None),
        ] {
            assert_eq!(name(path), expected.map(OsString::from), "{path}");
        }
    }
}
