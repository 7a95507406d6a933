//! `swarmctl audit verify`.

use std::path::PathBuf;

use events::frame::FrameHash;
use events::{ClusterId, Timestamp};
use serde::Serialize;
use tokio_stream::StreamExt;
use verify::checkpoint::Checkpoint;
use verify::findings::{Findings, QuietPanics, kept_checkpoint, noted_head, verify_file};
use verify::note::{SignedNote, VerifierKey};
use verify::proof::verify_consistency;
use verify::tree::Hash;
use verify::verify::{Report, TrustedInputs, Verifier, hex};
use wire::v1::{CheckpointReply, DamagedFrames, ProveConsistencyRequest, ReadFramesRequest};

use super::{disagreements, report_missing_signatures};
use crate::failure::{Failure, Kind};
use crate::format::Format;
use crate::manager::Manager;
use crate::session::Session;

/// The subject of a manager's refusal if its log cannot be read.
const LOG: &str = "log";
/// How often progress is shown.
const SHOWN_EVERY: std::time::Duration = std::time::Duration::from_secs(2);

/// Verify history, or an export or a proof of it
///
/// A file is verified without a manager. With --live, the manager's checkpoint is fetched with all signatures and must continue
/// each checkpoint given with --checkpoint. Then every frame is read: the hash chain, the recorded states and the root must be
/// correct. Each record that is damaged, missing, out of order or rolled back is named. Exits with 1 if a check fails.
///
/// Example: swarmctl audit verify --live --checkpoint /mnt/usb/2026-05-01.checkpoint
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An export (`swarmd export`) or a proof (`audit prove`)
    #[arg(value_name = "FILE", required_unless_present = "live")]
    file: Option<PathBuf>,

    /// Verify the history of the manager that answers
    #[arg(long, conflicts_with = "file")]
    live: bool,

    /// A checkpoint of the same history that was kept earlier; may be repeated
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,

    /// A trusted key, as `audit keys` shows it; may be repeated. Without it, --live trusts the keys of the cluster
    #[arg(long, value_name = "KEY")]
    key: Vec<VerifierKey>,

    /// A log head that was noted earlier, as `cluster inspect` shows it: index and frame hash; may be repeated
    #[arg(long, value_name = "INDEX:HASH", value_parser = noted_head)]
    head: Vec<(u64, FrameHash)>,
}

/// The findings as JSON.
#[derive(Serialize)]
struct Verified<'a> {
    verified: bool,
    facts: Vec<Fact<'a>>,
    faults: &'a [String],
    checkpoint: Option<Root>,
}

#[derive(Serialize)]
struct Root {
    cluster: ClusterId,
    frames: u64,
    root: String,
}

#[derive(Serialize)]
struct Fact<'a> {
    name: &'a str,
    value: &'a str,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.refuse_trial("it changes nothing in the cluster")?;
    let checkpoints = args.checkpoint.iter().map(|path| kept_checkpoint(path)).collect::<Result<_, _>>();
    let checkpoints = checkpoints.map_err(|why| unreadable(&why))?;
    let known = TrustedInputs { keys: args.key.clone(), checkpoints, heads: args.head.clone() };
    let findings = match &args.file {
        Some(file) => {
            if known.keys.is_empty() {
                session.note("the file's signatures are not verified without --key: use the keys that you saved from `swarmctl audit keys -q`")?;
            }
            let _quiet = QuietPanics::begin();
            verify_file(file, &known).map_err(|why| unreadable(&why))?
        }
        None => live(known, session).await?,
    };
    match session.globals.format {
        Format::Json => {
            let Findings { facts, faults, checkpoint } = &findings;
            let facts = facts.iter().map(|(name, value)| Fact { name, value }).collect();
            let root = |of: &Checkpoint| Root { cluster: of.cluster, frames: of.size, root: hex(&of.root) };
            let checkpoint = checkpoint.as_ref().map(root);
            session.json(&Verified { verified: faults.is_empty(), facts, faults, checkpoint })?;
        }
        Format::Table => session.text(&findings.text())?,
    }
    if findings.faults.is_empty() {
        return Ok(());
    }
    let sentence = format!("not verified (faults: {})", findings.faults.len());
    let failure = Failure::new(Kind::Other, sentence);
    Err(failure.hint("keep all exports, checkpoints and backups; other managers may have an intact copy"))
}

fn unreadable(why: &str) -> Failure {
    Failure::new(Kind::Usage, why)
        .hint("`swarmctl audit checkpoint`, `audit prove` and `swarmd export` write such files")
}

