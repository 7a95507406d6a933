//! Verbs about proofs of history.

mod checkpoint;
mod keys;
mod prove;
mod verify;

super::verbs! {
    Checkpoint(checkpoint::Args) => checkpoint,
    Prove(prove::Args) => prove,
    Verify(verify::Args) => verify,
    Keys(keys::Args) => keys,
}

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use wire::v1::Cosigner;

use crate::failure::{Failure, Kind};
use crate::format::Format;
use crate::manager::Manager;
use crate::session::Session;

/// Prints a text of several lines, or writes it to a new file.
fn deliver<M: Manager>(
    text: &str,
    file: Option<&PathBuf>,
    object: &impl Serialize,
    session: &mut Session<'_, M>,
) -> Result<(), Failure> {
    if let Some(path) = file {
        write(path, text)?;
    }
    match (session.globals.format, file) {
        (Format::Json, _) => session.json(object),
        (Format::Table, Some(path)) => session.line(&path.display().to_string()),
        (Format::Table, None) => session.text(text),
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = created.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::new(Kind::Exists, format!("{} exists already", path.display())).hint("choose another name")
        }
        _ => {
            let failure = Failure::new(Kind::Other, format!("cannot write {}: {error}", path.display()));
            failure.hint("choose a file in a writable directory, on a disk with enough space")
        }
    })
}

/// Reports the managers that did not sign.
fn report_missing_signatures<M: Manager>(others: &[Cosigner], session: &mut Session<'_, M>) -> Result<(), Failure> {
    for Cosigner { hostname, silent, .. } in others {
        if let Some(why) = silent {
            session.note(&format!("not signed by {hostname}: {why}"))?;
        }
    }
    Ok(())
}

/// The managers whose history differs: one of the histories was rewritten.
fn disagreements(others: &[Cosigner]) -> Vec<String> {
    let other = |Cosigner { node, hostname, other_root, .. }: &Cosigner| {
        let root = other_root.as_ref()?;
        Some(format!("manager {hostname} ({node}) has a different history: its root of the same frames is {root}"))
    };
    others.iter().filter_map(other).collect()
}

/// Fails if managers disagree, after everything was printed.
fn require_agreement(others: &[Cosigner]) -> Result<(), Failure> {
    let disagreements = disagreements(others);
    if disagreements.is_empty() {
        return Ok(());
    }
    let hint = "verify each manager with `swarmctl --host MANAGER audit verify --live --checkpoint KEPT` against a checkpoint that was kept elsewhere";
    Err(Failure::new(Kind::Other, disagreements.join("; ")).hint(hint))
}
