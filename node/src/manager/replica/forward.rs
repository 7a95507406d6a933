//! Commands that are submitted to a manager that does not lead: what it keeps of them until they are answered, and the answers
//! that a leader has to send to other managers.
//!
//! A command is sent to the leader, and sent again whenever the leader changes or no answer comes, until it is answered or times
//! out. Commands are numbered, and each carries the lowest unanswered number: so the leader detects when an earlier one was lost
//! on the way, and requests that one and all after it instead of judging them out of order. A command may so be judged more than
//! once: a command with an id still has one effect, and one without is harmless to repeat. Its answer waits here until this
//! manager has applied the index that it refers to, so that the caller reads its own write.

use std::collections::BTreeMap;

use commands::{Actor, Command, Rejection, RejectionKind};
use projections::{Cluster, Member};
use zeroize::Zeroizing;

use super::contact::NO_LEADER_TICKS;
use super::peers::PeerMessage;
use super::{Effects, Outcome, QUEUE_MAX, Replica, Request, Role, Ticket};

/// Ticks after which an unanswered command is sent again: 1 s, many times what a commit takes.
const SEND_AGAIN_TICKS: u64 = 10;
/// Ticks after which a command times out: 10 s, several elections.
const GIVE_UP_TICKS: u64 = 100;
/// Ticks after which a leader requests missing commands again: a message takes a fraction of a tick.
const RESEND_TICKS: u64 = 3;
/// Bytes of commands that may wait here for the leader's answer; further ones are refused.
const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes that most requests take.
const ENCODED_BYTES: usize = 1024;
/// Tickets from here on belong to a leader, for commands of other managers.
const FORWARDED_TICKETS: Ticket = 1 << 63;

/// Identifies a command among those that one manager forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// The run of that manager: an answer to an earlier run is not taken for one of this run.
    pub run: u64,
    /// Its number.
    pub number: u64,
}

/// The commands that this manager forwards.
#[derive(Default)]
pub(super) struct Forwarding {
    calls: u64,
    waiting: BTreeMap<u64, Waiting>,
    bytes: usize,
    /// Answers to release once this manager has applied an index; with the tick in which the leader's answer arrived.
    answered: BTreeMap<(u64, u64), Vec<(Ticket, Outcome)>>,
}

struct Waiting {
    ticket: Ticket,
    /// May hold secrets.
    request: Zeroizing<Vec<u8>>,
    /// The tick in which it was submitted.
    since: u64,
    /// The leader to which it was sent, and the tick.
    sent: Option<(u64, u64)>,
    /// Whether it may have reached a leader.
    was_sent: bool,
}

impl Forwarding {
    fn keep(&mut self, waiting: Waiting) -> Result<u64, Rejection> {
        if self.waiting.len() >= QUEUE_MAX || self.bytes + waiting.request.len() > WAITING_BYTES_MAX {
            let sentence = format!("{} commands wait for the manager that leads already", self.waiting.len());
            return Err(Rejection::new(RejectionKind::Exhausted, "cluster", sentence, "try again in a moment"));
        }
        self.calls += 1;
        self.bytes += waiting.request.len();
        self.waiting.insert(self.calls, waiting);
        Ok(self.calls)
    }

    fn remove(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        self.bytes -= waiting.request.len();
        Some(waiting)
    }

    /// The commands that this leader was not sent yet, or has not answered for too long.
    fn due(&self, leader: u64, tick: u64) -> Vec<u64> {
        let is_sent =
            |waiting: &Waiting| waiting.sent.is_some_and(|(to, at)| to == leader && at + SEND_AGAIN_TICKS > tick);
        self.waiting.iter().filter(|(_, waiting)| !is_sent(waiting)).map(|(number, _)| *number).collect()
    }

    fn send(&mut self, number: u64, run: u64, leader: u64, tick: u64) -> Option<(u64, PeerMessage)> {
        let waiting = self.waiting.get_mut(&number)?;
        (waiting.sent, waiting.was_sent) = (Some((leader, tick)), true);
        let (call, request) = (Call { run, number }, waiting.request.clone());
        let first = self.waiting.first_key_value().map_or(number, |(first, _)| *first);
        Some((leader, PeerMessage::Command { call, first, request }))
    }

