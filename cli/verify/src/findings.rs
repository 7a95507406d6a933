//! The findings about an export, a proof or a manager's live history, for people and for programs.

use std::fs::File;
use std::io::{BufReader, Read};
use std::panic::PanicHookInfo;
use std::path::Path;

use events::frame::{FrameHash, hash};
use events::{Frame, codec};

use crate::checkpoint::Checkpoint;
use crate::proof::{HEADER, InclusionProof};
use crate::verify::{Report, TrustedInputs, hex, verify};

/// Size of the read buffer, in bytes.
const BUFFER_BYTES: usize = 1024 * 1024;
/// Maximum size of a proof: a frame, and little else.
const PROOF_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Separates the kinds of events in a list.
const SEPARATOR: &str = ", ";

/// The result of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Named facts.
    pub facts: Vec<(&'static str, String)>,
    /// The faults, one sentence each.
    pub faults: Vec<String>,
    /// The checkpoint of the verified history, if it is complete.
    pub checkpoint: Option<Checkpoint>,
}

impl Findings {
    /// The result as text.
    pub fn text(&self) -> String {
        let facts = self.facts.iter().map(|(name, fact)| format!("{name:<12}{fact}"));
        let faults = self.faults.iter().map(|fault| format!("FAULT       {fault}"));
        let mut lines: Vec<String> = facts.chain(faults).collect();
        lines.push(if self.faults.is_empty() { "verified".to_owned() } else { "not verified".to_owned() });
        lines.extend(self.checkpoint.as_ref().map(|checkpoint| format!("\n{checkpoint}")));
        lines.join("\n").trim_end().to_owned() + "\n"
    }
}

impl From<Report> for Findings {
    fn from(report: Report) -> Self {
        let head = report.head.map_or_else(String::new, |(index, hash)| format!("{index}:{}", hex(&hash)));
        let (same, others) = report.hashes;
        let not_compared = if report.redacted > 0 {
            "of another fold version or before a redaction"
        } else {
            "of another fold version"
        };
        let mut facts = vec![
            ("frames", format!("{}, from index {}", report.frames, report.first)),
            ("head", head),
            ("states", format!("{same} recorded hashes compared, {others} {not_compared} not")),
            ("kept", format!("{} checkpoints and heads compared", report.compared)),
        ];
        if report.redacted > 0 {
            facts.push(("redacted", format!("{} frames lost a value, as later frames announce", report.redacted)));
        }
        let more = (report.more > 0).then(|| format!("and {} more", report.more));
        Self { facts, faults: report.faults.into_iter().chain(more).collect(), checkpoint: report.checkpoint }
    }
}

/// Verifies a file, which is an export or a proof.
///
/// # Errors
/// When it cannot be read.
pub fn verify_file(path: &Path, known: &TrustedInputs) -> Result<Findings, String> {
    let unreadable = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut file = BufReader::with_capacity(BUFFER_BYTES, File::open(path).map_err(unreadable)?);
    let mut beginning = Vec::new();
    file.by_ref().take(HEADER.len() as u64).read_to_end(&mut beginning).map_err(unreadable)?;
    if beginning != HEADER.as_bytes() {
        return Ok(verify(beginning.chain(file), known).map_err(unreadable)?.into());
    }
    let mut proof = String::new();
    beginning.chain(file).take(PROOF_BYTES_MAX).read_to_string(&mut proof).map_err(unreadable)?;
    Ok(verify_proof(&proof, known))
}

/// Verifies the proof that a frame is in a history.
pub fn verify_proof(proof: &str, known: &TrustedInputs) -> Findings {
    let verified = proof.parse::<InclusionProof>().and_then(|proof| {
        let (checkpoint, frame) = proof.verify()?;
        Ok((proof, checkpoint, frame))
    });
    let (proof, checkpoint, frame) = match verified {
        Ok(verified) => verified,
        Err(fault) => return Findings { faults: vec![fault], ..Findings::default() },
    };
    let confirmation = known.confirmation(&proof.checkpoint, &checkpoint);
    let digest = hash(&proof.frame);
    let mut facts = vec![
        ("frame", format!("{}:{}", frame.header.index, hex(&digest))),
        ("time", frame.header.log_time.to_string()),
        ("events", events_in(&frame)),
        ("history", format!("number {} of {} frames of cluster {}", proof.number, checkpoint.size, checkpoint.cluster)),
    ];
    facts.extend(confirmation.signed.iter().map(|name| ("signed by", name.clone())));
    if confirmation.kept {
        facts.push(("kept", "matches a kept checkpoint".to_owned()));
    }
    let noted = known.heads.iter().filter(|(index, _)| *index == frame.header.index);
    let other = noted
        .filter(|(_, noted)| *noted != digest)
        .map(|(index, _)| format!("frame {index} does not match the noted head"));
    let faults = confirmation.faults.into_iter().chain(other).collect::<Vec<_>>();
    let checkpoint = Some(checkpoint).filter(|_| faults.is_empty());
    Findings { facts, faults, checkpoint }
}

/// The kinds of events in a frame, in order.
fn events_in(frame: &Frame) -> String {
    let mut kinds: Vec<&str> = codec::kinds(frame).map(events::Kind::name).collect();
    kinds.dedup();
    kinds.join(SEPARATOR)
}

/// Reads a checkpoint from a file.
///
/// # Errors
/// When it cannot be read, or is not a checkpoint.
pub fn kept_checkpoint(path: &Path) -> Result<Checkpoint, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    text.parse().map_err(|why| format!("{}: {why}", path.display()))
}

/// Parses a log head: `INDEX:HASH`.
///
/// # Errors
/// When the text is malformed.
pub fn noted_head(text: &str) -> Result<(u64, FrameHash), String> {
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

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Sync + Send + 'static>;

/// Suppresses the output of panics while it exists: an impossible event is a fault of the history, and reported as one.
pub struct QuietPanics(Option<Hook>);

impl QuietPanics {
    /// Suppresses panic output from now on.
    #[must_use]
    pub fn begin() -> Self {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        Self(Some(hook))
    }
}

impl Drop for QuietPanics {
    fn drop(&mut self) {
        // The hook cannot be changed during a panic.
        if let Some(hook) = self.0.take().filter(|_| !std::thread::panicking()) {
            std::panic::set_hook(hook);
        }
    }
}
