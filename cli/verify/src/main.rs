//! `swarmlog-verify`: verifies an export of a cluster's history, or a proof about it, offline.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use events::frame::FrameHash;
use verify::findings::{Findings, QuietPanics, kept_checkpoint, noted_head, verify_file};
use verify::note::VerifierKey;
use verify::verify::TrustedInputs;

/// Verify an export of a cluster's history, as `swarmd export` writes it, or a proof, as `swarmctl audit prove` does
///
/// Every frame must contain the hash of the one before it, and the events must lead to the states whose hashes were recorded. If
/// an export matches a checkpoint or a head that was kept elsewhere, it was not rewritten or cut short since. A proof shows that
/// one frame is part of a history whose checkpoint is signed with a trusted key, or was kept. Exits with 0 if everything is
/// intact, 1 if something is not, 2 if the files cannot be read.
#[derive(Debug, Parser)]
#[command(name = "swarmlog-verify", version)]
struct Args {
    /// The export or the proof
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// A checkpoint of the same history that was kept earlier; may be repeated
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,

    /// A trusted key for signatures on the checkpoint of a proof, as `swarmctl audit keys` shows it; may be repeated
    #[arg(long, value_name = "KEY")]
    key: Vec<VerifierKey>,

    /// A log head that was noted earlier, as `swarmctl cluster inspect` shows it: index and frame hash; may be repeated
    #[arg(long, value_name = "INDEX:HASH", value_parser = noted_head)]
    head: Vec<(u64, FrameHash)>,

    /// Write the checkpoint of this export or proof to a file, to keep it elsewhere
    #[arg(long, value_name = "FILE")]
    write_checkpoint: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let _quiet = QuietPanics::begin();
    match run(&args) {
        Ok(findings) if findings.faults.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(sentence) => {
            eprintln!("swarmlog-verify: {sentence}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<Findings, String> {
    let checkpoints = args.checkpoint.iter().map(|path| kept_checkpoint(path)).collect::<Result<_, _>>()?;
    let known = TrustedInputs { keys: args.key.clone(), checkpoints, heads: args.head.clone() };
    let findings = verify_file(&args.file, &known)?;
    let written = std::io::stdout().write_all(findings.text().as_bytes());
    written.map_err(|error| format!("cannot write the result: {error}"))?;
    if let Some(path) = &args.write_checkpoint {
        let checkpoint = findings.checkpoint.as_ref().ok_or("there is no checkpoint of a damaged history")?;
        let written = std::fs::write(path, checkpoint.to_string());
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(findings)
}