    /// Whether this manager was the last one that it was sent to: only that one may answer.
    fn is_asked(&self, number: u64, manager: u64) -> bool {
        self.waiting.get(&number).is_some_and(|waiting| waiting.sent.is_some_and(|(to, _)| to == manager))
    }

    /// Removes the commands to give up: those that timed out, and, without a leader, those that were never sent.
    fn overdue(&mut self, tick: u64, leaderless: bool) -> Vec<Waiting> {
        let is_over = |waiting: &Waiting| waiting.since + GIVE_UP_TICKS <= tick || (leaderless && !waiting.was_sent);
        let over: Vec<u64> =
            self.waiting.iter().filter(|(_, waiting)| is_over(waiting)).map(|(number, _)| *number).collect();
        over.into_iter().filter_map(|number| self.remove(number)).collect()
    }
}

/// The answers that a leader has to send to other managers, one for each ticket.
#[derive(Default)]
pub(super) struct PendingAnswers {
    tickets: Ticket,
    calls: BTreeMap<Ticket, (u64, Call)>,
    /// The reverse map, so that a command that arrives twice waits once.
    known: BTreeMap<(u64, Call), Ticket>,
    /// How far the commands of each other manager have arrived, in order.
    progress: BTreeMap<u64, PeerProgress>,
}

/// How far one manager's commands have arrived.
struct PeerProgress {
    run: u64,
    /// The number of the next one.
    next: u64,
    /// When this one was last requested, because a later one had arrived.
    asked: Option<(u64, u64)>,
}

/// The position of a command among those of its manager.
#[derive(Debug, PartialEq, Eq)]
enum Order {
    /// All earlier ones have arrived.
    Next,
    /// It arrived before.
    Again,
    /// An earlier one is missing, from this number on; `None` if that was just reported.
    Missing(Option<u64>),
}

impl PendingAnswers {
    fn note(&mut self, peer: u64, call: Call) -> Option<Ticket> {
        if self.known.contains_key(&(peer, call)) {
            return None;
        }
        self.tickets += 1;
        let ticket = FORWARDED_TICKETS | self.tickets;
        self.calls.insert(ticket, (peer, call));
        self.known.insert((peer, call), ticket);
        Some(ticket)
    }

    /// This manager starts to lead: it has not been sent anything yet.
    pub(super) fn begin(&mut self) {
        self.progress.clear();
    }

    /// The position of a command whose manager waits for the answers from `first` on.
    fn order(&mut self, peer: u64, call: Call, first: u64, tick: u64) -> Order {
        let progress = self.progress.entry(peer).or_insert(PeerProgress { run: call.run, next: first, asked: None });
        if progress.run != call.run {
            *progress = PeerProgress { run: call.run, next: first, asked: None };
        }
        progress.next = progress.next.max(first);
        if call.number < progress.next {
            return Order::Again;
        }
        if call.number > progress.next {
            let is_new = progress.asked.is_none_or(|(next, at)| next != progress.next || at + RESEND_TICKS <= tick);
            if is_new {
                progress.asked = Some((progress.next, tick));
            }
            return Order::Missing(is_new.then_some(progress.next));
        }
        progress.next += 1;
        Order::Next
    }

    fn settle(&mut self, ticket: Ticket) -> Option<(u64, Call)> {
        let pending_answers = self.calls.remove(&ticket)?;
        self.known.remove(&pending_answers);
        Some(pending_answers)
    }
}

impl Replica {
    /// Keeps a command for the leader; one that was proposed here may take effect without being forwarded.
    pub(super) fn forward(&mut self, ticket: Ticket, request: &Request, was_proposed: bool) -> Result<(), Rejection> {
        if self.contact.is_lost_for(NO_LEADER_TICKS, self.ticks) {
            return Err(self.no_leader());
        }
        let request = encode(request).map_err(|error| unencodable(&error))?;
        let waiting = Waiting { ticket, request, since: self.ticks, sent: None, was_sent: was_proposed };
        let number = self.forwarding.keep(waiting)?;
        self.send_forwarded(number);
        Ok(())
    }

    fn send_forwarded(&mut self, number: u64) {
        if let Some(leader) = self.other_leader() {
            let sent = self.forwarding.send(number, self.run(), leader, self.ticks);
            self.outbox.messages.extend(sent);
        }
    }

