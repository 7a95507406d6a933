//! Directives of scripts to the world.
//!
//! | directive | what happens |
//! |---|---|
//! | `nodes <n>` | a cluster of nodes `n1`, the manager, to `n<n>`, each with 4 cores and 8 GiB; the first directive |
//! | `node <name> [<what>=<value>...]` | a machine joins, or its description changes: `cpus`, `memory` (GiB), `generic` (`gpu=2` or `gpu=a,b`), `os`, `arch`, `engine-label` (`key=value`), `plugin` (`type/name`), `executor`, `token` to join with |
//! | `advance <n>s\|m\|h` | time passes |
//! | `settle` | time passes until nothing is in progress and nothing was committed for 2 s |
//! | `crash node <name>`, `return node <name>` | it loses power, and gets it back |
//! | `cut node <name>`, `mend node <name>` | it is partitioned, and reconnected |
//! | `stop agent <name>`, `start agent <name>` | only its agent stops; containers keep running |
//! | `crash manager`, `start manager` | its process is killed; it starts from its disk |
//! | `damage frame <index>` | a bit of the frame flips on the manager's disk |
//! | `registry <image> <digest>\|down [<os>/<arch>...]` | the tag has this digest at its registry, for these platforms; or the registry does not answer |
//! | `load <service> [cpu=<cores>] [memory=<MiB>MiB]` | its running tasks share this load from now on |
//! | `kill task <reference> [exit=<code>]` | the task's container ends on its own, with 137 by default |
//! | `ui` | `swarmctl ui` is opened; its screen |
//! | `keys [<key>...]` | keys are pressed there; the screen afterwards. A key is a name such as `enter` or `pgup`, or literal text, with `_` for a space |

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use events::{EngineDescription, EnginePlugin, GenericResource, NodeDescription, Platform, Resources};
use node::log::Crash;
use node::manager::replica::Intervals;
use projections::views::overview::{resolve_service, resolve_task};

use super::Player;
use crate::load::Load;
use crate::world::World;

const GIB: u64 = 1 << 30;
const CORE: u64 = 1_000_000_000;
/// Seed of all scenarios: they differ in their commands, not by chance.
const SEED: u64 = 1;

impl Player {
    /// Executes a line and returns its output: an error of the cluster, or nothing.
    pub(super) fn directive(&mut self, line: &str) -> anyhow::Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["nodes", count] = words[..] {
            self.begin(count.parse()?)?;
            return Ok(String::new());
        }
        match words[..] {
            ["ui"] => return self.open_screen(),
            ["keys", ref keys @ ..] => return self.press(keys),
            _ => {}
        }
        let world = self.world()?;
        let mut world = world.borrow_mut();
        match words[..] {
            ["node", name, ref parts @ ..] => return self.node(&mut world, name, parts),
            ["advance", length] => world.advance(duration(length)?)?,
            ["settle"] => world.settle()?,
            ["crash", "node", name] => {
                let node = world.node_called(name)?;
                world.crash_node(node)?;
            }
            ["return", "node", name] | ["start", "agent", name] => {
                let node = world.node_called(name)?;
                world.start_agent(node)?;
            }
            ["stop", "agent", name] => {
                let node = world.node_called(name)?;
                world.stop_agent(node)?;
            }
            ["cut", "node", name] => {
                let node = world.node_called(name)?;
                world.net.cut(node);
            }
            ["mend", "node", name] => {
                let (node, now) = (world.node_called(name)?, world.clock.now());
                world.net.repair(node, now);
            }
            ["crash", "manager"] => world.crash_manager(Crash::Killed),
            ["start", "manager"] => world.start_manager()?,
            ["damage", "frame", index] => world.manager.damage_frame(index.parse()?)?,
            ["kill", "task", reference] => kill(&mut world, reference, 137)?,
            ["kill", "task", reference, code] => {
                let code = code.strip_prefix("exit=").context("expected exit=<code>")?;
                kill(&mut world, reference, code.parse()?)?;
            }
            ["registry", image, digest, ref platforms @ ..] => {
                let digest = (digest != "down").then(|| digest.to_owned());
                world.registry.insert(image.to_owned(), digest);
                let platforms = platforms.iter().filter_map(|platform| platform.split_once('/'));
                let platforms =
                    platforms.map(|(os, arch)| Platform { os: os.to_owned(), architecture: arch.to_owned() });
                world.platforms.insert(image.to_owned(), platforms.collect());
            }
            ["load", service, ref parts @ ..] => load(&mut world, service, parts)?,
            _ => bail!("there is no such directive"),
        }
        Ok(String::new())
    }

    fn begin(&mut self, count: usize) -> anyhow::Result<()> {
        ensure!(self.world.is_none() && count > 0, "a script has one cluster, of at least one node");
        let mut world = World::new(SEED, machine("n1"), 1, Intervals::default())?;
        for number in 2..=count {
            world.join(machine(&format!("n{number}")), None)?;
        }
        world.settle()?;
        self.world = Some(Rc::new(RefCell::new(world)));
        Ok(())
    }

    fn node(&mut self, world: &mut World, name: &str, parts: &[&str]) -> anyhow::Result<String> {
        let known = world.node_called(name).ok();
        let mut description = match known {
            Some(node) => world.machine(node)?.description.clone(),
            None => machine(name),
        };
        let mut token = None;
        for part in parts {
            let (what, value) = part.split_once('=').context("expected <what>=<value>")?;
            match what {
                "token" => token = Some(self.mask.token_shown_as(value).context("no such token was shown")?),
                _ => equip(&mut description, what, value)?,
            }
        }
        if let Some(node) = known {
            world.machine(node)?.description = description;
            return Ok(String::new());
        }
        // A refusal is part of the transcript.
        Ok(match world.join(description, token.as_deref()) {
            Ok(_) => String::new(),
            Err(refused) => format!("error: {refused}\n"),
        })
    }
}

