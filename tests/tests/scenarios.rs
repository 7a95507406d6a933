//! Every script in `scenarios/` reproduces its transcript, and every page of `docs/` shows the actual output of its commands.
//! `SWARMLOG_BLESS=1` writes the actual output.

use std::fs;
use std::path::{Path, PathBuf};

use tests::script::{self, diff::diff};

/// The variable that accepts the actual transcripts.
const BLESS: &str = "SWARMLOG_BLESS";
/// The variable that selects a single scenario.
const ONLY: &str = "SWARMLOG_SCENARIO";

#[test]
fn scenarios_tell_the_story_that_is_written_down() {
    let bless = std::env::var_os(BLESS).is_some_and(|value| value == "1");
    check("scenarios", script::run, bless);
}

#[test]
fn pages_show_what_their_commands_print() {
    let bless = std::env::var_os(BLESS).is_some_and(|value| value == "1");
    check("../docs/questions", script::page::run, bless);
}

/// Runs the files of a directory.
fn check(folder: &str, run: fn(&str) -> anyhow::Result<String>, bless: bool) {
    let files = files(folder);
    assert!(!files.is_empty() || std::env::var_os(ONLY).is_some(), "there are files in {folder}");
    let faults: Vec<String> = files.iter().filter_map(|file| fault(file, run, bless)).collect();
    let count = faults.len();
    assert!(faults.is_empty(), "{count} of {folder} differ; `make bless` accepts them:\n\n{}", faults.join("\n\n"));
}

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let only = std::env::var(ONLY).ok();
    let entries = fs::read_dir(&folder).expect("the folder of scenarios can be read");
    let files = entries.map(|entry| entry.expect("an entry of the folder").path());
    let wanted =
        |file: &PathBuf| only.as_ref().is_none_or(|only| file.file_stem().is_some_and(|stem| stem == only.as_str()));
    let mut files: Vec<PathBuf> = files.filter(wanted).collect();
    files.sort();
    files
}

/// The difference of a scenario's output, if there is one.
fn fault(file: &Path, run: fn(&str) -> anyhow::Result<String>, bless: bool) -> Option<String> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let script = fs::read_to_string(file).expect("a scenario can be read");
    if script::commands(&script) == 0 {
        return Some(format!("{name}: no command in it"));
    }
    let played = std::panic::catch_unwind(|| run(&script));
    let transcript = match played {
        Ok(Ok(transcript)) => transcript,
        Ok(Err(error)) => return Some(format!("{name}: {error:#}")),
        Err(_) => return Some(format!("{name}: a check failed, see above")),
    };
    if bless {
        fs::write(file, transcript).expect("a scenario can be written");
        return None;
    }
    diff(&script, &transcript).map(|difference| format!("{name} {difference}"))
}