    /// The manager that leads, if one is known and it is not this one.
    pub(super) fn other_leader(&self) -> Option<u64> {
        self.consensus.leader().filter(|leader| *leader != self.consensus.id())
    }

    /// Once a tick: gives up what is overdue, and sends unanswered commands again.
    pub(super) fn watch_forwarded(&mut self) {
        let leaderless = self.contact.is_lost_for(NO_LEADER_TICKS, self.ticks);
        for over in self.forwarding.overdue(self.ticks, leaderless) {
            let outcome = if over.was_sent { Outcome::Unknown } else { Outcome::Rejected(self.no_leader()) };
            self.outbox.answers.push((over.ticket, outcome));
        }
        let due = self.other_leader().map(|leader| self.forwarding.due(leader, self.ticks)).unwrap_or_default();
        due.into_iter().for_each(|number| self.send_forwarded(number));
    }

    /// A new leader judges the commands that it would have forwarded.
    pub(super) fn take_back_forwarded(&mut self, effects: &mut Effects) {
        let Role::Leader(leader) = &mut self.role else { return };
        self.forwarding.bytes = 0;
        for waiting in std::mem::take(&mut self.forwarding.waiting).into_values() {
            let submitted = decode(&waiting.request);
            let submitted = submitted.and_then(|request| leader.submit(waiting.ticket, self.node, request));
            effects.answers.extend(submitted.err().map(|refused| (waiting.ticket, Outcome::Rejected(refused))));
        }
    }

    /// Another manager forwards a command, and waits for the answers to its commands from `first` on.
    pub(super) fn receive_command(&mut self, from: u64, call: Call, first: u64, request: &[u8]) {
        let Role::Leader(leader) = &mut self.role else {
            return self.answer_call(from, call, &Outcome::Unknown);
        };
        let judged = sender(&leader.tip, from).and_then(|member| {
            let request = decode(request)?;
            may_forward(member, &request).map(|()| (member.node, request))
        });
        match self.pending_answers.order(from, call, first, self.ticks) {
            Order::Next | Order::Again => {}
            Order::Missing(first) => {
                let resend = first.map(|first| (from, PeerMessage::Resend { call: Call { number: first, ..call } }));
                return self.outbox.messages.extend(resend);
            }
        }
        let refused = match judged {
            Ok((via, request)) => {
                if let Command::RegisterNode(registration) = &request.command
                    && leader.tip.nodes.contains(registration.node)
                {
                    leader.digests.registered(registration.node, from);
                }
                let Some(ticket) = self.pending_answers.note(from, call) else { return };
                let refused = leader.submit(ticket, via, request).err();
                refused.inspect(|_| {
                    self.pending_answers.settle(ticket);
                })
            }
            Err(refused) => Some(refused),
        };
        if let Some(refused) = refused {
            self.answer_call(from, call, &Outcome::Rejected(refused));
        }
    }

    /// The leader lacks a command, and takes no later one before it.
    pub(super) fn receive_resend(&mut self, from: u64, call: Call) {
        if call.run != self.run() || self.other_leader() != Some(from) {
            return;
        }
        let numbers: Vec<u64> = self.forwarding.waiting.range(call.number..).map(|(number, _)| *number).collect();
        numbers.into_iter().for_each(|number| self.send_forwarded(number));
    }

    /// A leader reports the outcome of a command that it was sent.
    pub(super) fn receive_outcome(&mut self, from: u64, call: Call, outcome: &[u8]) {
        if call.run != self.run() || !self.forwarding.is_asked(call.number, from) {
            return;
        }
        let Ok(outcome) = serde_json::from_slice::<Outcome>(outcome) else {
            tracing::warn!(
                "the answer to a command that was forwarded cannot be read: the leader is of another version"
            );
            return;
        };
        match outcome {
            // It no longer led: the current leader is asked with the next tick.
            Outcome::Unknown => {
                self.forwarding.waiting.entry(call.number).and_modify(|waiting| waiting.sent = None);
            }
            Outcome::Rejected(_) => self.answer_forwarded(call.number, 0, outcome),
            Outcome::Committed { index, .. } => self.answer_forwarded(call.number, index, outcome),
        }
    }

