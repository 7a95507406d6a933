//! `swarmlog-verify`: verifies an export of a cluster's history, offline.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use events::frame::FrameHash;
use verify::checkpoint::Checkpoint;
use verify::verify::{Known, Report, hex, verify};

/// Bytes that are read at a time.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Verify an export of a cluster's history, as `swarmd export` writes it
///
/// Every frame has to carry the hash of the one before it, and the events have to make the states whose hashes were recorded. Compared
/// with a checkpoint or a head that was kept elsewhere, an export cannot have been rewritten or cut short since. Exits with 0 if all is
/// whole, 1 if something is not, 2 if the files cannot be read.
#[derive(Debug, Parser)]
#[command(name = "swarmlog-verify", version)]
struct Args {
    /// The export
    #[arg(value_name = "FILE")]
    export: PathBuf,

    /// A checkpoint of the same history that was kept; may be repeated
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,

    /// A head that was noted, as `swarmctl cluster inspect` shows it: index and frame hash; may be repeated
    #[arg(long, value_name = "INDEX:HASH", value_parser = head)]
    head: Vec<(u64, FrameHash)>,

    /// Write the checkpoint of this export to a file, to keep it elsewhere
    #[arg(long, value_name = "FILE")]
    write_checkpoint: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // A frame that cannot follow is a fault of the export, and is reported as one.
    std::panic::set_hook(Box::new(|_| {}));
    match run(&args) {
        Ok(report) if report.faults.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(sentence) => {
            eprintln!("swarmlog-verify: {sentence}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<Report, String> {
    let checkpoints = args.checkpoint.iter().map(|path| checkpoint(path)).collect::<Result<_, _>>()?;
    let known = Known { checkpoints, heads: args.head.clone() };
    let file = File::open(&args.export).map_err(|error| format!("cannot read {}: {error}", args.export.display()))?;
    let report = verify(BufReader::with_capacity(BUFFER_BYTES, file), &known);
    let report = report.map_err(|error| format!("cannot read {}: {error}", args.export.display()))?;
    let written = std::io::stdout().write_all(text(&report).as_bytes());
    written.map_err(|error| format!("cannot write the result: {error}"))?;
    if let Some(path) = &args.write_checkpoint {
        let checkpoint = report.checkpoint.as_ref().ok_or("there is no checkpoint of an export that is not whole")?;
        let written = std::fs::write(path, checkpoint.to_string());
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(report)
}

fn text(report: &Report) -> String {
    let head = report.head.map_or_else(String::new, |(index, hash)| format!("{index}:{}", hex(&hash)));
    let (same, others) = report.hashes;
    let mut lines = vec![
        format!("frames      {}, from index {}", report.frames, report.first),
        format!("head        {head}"),
        format!("states      {same} recorded hashes compared, {others} of another fold version not"),
        format!("kept        {} checkpoints and heads compared", report.compared),
    ];
    lines.extend(report.faults.iter().map(|fault| format!("FAULT       {fault}")));
    if report.more > 0 {
        lines.push(format!("FAULT       and {} more", report.more));
    }
    lines.push(if report.faults.is_empty() { "verified".to_owned() } else { "not verified".to_owned() });
    lines.extend(report.checkpoint.as_ref().map(|checkpoint| format!("\n{checkpoint}")));
    lines.join("\n").trim_end().to_owned() + "\n"
}

fn checkpoint(path: &Path) -> Result<Checkpoint, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    text.parse().map_err(|why| format!("{}: {why}", path.display()))
}

/// `INDEX:HASH`.
fn head(text: &str) -> Result<(u64, FrameHash), String> {
    let malformed = || "an index and the 64 hexadecimal digits of a hash are expected, such as 12:9f86...".to_owned();
    let (index, digits) = text.split_once(':').ok_or_else(malformed)?;
    let index = index.parse().map_err(|_| malformed())?;
    if digits.len() != 64 || !digits.is_ascii() {
        return Err(malformed());
    }
    let bytes =
        (0..32).map(|byte| u8::from_str_radix(&digits[byte * 2..byte * 2 + 2], 16)).collect::<Result<Vec<_>, _>>();
    let hash = bytes.ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(malformed)?;
    Ok((index, hash))
}