/// Verifies the complete history of a manager.
async fn live<M: Manager>(mut known: TrustedInputs, session: &mut Session<'_, M>) -> Result<Findings, Failure> {
    if known.keys.is_empty() {
        let keys = session.manager.audit_keys().await?;
        // Former managers no longer sign.
        let present = keys.iter().filter(|key| key.former_until.is_none());
        known.keys = present.filter_map(|key| key.key.parse().ok()).collect();
        session.note("these keys come from the cluster itself: use --key with keys that you saved earlier")?;
    }
    let (reply, mut faults) = match session.manager.checkpoint().await {
        Ok(reply) => (reply, Vec::new()),
        // The log is damaged: the readable part of history is verified anyway.
        Err(failure) if failure.subject.as_deref() == Some(LOG) => {
            let index = session.manager.cluster(false).await?.index;
            (CheckpointReply { index, ..CheckpointReply::default() }, vec![failure.sentence])
        }
        Err(failure) => return Err(failure),
    };
    report_missing_signatures(&reply.others, session)?;
    faults.extend(disagreements(&reply.others));
    let signed = match reply.note.parse::<SignedNote>().and_then(|note| Ok((note.text().parse::<Checkpoint>()?, note)))
    {
        Ok((signed, note)) => {
            faults.extend(known.confirmation(&note, &signed).faults);
            faults.extend(inconsistencies(&signed, &known, session).await?);
            faults.dedup();
            Some((signed, note))
        }
        Err(_) if !faults.is_empty() => None,
        Err(why) => {
            faults.push(why);
            None
        }
    };
    // If consistency was proved, the proofs have reported on these already.
    let proved = if signed.is_some() { known.checkpoints.len() } else { 0 };
    let unproved =
        TrustedInputs { checkpoints: known.checkpoints.get(proved..).unwrap_or_default().to_vec(), ..known.clone() };
    let mut report = read(&reply, unproved, session).await?;
    if let Some((signed, _)) = &signed
        && report.faults.is_empty()
        && (report.frames, report.root) != (signed.size, signed.root)
    {
        let (frames, size) = (report.frames, signed.size);
        faults.push(format!("the {frames} frames of this manager do not match the {size} that it signed"));
    }
    report.compared += proved as u64;
    let mut findings = Findings::from(report);
    if let Some((_, note)) = &signed {
        let valid = known.keys.iter().filter(|key| note.verdict(key) == verify::note::Verdict::Signed);
        findings.facts.extend(valid.map(|key| ("signed by", key.name().to_owned())));
    }
    findings.faults.splice(0..0, faults);
    if !findings.faults.is_empty() {
        findings.checkpoint = None;
    }
    Ok(findings)
}

/// Why history, as signed by the manager, does not continue the kept checkpoints.
async fn inconsistencies<M: Manager>(
    signed: &Checkpoint,
    known: &TrustedInputs,
    session: &mut Session<'_, M>,
) -> Result<Vec<String>, Failure> {
    let mut faults = Vec::new();
    for kept in &known.checkpoints {
        let path = if kept.cluster == signed.cluster && kept.size < signed.size {
            let request = ProveConsistencyRequest { old: kept.size, size: signed.size };
            let path = session.manager.prove_consistency(request).await?.path;
            path.into_iter().map(|hash| Hash::try_from(hash).unwrap_or_default()).collect()
        } else {
            Vec::new()
        };
        faults.extend(verify_consistency(kept, signed, &path).err());
    }
    Ok(faults)
}

/// Reads and verifies every frame that the manager's checkpoint covers.
async fn read<M: Manager>(
    reply: &CheckpointReply,
    known: TrustedInputs,
    session: &mut Session<'_, M>,
) -> Result<Report, Failure> {
    let (mut verifier, mut shown) = (Verifier::new(known), session.env.clock.now());
    let mut pages = session.manager.frames(ReadFramesRequest { from: 0, to: reply.index }).await?;
    while let Some(page) = pages.next().await {
        let page = page?;
        {
            let _quiet = QuietPanics::begin();
            page.stored.iter().for_each(|stored| verifier.take("", stored));
        }
        if let Some(DamagedFrames { from, to, reason }) = page.damaged {
            let frames = if from == to { format!("frame {from}") } else { format!("frames {from} to {to}") };
            verifier.damaged("", &format!("{frames} cannot be read: {reason}"));
        }
        let now: Timestamp = session.env.clock.now();
        if now.since(shown) >= SHOWN_EVERY {
            shown = now;
            session.note(&format!("frame {} of {}", verifier.last(), reply.index))?;
        }
    }
    Ok(verifier.finish())
}