    fn answer_forwarded(&mut self, number: u64, index: u64, outcome: Outcome) {
        if let Some(waiting) = self.forwarding.remove(number) {
            self.forwarding.answered.entry((index, self.ticks)).or_default().push((waiting.ticket, outcome));
        }
    }

    /// Hands out answers whose index is applied here; and those whose index this manager does not apply in time, since they are
    /// true anyway.
    pub(super) fn release_answers(&mut self, effects: &mut Effects) {
        let (applied, tick) = (self.consensus.applied(), self.ticks);
        let is_due = |(index, came): &(u64, u64)| *index <= applied || came + GIVE_UP_TICKS <= tick;
        for (_, mut answers) in self.forwarding.answered.extract_if(.., |key, _| is_due(key)) {
            effects.answers.append(&mut answers);
        }
    }

    /// Sends the answers for callers of other managers.
    pub(super) fn route_answers(&mut self, effects: &mut Effects) {
        if self.pending_answers.calls.is_empty() {
            return;
        }
        let (pending_answers, own) =
            std::mem::take(&mut effects.answers).into_iter().partition(|(ticket, _)| *ticket >= FORWARDED_TICKETS);
        effects.answers = own;
        let pending_answers: Vec<(Ticket, Outcome)> = pending_answers;
        for (ticket, outcome) in pending_answers {
            if let Some((peer, call)) = self.pending_answers.settle(ticket) {
                effects.messages.extend(answer(call, &outcome).map(|message| (peer, message)));
            }
        }
    }

    fn answer_call(&mut self, peer: u64, call: Call, outcome: &Outcome) {
        self.outbox.messages.extend(answer(call, outcome).map(|message| (peer, message)));
    }

    /// Whether the ticket belongs to a caller of this manager.
    pub(super) fn is_own_caller(ticket: Ticket) -> bool {
        ticket != super::role::OWN && ticket < FORWARDED_TICKETS
    }

    /// Distinguishes this run of the manager from others.
    pub(super) fn run(&self) -> u64 {
        self.epoch.unwrap_or_default()
    }
}

fn answer(call: Call, outcome: &Outcome) -> Option<PeerMessage> {
    let encoded = serde_json::to_vec(outcome);
    let encoded = encoded.inspect_err(|error| tracing::error!(%error, "an answer cannot be sent to another manager"));
    encoded.ok().map(|outcome| PeerMessage::Outcome { call, outcome })
}

/// Encodes a request into bytes that are wiped when they are dropped, without unwiped copies on the way.
fn encode(request: &Request) -> serde_json::Result<Zeroizing<Vec<u8>>> {
    let mut encoded = WipedWriter(Zeroizing::new(Vec::with_capacity(ENCODED_BYTES)));
    serde_json::to_writer(&mut encoded, request)?;
    Ok(encoded.0)
}

/// A buffer that wipes its old memory when it grows.
struct WipedWriter(Zeroizing<Vec<u8>>);

impl std::io::Write for WipedWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * self.0.capacity())));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn decode(request: &[u8]) -> Result<Request, Rejection> {
    serde_json::from_slice(request).map_err(|error| {
        let sentence = format!("the leader does not support this command: {error}");
        let hint = "upgrade all managers to the same version";
        Rejection::new(RejectionKind::Unavailable, "command", sentence, hint)
    })
}

fn unencodable(error: &serde_json::Error) -> Rejection {
    let sentence = format!("the command cannot be sent to the manager that leads: {error}");
    Rejection::new(RejectionKind::Unavailable, "command", sentence, "report this as a bug")
}

/// The member that forwards a command.
fn sender(cluster: &Cluster, from: u64) -> Result<&Member, Rejection> {
    cluster.member_with(from).ok_or_else(|| {
        let sentence = "the manager that received the request is no longer a member of the cluster";
        Rejection::new(RejectionKind::Unavailable, "manager", sentence, "ask another manager")
    })
}

