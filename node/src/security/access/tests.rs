//! Calls every RPC of the schema as every kind of caller, and compares with the table.

use std::collections::BTreeSet;
use std::path::Path;

use events::{ClusterId, Id, NodeId, OperatorId, Role};
use tonic::Code;
use tower::ServiceExt;

use super::super::testing::subject;
use super::super::{Gate, Membership, Subject};
use super::*;

const REMOVED: u128 = 13;
const UNKNOWN: u128 = 14;

/// All kinds of callers, each with its letter.
fn callers() -> Vec<(char, Peer)> {
    let address = ([127, 0, 0, 1], 4242).into();
    let node = |subject| Peer::Node { subject, address };
    let certified = |bits| {
        let (operator, cluster) = (OperatorId::from_bits(bits), ClusterId::from_bits(7));
        Peer::CertifiedOperator { operator, cluster, address }
    };
    let foreign = Subject { cluster: ClusterId::from_bits(8), ..subject(1, Role::Manager) };
    vec![
        ('l', Peer::Operator { user: "ada".to_owned() }),
        ('m', node(subject(1, Role::Manager))),
        ('w', node(subject(2, Role::Worker))),
        ('a', Peer::Anonymous { address }),
        ('r', node(subject(REMOVED, Role::Manager))),
        ('u', node(subject(UNKNOWN, Role::Worker))),
        ('f', node(foreign)),
        ('v', certified(1)),
        ('o', certified(2)),
        ('d', certified(3)),
        ('x', certified(4)),
    ]
}

/// The callers that each RPC serves: local users, managers, workers, anonymous callers, removed nodes, non-members, nodes of
/// another cluster, and operators with a certificate: a viewer, an operator, an admin, and a revoked one.
const EXPECTED: &str = "
    Control/Execute          l m . . . . . v o d .
    Control/ExecuteStream    l m . . . . . v o d .
    Control/GetVersion       l m . . . . . v o d .
    Control/GetCluster       l m . . . . . v o d .
    Control/GetRaft          l m . . . . . v o d .
    Control/InspectNodes     l m . . . . . v o d .
    Control/InspectServices  l m . . . . . v o d .
    Control/ExplainPlacement l m . . . . . v o d .
    Control/ListNodes        l m . . . . . v o d .
    Control/ListServices     l m . . . . . v o d .
    Control/ListTasks        l m . . . . . v o d .
    Control/ReadConfigs      l m . . . . . v o d .
    Control/DescribeSecrets  l m . . . . . v o d .
    Control/ResolveImage     l m . . . . . . o d .
    Control/Events           l m . . . . . v o d .
    Control/Logs             l m . . . . . v o d .
    Control/Usage            l m . . . . . v o d .
    Control/Interact         l m . . . . . . o d .
    Control/FindPoint        l m . . . . . v o d .
    Control/ListAuditKeys    l m . . . . . v o d .
    Control/GetCheckpoint    l m . . . . . v o d .
    Control/ProveFrame       l m . . . . . v o d .
    Control/ProveConsistency l m . . . . . v o d .
    Control/ReadFrames       l m . . . . . v o d .
    Control/VerifyHistory    l m . . . . . v o d .
    Control/ArchiveHistory   l m . . . . . . . d .
    Control/PlanUndo         l m . . . . . v o d .
    Control/Compare          l m . . . . . v o d .
    Control/Preview          l m . . . . . v o d .
    Control/ReadAfter        l m . . . . . v o d .
    Control/Survive          l m . . . . . v o d .
    Control/Replay           l m . . . . . v o d .
    Control/ListSinks        l m . . . . . v o d .
    Control/ListOperators    l m . . . . . v o d .
    Control/CreateOperator   l m . . . . . . . d .
    Control/RenewOperator    l m . . . . . v o d .
    Control/GetUnlockKey     l m . . . . . . . d .
    Control/Backup           l m . . . . . . . d .
    Lock/Unlock              l m . . . . . . . d .
    LocalNode/Leave          l m . . . . . . . d .
    Certificates/GetRoot     l m w a r u . v o d x
    Certificates/Join        l m w a r u . v o d x
    Certificates/Renew       . m w . . . . . . . .
    Dispatcher/Session       . m w . . . . . . . .
    Dispatcher/Heartbeats    . m w . . . . . . . .
    Dispatcher/Report        . m w . . . . . . . .
    Dispatcher/Leave         . m w . . . . . . . .
    Dispatcher/TaskStream    . m w . . . . . . . .
    Managers/Deliver         . m . . . . . . . . .
    Managers/Announce        . m . . . . . . . . .
    Managers/ReadHistory     . m . . . . . . . . .
    Managers/SignCheckpoint  . m . . . . . . . . .
    Managers/HandOver        . m . . . . . . . . .
