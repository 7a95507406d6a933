//! Machines with agents and engines next to the managers: each agent has its session with one of them, and with another one once
//! that is gone.

use std::collections::{BTreeMap, BTreeSet};

use events::{NodeDescription, NodeId, TaskId, TaskState, Timestamp};
use projections::Cluster;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::agent::{Agent, Records};
use crate::chaos::running_tasks;
use crate::engine::Engine;
use crate::net::{Net, NetworkConditions, Parcel, ToAgent, ToManager};

/// The machines, and the network between them and each manager.
pub struct Fleet {
    machines: BTreeMap<NodeId, Machine>,
    nets: Vec<Net>,
    random: StdRng,
    /// Number of attempts to open a session.
    pub attempts: u64,
}

struct Machine {
    description: NodeDescription,
    engine: Engine,
    agent: Option<Agent>,
    records: Records,
    /// The number of its present manager.
    manager: usize,
}

impl Fleet {
    /// A fleet without machines, and a network to each manager.
    pub fn new(seed: u64, managers: usize) -> Self {
        let nets = (0..managers as u64).map(|number| Net::new(seed ^ number << 32)).collect();
        Self { machines: BTreeMap::new(), nets, random: StdRng::seed_from_u64(seed ^ 0xf1ee7), attempts: 0 }
    }

    /// Adds a node's machine, whose agent starts.
    pub fn add(&mut self, node: NodeId, description: NodeDescription, now: Timestamp) {
        let records = Records::default();
        let agent = Some(Agent::start(&records, now));
        self.machines.insert(node, Machine { description, engine: Engine::default(), agent, records, manager: 0 });
    }