/// Whether another manager may submit this command for its caller. Managers authenticate their callers, and state who they are;
/// but a manager never speaks for another one, and commands that a leader issues by itself cannot be submitted.
fn may_forward(member: &Member, request: &Request) -> Result<(), Rejection> {
    let forbidden = |sentence: String| {
        let hint = "see the log of the manager that was asked";
        Err(Rejection::new(RejectionKind::Forbidden, request.command.name(), sentence, hint))
    };
    let of_manager = match (&request.actor, &request.command) {
        (_, Command::RecordRefusals(refused)) => Some(refused.0.manager),
        (Actor::Manager(node), _) => Some(*node),
        _ => None,
    };
    if let Some(node) = of_manager.filter(|node| *node != member.node) {
        return forbidden(format!("manager {} does not speak for manager {node}", member.node));
    }
    let leaders_own = matches!(
        request.command,
        Command::InitialiseCluster(_)
            | Command::AssumeLeadership(_)
            | Command::RecordStateHash(_)
            | Command::HearNode(_)
            | Command::ForceQuorum(_)
    );
    if leaders_own {
        return forbidden(format!("{} is not forwarded", request.command.name()));
    }
    if request.joined.iter().any(|joined| !joined.joined.is_empty()) {
        return forbidden("a command that is joined to another has none joined to it".to_owned());
    }
    request.joined.iter().try_for_each(|joined| may_forward(member, joined))
}

#[cfg(test)]
mod tests {
    use commands::{
        CertifyNode, CreateConfig, CreateService, HearNode, RegisterNode, RemoveNode, ReportTasks, SecretText,
        ServiceSecrets,
    };
    use events::service_spec::Mode;
    use events::{
        Annotations, CommandId, ConfigSpec, ContainerSpec, Event, Id, Kind, MemberAdded, NodeDescription, NodeId,
        ReplicatedMode, Role, ServiceSpec, SessionId, TaskId, TaskSpec, TaskState, TaskStatus, Timestamp,
    };
    use projections::Stamp;

    use super::*;

    fn all() -> Vec<Command> {
        let (node, session) = (NodeId::from_bits(u128::MAX), SessionId::from_bits(2));
        let container =
            ContainerSpec { image: "web:1".to_owned(), args: vec!["a b".repeat(2_000)], ..Default::default() };
        let spec = ServiceSpec {
            annotations: Some(Annotations { name: "web".to_owned(), ..Default::default() }),
            task: Some(TaskSpec { container: Some(container), ..Default::default() }),
            mode: Some(Mode::Replicated(ReplicatedMode { replicas: u64::MAX })),
            ..Default::default()
        };
        let secret = || SecretText("secret".to_owned());
        let secrets = ServiceSecrets { registry_auth: Some(secret()), env: [("A".to_owned(), secret())].into() };
        let status = TaskStatus { state: TaskState::Running.into(), ..Default::default() };
        let description = Box::new(NodeDescription { hostname: "w1".to_owned(), ..Default::default() });
        let (cert_pem, not_after) = ("PEM".to_owned(), Timestamp::from_unix_ns(7));
        vec![
            Command::CreateService(CreateService { spec: Box::new(spec), secrets }),
            Command::CreateConfig(CreateConfig { spec: ConfigSpec::default(), data: vec![0, 255] }),
            Command::RegisterNode(RegisterNode { node, session, description, addr: "10.0.0.2".to_owned() }),
            Command::ReportTasks(ReportTasks { node, session, reports: vec![(TaskId::from_bits(3), status)] }),
            Command::CertifyNode(CertifyNode { node, role: Role::Manager, cert_pem, not_after }),
            Command::RemoveNode(RemoveNode { node, force: true }),
        ]
    }