/// A machine of the default size.
pub fn machine(hostname: &str) -> NodeDescription {
    NodeDescription {
        hostname: hostname.to_owned(),
        platform: Some(Platform { architecture: "x86_64".to_owned(), os: "linux".to_owned() }),
        resources: Some(Resources { nano_cpus: 4 * CORE, memory_bytes: 8 * GIB, generic: Vec::new() }),
        engine: None,
        version: "0.1.0".to_owned(),
        executor: "simulated".to_owned(),
    }
}

fn equip(description: &mut NodeDescription, what: &str, value: &str) -> anyhow::Result<()> {
    let resources = description.resources.get_or_insert_default();
    let platform = description.platform.get_or_insert_default();
    match what {
        "cpus" => resources.nano_cpus = value.parse::<u64>()? * CORE,
        "memory" => resources.memory_bytes = value.strip_suffix("GiB").context("expected GiB")?.parse::<u64>()? * GIB,
        "generic" => resources.generic = vec![generic(value)?],
        "os" => platform.os = value.to_owned(),
        "arch" => platform.architecture = value.to_owned(),
        "executor" => description.executor = value.to_owned(),
        "engine-label" => {
            let (key, value) = value.split_once('=').context("expected key=value")?;
            let engine = description.engine.get_or_insert_with(EngineDescription::default);
            engine.labels.insert(key.to_owned(), value.to_owned());
        }
        "plugin" => {
            let (kind, name) = value.split_once('/').context("expected type/name")?;
            let engine = description.engine.get_or_insert_with(EngineDescription::default);
            engine.plugins.push(EnginePlugin { r#type: kind.to_owned(), name: name.to_owned() });
        }
        _ => bail!("a node has no {what}"),
    }
    Ok(())
}

/// `gpu=2` is an amount, `gpu=a,b` a set of names.
fn generic(text: &str) -> anyhow::Result<GenericResource> {
    let (kind, value) = text.split_once('=').context("expected kind=value")?;
    let (amount, names) = match value.parse() {
        Ok(amount) => (amount, Vec::new()),
        Err(_) => (0, value.split(',').map(str::to_owned).collect()),
    };
    Ok(GenericResource { kind: kind.to_owned(), amount, names })
}

fn duration(text: &str) -> anyhow::Result<Duration> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => bail!("expected a time such as 10s, 5m or 1h"),
    };
    Ok(Duration::from_secs(number.parse::<u64>()? * seconds))
}

/// Sets the load of a service.
fn load(world: &mut World, service: &str, parts: &[&str]) -> anyhow::Result<()> {
    let service = resolve_service(world.oracle.cluster(), service)?;
    let mut load = Load::default();
    for part in parts {
        match part.split_once('=').context("expected <what>=<value>")? {
            ("cpu", cores) => load.milli_cpus = (cores.parse::<f64>()? * 1_000.0) as u64,
            ("memory", size) => {
                load.memory_bytes = size.strip_suffix("MiB").context("expected <number>MiB")?.parse::<u64>()? << 20;
            }
            (what, _) => bail!("a load has no {what}"),
        }
    }
    world.loads.set(service, load);
    Ok(())
}

/// Kills the container of a task, given as a reference of `swarmctl` or as in the transcript.
fn kill(world: &mut World, reference: &str, code: i32) -> anyhow::Result<()> {
    let reference = world.oracle.names.resolve(reference.to_owned());
    // The manager may be down: the container ends anyway.
    let cluster = world.oracle.cluster().clone();
    let task = resolve_task(&cluster, &reference)?;
    let node = cluster.tasks.get(task).and_then(|task| task.node).context("the task is on no node")?;
    let now = world.clock.now();
    ensure!(world.machine(node)?.engine.kill(task, code, now), "the task's container does not run");
    Ok(())
}