    /// The nodes.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.machines.keys().copied().collect()
    }

    /// The time of the next event.
    pub fn next(&self) -> Option<Timestamp> {
        let machines = self.machines.values().flat_map(|machine| {
            let agent = machine.agent.as_ref().and_then(Agent::next);
            [agent, machine.engine.next()].into_iter().flatten()
        });
        machines.chain(self.nets.iter().filter_map(Net::next)).min()
    }

    /// Sends a message to an agent.
    pub fn send(&mut self, manager: usize, node: NodeId, message: ToAgent, now: Timestamp) {
        self.nets[manager].send(Parcel::Down(node, message), now);
    }

    /// Delivers arrived messages to agents, and returns those that arrived for the manager.
    pub fn arrived(&mut self, manager: usize, now: Timestamp) -> Vec<(NodeId, ToManager)> {
        let mut for_manager = Vec::new();
        while let Some(parcel) = self.nets[manager].receive(now) {
            match parcel {
                Parcel::Up(node, message) => for_manager.push((node, message)),
                Parcel::Down(node, message) => {
                    let Some(machine) = self.machines.get_mut(&node) else { continue };
                    // The agent has left this manager: its connection is closed.
                    let Some(agent) = machine.agent.as_mut().filter(|_| machine.manager == manager) else { continue };
                    let said = agent.receive(message, &mut machine.engine, now);
                    self.send_up(node, said, now);
                }
            }
        }
        for_manager
    }

    /// Lets engines and agents do what is due.
    pub fn work(&mut self, now: Timestamp) {
        for node in self.nodes() {
            let said = self.machines.get_mut(&node).map(|machine| machine.work(now)).unwrap_or_default();
            self.send_up(node, said, now);
        }
    }

    /// If possible, a session is opened with another manager than the last one.
    fn send_up(&mut self, node: NodeId, messages: Vec<ToManager>, now: Timestamp) {
        let Some(machine) = self.machines.get_mut(&node) else { return };
        for message in messages {
            if matches!(message, ToManager::Register { .. }) {
                let steps = self.random.random_range(1..self.nets.len().max(2));
                machine.manager = (machine.manager + steps) % self.nets.len();
                self.attempts += 1;
            }
            self.nets[machine.manager].send(Parcel::Up(node, message), now);
        }
    }

    /// A machine loses power.
    pub fn crash(&mut self, node: NodeId, now: Timestamp) {
        if let Some(machine) = self.machines.get_mut(&node) {
            machine.engine.lose_power(now);
            machine.agent = None;
        }
    }

    /// Stops an agent's process; its containers keep running, and its manager notices the broken connection.
    pub fn stop_agent(&mut self, node: NodeId, now: Timestamp) {
        let Some(machine) = self.machines.get_mut(&node) else { return };
        machine.engine.forget_calls();
        if let Some(session) = machine.agent.take().and_then(|agent| agent.session()) {
            self.nets[machine.manager].send(Parcel::Up(node, ToManager::Closed { session }), now);
        }
    }

    /// Starts agents that are stopped.
    pub fn start_agents(&mut self, now: Timestamp) {
        for machine in self.machines.values_mut().filter(|machine| machine.agent.is_none()) {
            machine.agent = Some(Agent::start(&machine.records, now));
        }
    }

    /// A container of a machine ends on its own.
    pub fn end_container(&mut self, node: NodeId, code: i32, now: Timestamp) {
        let Some(machine) = self.machines.get_mut(&node) else { return };
        let first = machine.engine.running().next();
        if let Some(task) = first {
            machine.engine.kill(task, code, now);
        }
    }

    /// Partitions a node from a manager.
    pub fn cut(&mut self, manager: usize, node: NodeId) {
        self.nets[manager].cut(node);
    }

    /// Sets the quality of the network between agents and a manager.
    pub fn set_conditions(&mut self, manager: usize, conditions: NetworkConditions) {
        self.nets[manager].conditions = conditions;
    }

    /// Repairs all networks.
    pub fn repair(&mut self, now: Timestamp) {
        let nodes = self.nodes();
        for net in &mut self.nets {
            net.conditions = NetworkConditions::FINE;
            nodes.iter().for_each(|node| net.repair(*node, now));
        }
    }

    /// The differences from this state.
    pub fn faults(&self, cluster: &Cluster) -> Vec<String> {
        let should_run = running_tasks(cluster);
        let mut faults = Vec::new();
        for (node, machine) in &self.machines {
            let runs: BTreeSet<TaskId> = machine.engine.running().collect();
            let should = should_run.get(node).cloned().unwrap_or_default();
            if runs != should {
                faults.push(format!("{node} runs {runs:?}, and the state says {should:?}"));
            }
            if !machine.agent.as_ref().is_some_and(Agent::is_connected) {
                faults.push(format!("{node} holds no session"));
            }
        }
        faults
    }

    /// Tasks that a machine runs although they are not desired in this state.
    pub fn undesired_tasks(&self, node: NodeId, cluster: &Cluster) -> Vec<TaskId> {
        let running = self.machines.get(&node).into_iter().flat_map(|machine| machine.engine.running());
        let is_wanted = |task: &TaskId| cluster.tasks.get(*task).is_some_and(|task| task.desired == TaskState::Running);
        running.filter(|task| !is_wanted(task)).collect()
    }

    /// All tasks that were ever started, with their node.
    pub fn started(&self) -> Vec<(NodeId, TaskId)> {
        let machines = self.machines.iter();
        machines.flat_map(|(node, machine)| machine.engine.starts().keys().map(|task| (*node, *task))).collect()
    }

    /// Tasks that were started more than once.
    pub fn started_twice(&self) -> Vec<TaskId> {
        let mut starts: BTreeMap<TaskId, u32> = BTreeMap::new();
        for machine in self.machines.values() {
            for (task, count) in machine.engine.starts() {
                *starts.entry(*task).or_default() += count;
            }
        }
        starts.into_iter().filter(|(_, count)| *count > 1).map(|(task, _)| task).collect()
    }
}

impl Machine {
    fn work(&mut self, now: Timestamp) -> Vec<ToManager> {
        let ended = self.engine.finish_due(now);
        let Some(agent) = &mut self.agent else { return Vec::new() };
        for (task, outcome) in ended {
            agent.finished(task, outcome, now);
        }
        agent.work(&self.description, &mut self.engine, &mut self.records, now)
    }
}
