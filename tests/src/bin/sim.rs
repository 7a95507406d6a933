//! `sim --seed N`: one simulated cluster with faults, shown step by step with `--verbose`.

use clap::Parser;

/// Play one simulated cluster with faults
#[derive(Debug, Parser)]
struct Args {
    /// What decides everything that happens
    #[arg(long)]
    seed: u64,

    /// Several managers without agents, instead of one with agents
    #[arg(long)]
    quorum: bool,

    /// Several managers, and agents that hold their sessions with any of them
    #[arg(long, conflicts_with = "quorum")]
    fleet: bool,

    /// Tell what happens
    #[arg(long)]
    verbose: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.quorum || args.fleet {
        let run = if args.fleet { tests::quorum::chaos::agents::run } else { tests::quorum::chaos::run };
        let summary = run(args.seed, args.verbose)?;
        println!("seed {}: all is well: {summary:?}", args.seed);
        return Ok(());
    }
    let (summary, _) = tests::chaos::run(args.seed, args.verbose)?;
    println!(
        "seed {}: all is well after {} s and {} steps: {} frames, {} commands, {} crashes of the manager, {} other faults, \
         {} checkpoints, {} starts with one and {} with all history",
        args.seed,
        summary.length.as_secs(),
        summary.steps,
        summary.frames,
        summary.commands,
        summary.manager_crashes,
        summary.faults,
        summary.checkpoints.written,
        summary.checkpoints.read,
        summary.checkpoints.missed,
    );
    Ok(())
}