    #[test]
    fn a_request_comes_over_as_it_was() {
        for command in all() {
            let (id, actor) = (CommandId::from_bits(u128::MAX - 1), Actor::Operator("somebody".to_owned()));
            let request = Request {
                id,
                actor,
                command,
                reason: Some("because".to_owned()),
                correlation: Some(CommandId::from_bits(9)),
                causation: Some(7),
                unchanged: Vec::new(),
                joined: Vec::new(),
            };
            let encoded = encode(&request).expect("it is encoded");
            assert_eq!(*encoded, serde_json::to_vec(&request).expect("it is encoded"));
            let decoded = decode(&encoded).expect("it is decoded");
            assert_eq!((decoded.id, &decoded.actor, &decoded.command), (id, &request.actor, &request.command));
            assert_eq!((decoded.reason, decoded.correlation), (request.reason, request.correlation));
            assert_eq!(decoded.causation, request.causation);
        }
        let unknown = decode(br#"{"id":"1","command":{"Unheard":{}}}"#).expect_err("of another build");
        assert_eq!(unknown.kind, RejectionKind::Unavailable);
    }

    #[test]
    fn managers_speak_for_their_callers_and_not_for_each_other() {
        let [member, other] = [1, 2].map(NodeId::from_bits);
        let mut cluster = Cluster::default();
        let added = Kind::MemberAdded(MemberAdded {
            node: member,
            raft_id: 11,
            addr: String::new(),
            voter: true,
            feature_level_max: 1,
            audit_key: None,
        });
        cluster.apply(&Event::by_command(0, added), &Stamp { index: 1, time: Timestamp::default() });
        let remove = || Command::RemoveNode(RemoveNode { node: other, force: false });
        let hear = || Command::HearNode(HearNode { node: other, session: SessionId::from_bits(3) });
        let force = || Command::ForceQuorum(commands::ForceQuorum { node: member, raft_id: 11, cluster: None });
        let table = [
            ("for an operator", 11, Actor::Operator("a".to_owned()), remove(), true),
            ("for a node", 11, Actor::Node { id: other, role: Role::Worker }, remove(), true),
            ("for itself", 11, Actor::Manager(member), remove(), true),
            ("for another manager", 11, Actor::Manager(other), remove(), false),
            ("what a leader does of itself", 11, Actor::Manager(member), hear(), false),
            ("what only a survivor does of itself", 11, Actor::Manager(member), force(), false),
            ("not a member", 12, Actor::Operator("a".to_owned()), remove(), false),
        ];
        for (case, from, actor, command, allowed) in table {
            let request = Request::unnamed(actor, command);
            let judged = sender(&cluster, from).and_then(|member| may_forward(member, &request));
            assert_eq!(judged.is_ok(), allowed, "{case}");
        }
    }

    #[test]
    fn only_the_manager_that_was_asked_last_answers() {
        let mut forwarding = Forwarding::default();
        let waiting = Waiting { ticket: 1, request: Zeroizing::default(), since: 0, sent: None, was_sent: false };
        let number = forwarding.keep(waiting).expect("room");
        let answers = |forwarding: &Forwarding| [7, 8, 9].map(|manager| forwarding.is_asked(number, manager));
        assert_eq!(answers(&forwarding), [false, false, false]);
        forwarding.send(number, 1, 7, 0).expect("a message");
        assert_eq!(answers(&forwarding), [true, false, false]);
        forwarding.send(number, 1, 8, SEND_AGAIN_TICKS).expect("a message");
        assert_eq!(answers(&forwarding), [false, true, false], "another manager leads now");
        forwarding.remove(number);
        assert_eq!(answers(&forwarding), [false, false, false], "it is answered");
    }

    #[test]
    fn commands_of_a_manager_are_taken_in_their_order_or_asked_for_again() {
        use Order::{Again, Missing, Next};
        // The run, number and first waiting number of each command in the order of arrival, with the tick.
        let table = [
            (1, 5, 5, 0, Next),
            (1, 6, 5, 0, Next),
            (1, 6, 5, 0, Again),
            (1, 8, 5, 0, Missing(Some(7))),
            (1, 9, 5, 1, Missing(None)),
            (1, 9, 5, RESEND_TICKS, Missing(Some(7))),
            (1, 7, 6, 3, Next),
            (1, 9, 7, 3, Missing(Some(8))),
            // The missing one was given up: no caller waits for it.
            (1, 9, 9, 3, Next),
            (1, 8, 8, 3, Again),
            // The manager was restarted.
            (2, 3, 2, 4, Missing(Some(2))),
            (2, 2, 2, 4, Next),
        ];
        let mut pending_answers = PendingAnswers::default();
        for (run, number, first, tick, expected) in table {
            let order = pending_answers.order(7, Call { run, number }, first, tick);
            assert_eq!(order, expected, "{number} of run {run}, {first} waits, tick {tick}");
        }
        assert_eq!(pending_answers.order(8, Call { run: 1, number: 1 }, 1, 0), Next, "each manager for itself");
        pending_answers.begin();
        assert_eq!(pending_answers.order(7, Call { run: 2, number: 9 }, 9, 0), Next);
    }
}
