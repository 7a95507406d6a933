//! `sim --seed N`: one simulated cluster with faults, shown step by step with `--verbose`; with `--count`, that many seeds, of
//! which only failing ones are shown.

use clap::Parser;

/// Run one simulated cluster with faults
#[derive(Debug, Parser)]
struct Args {
    /// Seed of the random generator that determines the whole run
    #[arg(long)]
    seed: u64,

    /// Run this many seeds, starting with this one, and show those that fail
    #[arg(long, default_value_t = 1)]
    count: u64,

    /// Several managers without agents, instead of one manager with agents
    #[arg(long)]
    quorum: bool,

    /// Several managers, and agents that hold their sessions with any of them
    #[arg(long, conflicts_with = "quorum")]
    fleet: bool,

    /// Clients that set and read registers at any of three managers, checked for linearizability
    #[arg(long, conflicts_with_all = ["quorum", "fleet"])]
    registers: bool,

    /// Print every step; with the variable RUST_LOG also the logs of managers
    #[arg(long)]
    verbose: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.verbose {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).without_time().init();
    }
    if args.count > 1 {
        return many(&args);
    }
    if args.registers {
        println!("seed {}: all is well: {:?}", args.seed, tests::quorum::registers::run(args.seed, args.verbose)?);
        return Ok(());
    }
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

/// Runs many seeds, one after the other.
fn many(args: &Args) -> anyhow::Result<()> {
    let mut failed = 0;
    for seed in args.seed..args.seed.saturating_add(args.count) {
        let played = std::panic::catch_unwind(|| match (args.quorum, args.fleet) {
            _ if args.registers => tests::quorum::registers::run(seed, false).map(drop),
            (true, _) => tests::quorum::chaos::run(seed, false).map(drop),
            (false, true) => tests::quorum::chaos::agents::run(seed, false).map(drop),
            (false, false) => tests::chaos::run(seed, false).map(drop),
        });
        match played {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                failed += 1;
                println!("seed {seed} fails: {error}");
            }
            Err(_) => {
                failed += 1;
                println!("seed {seed} fails: a check failed, see above");
            }
        }
    }
    anyhow::ensure!(failed == 0, "{failed} of {} seeds fail", args.count);
    println!("{} seeds: all is well", args.count);
    Ok(())
}