";

/// Every RPC that the schema declares.
fn declared() -> BTreeSet<String> {
    let protos = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("wire/proto")).expect("the schema");
    let mut rpcs = BTreeSet::new();
    for proto in protos {
        let text = std::fs::read_to_string(proto.expect("a file").path()).expect("text");
        let mut service = "";
        for line in text.lines() {
            let mut words = line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
            match (words.next(), words.next()) {
                (Some("service"), Some(name)) if line.starts_with("service") => service = name,
                (Some("rpc"), Some(name)) if line.starts_with("  rpc") => {
                    assert!(rpcs.insert(format!("{service}/{name}")), "{name} twice")
                }
                (Some(_) | None, _) => {}
            }
        }
    }
    rpcs
}

/// The response code of a server behind the layer.
async fn call(path: &str, peer: Option<Peer>) -> Code {
    let membership = |node: NodeId| match node.bits() {
        REMOVED => Membership::Removed,
        UNKNOWN => Membership::Unknown,
        _ => Membership::Member,
    };
    let role = |operator: OperatorId| match operator.bits() {
        1 => Some(OperatorRole::Viewer),
        2 => Some(OperatorRole::Operator),
        3 => Some(OperatorRole::Admin),
        _ => None,
    };
    let gate = Gate::new(ClusterId::from_bits(7), membership, role);
    let echo = tower::service_fn(|request: Request<Body>| async move {
        let request = tonic::Request::from_parts(Default::default(), request.into_parts().0.extensions, ());
        Ok::<_, Infallible>(caller(&request).map_or_else(Status::from, |_| Status::ok("")).into_http())
    });
    let layer = AccessLayer::new(move |peer: &Peer, _, allowed| gate.judge(peer, allowed));
    let mut request = Request::post(format!("/swarmlog.wire.v1.{path}")).body(Body::empty()).expect("a request");
    if let Some(peer) = peer {
        request.extensions_mut().insert(Caller::free(peer, Default::default()));
    }
    let answer = layer.layer(echo).oneshot(request).await.expect("an answer");
    Status::from_header_map(answer.headers()).map_or(Code::Ok, |status| status.code())
}

#[tokio::test]
async fn every_rpc_serves_those_in_its_row_and_nobody_else() {
    let mut rows = BTreeSet::new();
    for line in EXPECTED.lines().filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let rpc = words.next().expect("a name");
        rows.insert(rpc.to_owned());
        let expected: String = words.collect();
        let mut served = String::new();
        for (letter, peer) in callers() {
            match call(rpc, Some(peer)).await {
                Code::Ok => served.push(letter),
                Code::PermissionDenied => served.push('.'),
                other => panic!("{rpc} answers {letter} {other:?}"),
            }
        }
        assert_eq!(served, expected, "{rpc}");
        assert_eq!(call(rpc, None).await, Code::PermissionDenied, "{rpc} without a proof of who calls");
    }
    assert_eq!(declared(), rows, "every RPC of the schema has a row here");
    let table: BTreeSet<String> = TABLE.iter().map(|(rpc, _)| (*rpc).to_owned()).collect();
    assert_eq!(declared(), table, "and one in the table");
}

#[tokio::test]
async fn an_rpc_without_a_row_does_not_exist() {
    let local = Peer::Operator { user: "root".to_owned() };
    assert_eq!(call("Control/NoSuchCall", Some(local.clone())).await, Code::Unimplemented);
    assert_eq!(call("NoSuchService/Execute", Some(local)).await, Code::Unimplemented);
}

#[test]
fn a_request_that_nobody_judged_has_no_caller() {
    assert_eq!(caller(&tonic::Request::new(())), Err(AccessError::Unknown));
}
