//! The requests that each verb sends to the manager.

use std::collections::BTreeSet;

use events::{Availability, CommandId, Id, ServiceSpec};
use wire::v1::command_request::Command;
use wire::v1::*;

use super::fake::Fake;
use super::{TestEnv, run};
use crate::format::samples;

async fn asked(line: &str) -> Command {
    let mut manager = Fake::new();
    let ran = run(line, &mut manager, TestEnv::default()).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
    manager.command()
}

#[tokio::test]
async fn verbs_about_nodes() {
    let edited = |edit: fn(&mut events::NodeSpec)| {
        let node = samples::nodes().remove(1);
        let mut spec = node.spec.clone();
        edit(&mut spec);
        Command::UpdateNode(UpdateNode { node: node.id.to_string(), spec, version: Some(3) })
    };
    assert_eq!(asked("node activate worker-1").await, edited(|spec| spec.set_availability(Availability::Active)));
    assert_eq!(asked("node pause worker-1").await, edited(|spec| spec.set_availability(Availability::Pause)));
    assert_eq!(asked("node drain worker-1").await, edited(|spec| spec.set_availability(Availability::Drain)));
    let relabelled = edited(|spec| {
        spec.annotations.get_or_insert_default().labels = [("rack".to_owned(), "7".to_owned())].into();
    });
    assert_eq!(asked("node update worker-1 --label rack=7 --label-rm zone").await, relabelled);
    let remove = |force| Command::RemoveNode(RemoveNode { node: "worker-1".to_owned(), force });
    assert_eq!(asked("node rm worker-1").await, remove(false));
    assert_eq!(asked("node remove --force worker-1").await, remove(true));
}

#[tokio::test]
async fn a_manager_that_leaves_is_asked_until_it_is_out() {
    let mut manager = Fake::new();
    let ran =
        run("node leave --reason moving", &mut manager, TestEnv { skip_sleeps: true, ..TestEnv::default() }).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, "this manager is demoted first\n"));
    let request = LeaveClusterRequest { force: false, reason: Some("moving".to_owned()) };
    assert_eq!(manager.left, [request.clone(), request]);
}

#[test]
fn a_manager_elsewhere_is_named_before_the_command_and_needs_an_identity() {
    let connection = |line: &str| super::parsed(line).connection().map(drop).map_err(|failure| failure.kind);
    assert_eq!(
        connection("--host https://m1 service create --name a --image b --host db:10.0.0.7 --identity /i"),
        Ok(())
    );
    assert_eq!(connection("--host https://m1 --identity /i node ls"), Ok(()));
    assert_eq!(connection("--host https://m1,https://m2:9 --host https://m3 --identity /i node ls"), Ok(()));
    assert_eq!(connection("--host https://m1 node ls"), Err(crate::Kind::Usage));
    assert_eq!(connection("node ls --identity /i"), Ok(()));
}

#[tokio::test]
async fn verbs_about_trust() {
    assert_eq!(asked("cluster ca --rotate --detach").await, Command::RotateRoot(RotateRoot::default()));
    let key_file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(key_file.path(), "SWMKEY-1-sample\n").expect("written");
    let mut manager = Fake::new();
    let line = format!("cluster unlock --key-file {}", key_file.path().display());
    assert_eq!(run(&line, &mut manager, TestEnv::default()).await.code, 0);
    assert_eq!(manager.unlocked, [events::SecretText("SWMKEY-1-sample".to_owned())]);
    assert_eq!(asked("cluster unlock-key --rotate").await, Command::RotateUnlockKey(RotateUnlockKey {}));
    let revoke = RevokeOperator { operator: "ada".to_owned() };
    assert_eq!(asked("operator revoke ada").await, Command::RevokeOperator(revoke));
    let parent = tempfile::tempdir().expect("a directory");
    let directory = parent.path().join("ada");
    let line = format!("operator create ada --role operator --reason why --directory {}", directory.display());
    let mut manager = Fake::new();
    let ran = run(&line, &mut manager, TestEnv::default()).await;
    assert_eq!((ran.code, ran.out.trim()), (0, directory.to_str().expect("text")));
    let created = &manager.created[0];
    assert_eq!((created.name.as_str(), created.role()), ("ada", events::OperatorRole::Operator));
    assert_eq!((created.id, created.reason.as_deref()), (CommandId::from_bits(1), Some("why")));
    assert_eq!(std::fs::read_to_string(directory.join("operator.crt")).ok().as_deref(), Some("certificate"));
}

#[tokio::test]
async fn verbs_about_services() {
    let Command::CreateService(create) =
        asked("svc create --name web --image nginx:1.27 --replicas 2 --registry-auth x").await
    else {
        panic!("a creation")
    };
    assert_eq!(
        create,
        CreateService { spec: Box::new(samples::spec()), registry_auth: Some("x".to_owned()), env_secrets: Vec::new() }
    );
    let Command::CreateService(create) =
        asked("service create --name a nginx --replicas 2 -e A=b sh -c --replicas=9 -x").await
    else {
        panic!("a creation")
    };
    let container = create.spec.template().container();
    assert_eq!((container.image.as_str(), create.spec.replicas()), ("nginx", Some(2)));
    assert_eq!(
        (&container.args[..], &container.env[..]),
        (&["sh", "-c", "--replicas=9", "-x"].map(str::to_owned)[..], &["A=b".to_owned()][..])
    );
    let scale = ScaleService { service: "web".to_owned(), replicas: 6 };
    assert_eq!(asked("service scale web=6").await, Command::ScaleService(scale));
    let rollback = |revision| Command::RollbackService(RollbackService { service: "web".to_owned(), revision });
    assert_eq!(asked("service rollback -d web").await, rollback(None));
    assert_eq!(asked("service rollback -d web --to 7").await, rollback(Some(7)));
    assert_eq!(asked("service pause web").await, Command::PauseUpdate(PauseUpdate { service: "web".to_owned() }));
    assert_eq!(asked("service resume -d web").await, Command::ResumeUpdate(ResumeUpdate { service: "web".to_owned() }));
    let remove = RemoveService { service: "web".to_owned() };
    assert_eq!(asked("service rm web").await, Command::RemoveService(remove));
    let Command::CreateService(create) = asked("service create --name all --image x --mode global").await else {
        panic!("a creation")
    };
    assert!(create.spec.is_global());
}

#[tokio::test]
async fn an_update_names_the_version_it_read_and_changes_only_what_is_named() {
    let updated = async |line: &str, edit: fn(&mut ServiceSpec)| {
        let mut spec = samples::full_service().spec;
        edit(&mut spec);
        let service = samples::service().id.to_string();
        let expected = UpdateService {
            service,
            spec: Box::new(spec),
            version: Some(7),
            registry_auth: None,
            env_secrets: Vec::new(),
        };
        let mut manager = Fake::new();
        manager.readings = [(samples::full_service(), Vec::new())].into();
        let ran = run(line, &mut manager, TestEnv::default()).await;
        assert_eq!(ran.code, 0, "{line}: {}", ran.err);
        assert_eq!(manager.command(), Command::UpdateService(expected), "{line}");
    };
    updated("service update web --image nginx:1.28", |spec| {
        crate::spec::container(spec).image = "nginx:1.28".to_owned();
    })
    .await;
    updated("service update web --force", |spec| spec.task.get_or_insert_default().force_update = 1).await;
    updated("service update web --reset env,restart --env B=c", |spec| {
        spec.task.get_or_insert_default().restart = None;
        crate::spec::container(spec).env = vec!["B=c".to_owned()];
    })
    .await;
}

#[tokio::test]
async fn an_update_without_a_change_asks_for_nothing() {
    let mut manager = Fake::new();
    let ran = run("service update web --image nginx:1.27", &mut manager, TestEnv::default()).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    assert!(ran.err.contains("no changes"), "{}", ran.err);
    assert!(manager.executed.is_empty());
}

#[tokio::test]
async fn verbs_about_tasks_and_the_cluster() {
    let remove = RemoveTask { task: "abc".to_owned() };
    assert_eq!(asked("task rm abc").await, Command::RemoveTask(remove));
    let spec = events::ClusterSpec {
        task_history_limit: Some(-1),
        heartbeat_period_ns: Some(1_000_000_000),
        heartbeat_grace: Some(5),
        node_cert_expiry_ns: Some(3_600_000_000_000),
        log_driver: Some(events::Driver { name: "none".to_owned(), ..Default::default() }),
        nodes_max: Some(7),
        autolock: None,
        placement_strategy: Some(events::PlacementStrategy::Binpack.into()),
        external_cas: vec![events::ExternalCa {
            url: "https://ca/sign".to_owned(),
            ca_cert_pem: "a root certificate\n".to_owned(),
        }],
        require_reason: vec!["service.remove".to_owned(), "node.update".to_owned()],
        history_keep_ns: Some(34_560_000_000_000_000),
    };
    let line = "cluster update --taskhistory -1 --heartbeatperiod 1s --heartbeatgrace 5 --certexpiry 1h --log-driver none \
                --max-nodes 7 --placement-strategy binpack --external-ca protocol=cfssl,url=https://ca/sign \
                --require-reason service.rm,node.update --history-keep 400d";
    assert_eq!(asked(line).await, Command::UpdateCluster(UpdateCluster { spec, version: Some(2) }));
}

#[tokio::test]
async fn a_rotation_prints_the_new_token_and_is_done_together_with_the_update() {
    let mut manager = Fake::new();
    let line = "cluster update --taskhistory 3 --rotate-join-token manager --reason leak";
    let ran = run(line, &mut manager, TestEnv::default()).await;
    assert!(ran.out.ends_with("SWMTKN-1-abc-manager\n"), "{}", ran.out);
    let [update] = &manager.executed[..] else { panic!("one request") };
    let [rotate] = &update.joined[..] else { panic!("one command joined to it") };
    let role = events::Role::Manager.into();
    assert_eq!(rotate.command, Some(Command::RotateJoinToken(RotateJoinToken { role })));
    assert_eq!((update.correlation, rotate.correlation), (None, Some(CommandId::from_bits(1))));
    assert_eq!((update.id, rotate.id), (CommandId::from_bits(1), CommandId::from_bits(2)));
    assert_eq!(rotate.reason.as_deref(), Some("leak"));
}

#[tokio::test]
async fn managers_of_an_older_build_are_not_asked_for_changes_that_are_made_together() {
    let mut manager = Fake::new();
    manager.feature_level = events::frame::JOINED_LEVEL - 1;
    let line = "cluster update --taskhistory 3 --rotate-join-token manager";
    let ran = run(line, &mut manager, TestEnv::default()).await;
    assert!(ran.code == 4 && ran.err.contains("not every manager"), "{}", ran.err);
    assert_eq!(manager.executed, []);
    let ran = run("cluster update --rotate-join-token manager", &mut manager, TestEnv::default()).await;
    assert_eq!((ran.code, manager.executed.len()), (0, 1), "{}", ran.err);
}

#[tokio::test]
async fn reads_ask_for_what_the_flags_say() {
    let mut manager = Fake::new();
    for line in ["task ls", "task ls -a", "service inspect web", "node inspect -a worker-1", "task inspect abc"] {
        run(line, &mut manager, TestEnv::default()).await;
    }
    let (service, node) = (samples::service().id.to_string(), samples::nodes()[1].id.to_string());
    let expected = [
        ListTasksRequest { live: Some(true), ..Default::default() },
        ListTasksRequest { live: Some(false), ..Default::default() },
        ListTasksRequest { service: Some(service), live: Some(true), ..Default::default() },
        ListTasksRequest { node: Some(node), ..Default::default() },
        ListTasksRequest { tasks: vec!["abc".to_owned()], ..Default::default() },
    ];
    assert_eq!(manager.listed, expected);
}

#[tokio::test]
async fn history_is_filtered_by_the_manager() {
    let mut manager = Fake::new();
    let line = "events --from 7 --follow --limit 3 --object web --kind service_scaled --kind task_reaped";
    run(line, &mut manager, TestEnv::default()).await;
    run("events --since 1970-01-01T00:00:01Z --until 9 --tail 5", &mut manager, TestEnv::default()).await;
    let first = EventsRequest {
        from: Some(7),
        follow: true,
        limit: Some(3),
        object: Some("web".to_owned()),
        kinds: vec!["service_scaled".to_owned(), "task_reaped".to_owned()],
        with_before: Some(true),
        ..Default::default()
    };
    let since = Some(events::Timestamp::from_unix_ns(1_000_000_000));
    let second = EventsRequest { since, to: Some(9), tail: Some(5), with_before: Some(true), ..Default::default() };
    assert_eq!(manager.watched, [first, second]);
}

#[tokio::test]
async fn a_backup_is_a_whole_file_or_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, passphrase) = (dir.path().join("backup"), dir.path().join("passphrase"));
    std::fs::write(&passphrase, "a passphrase\n").expect("written");
    let line = format!("cluster backup {} --passphrase-file {}", file.display(), passphrase.display());
    let files = || std::fs::read_dir(dir.path()).expect("a directory").count();
    let cut_off = run(&line, &mut Fake { endless: true, ..Fake::new() }, TestEnv::default()).await;
    assert_eq!((cut_off.code, files()), (7, 1), "{cut_off:?}");
    assert!(cut_off.err.contains("nothing is kept"), "{cut_off:?}");
    let whole = run(&line, &mut Fake::new(), TestEnv::default()).await;
    assert_eq!((whole.code, whole.out.trim()), (0, file.to_str().expect("text")), "{whole:?}");
    assert_eq!((std::fs::read(&file).expect("written"), files()), (b"onetwo".to_vec(), 2));
    let again = run(&line, &mut Fake::new(), TestEnv::default()).await;
    assert!(again.code == 4 && again.err.contains("exists already"), "{again:?}");
    let mut manager = Fake::new();
    let line = format!("cluster backup - --passphrase-file {}", passphrase.display());
    let refused = run(&line, &mut manager, TestEnv::default()).await;
    assert!(refused.code == 2 && refused.err.contains("not to standard output"), "{refused:?}");
}

#[tokio::test]
async fn an_operator_without_a_usable_name_is_refused_and_no_directory_is_made() {
    for name in ["", "a/b"] {
        let mut manager = Fake::new();
        let ran = run(&format!("operator create {name}"), &mut manager, TestEnv::default()).await;
        assert!(ran.code == 2 && ran.err.contains("is not a name for an operator"), "{ran:?}");
        assert!(manager.created.is_empty(), "{ran:?}");
    }
}

#[tokio::test]
async fn what_files_describe_is_asked_for_together_where_every_manager_knows_what_that_means() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let config = |name: &str| format!("- config: {{annotations: {{name: {name}}}, data: x}}\n");
    std::fs::write(file.path(), ["a", "b", "c"].map(config).concat()).expect("written");
    let line = format!("apply -f {}", file.path().display());
    let mut manager = Fake::new();
    let together = run(&line, &mut manager, TestEnv::default()).await;
    assert_eq!((together.code, together.err.as_str()), (0, ""), "{together:?}");
    assert_eq!(manager.executed.iter().map(|request| request.joined.len()).collect::<Vec<_>>(), [2]);
    let mut manager = Fake { feature_level: events::frame::JOINED_LEVEL - 1, ..Fake::new() };
    let apart = run(&line, &mut manager, TestEnv::default()).await;
    assert_eq!((apart.code, apart.out), (0, together.out), "{}", apart.err);
    assert!(apart.err.contains("made in 3 parts: if one is refused, those before it stay"), "{}", apart.err);
    assert_eq!(manager.executed.iter().map(|request| request.joined.len()).collect::<Vec<_>>(), [0, 0, 0]);
    let operations: BTreeSet<_> = manager.executed.iter().map(|request| request.correlation).collect();
    assert_eq!(operations.len(), 2, "the first names the operation, and the others belong to it");
}

#[tokio::test]
async fn what_was_archived_is_told_archive_by_archive() {
    let result = run("history archive --to 5000", &mut Fake::new(), TestEnv::default()).await;
    assert_eq!(result.out, "frames-to-Some(5000).archive: indexes 0 to 4095, 256KiB of 1MiB\n", "{result:?}");
    let result = run("history archive --format json", &mut Fake::new(), TestEnv::default()).await;
    assert!(result.out.contains("\"last\":4095") && result.out.contains("frames-to-None"), "{result:?}");
    let refused = run("history archive --dry-run", &mut Fake::new(), TestEnv::default()).await;
    assert_eq!(refused.code, 2, "{refused:?}");
}

#[tokio::test]
async fn a_verification_says_what_is_damaged_and_what_is_not_there() {
    let step = |frames, damage: Option<&str>, absent: Option<&str>| VerifiedHistory {
        frames,
        next: 10_000,
        to: 10_000,
        damage: damage.map(str::to_owned),
        absent: absent.map(str::to_owned),
    };
    let table = [
        (vec![step(4_094, None, None), step(5_000, None, None)], 0, "9094 frames up to index 10000 are intact\n"),
        (
            vec![step(0, None, Some("frames 0 to 4095 are elsewhere")), step(5_000, None, None)],
            0,
            "not verified: frames 0 to 4095 are elsewhere\n5000 frames up to index 10000 are intact\n",
        ),
        (
            vec![step(0, Some("a flipped bit"), None), step(5_000, None, None)],
            1,
            "damaged: a flipped bit\n5000 frames up to index 10000 are intact\n",
        ),
    ];
    for (verified, code, text) in table {
        let result = run("history verify", &mut Fake { verified, ..Fake::new() }, TestEnv::default()).await;
        assert_eq!((result.code, result.out.as_str()), (code, text), "{result:?}");
    }
}

#[tokio::test]
async fn what_is_tried_is_asked_of_a_copy_alone() {
    let tried = [
        "service create --name a --image b",
        "service update web --image b",
        "service scale web=7",
        "service rollback web",
        "service pause web",
        "service resume web",
        "service rm web",
        "node drain worker-1",
        "node promote worker-1",
        "node update worker-1 --label a=b",
        "node rm worker-1",
        "task rm web.1",
        "config rm motd",
        "secret rm motd",
        "cluster update --taskhistory 2",
        "cluster update --rotate-join-token worker",
        "cluster unlock-key --rotate",
        "cluster ca --rotate",
        "operator revoke ada",
    ];
    for line in tried {
        for line in [format!("{line} --dry-run"), format!("--dry-run {line}")] {
            let mut manager = Fake::new();
            let ran = run(&line, &mut manager, TestEnv::default()).await;
            assert_eq!((ran.code, manager.executed.len(), manager.previewed.len()), (0, 0, 1), "{line}: {ran:?}");
        }
    }
    for line in ["operator create ada", "node leave", "cluster unlock --key-file /nowhere"] {
        let mut manager = Fake::new();
        let ran = run(&format!("{line} --dry-run"), &mut manager, TestEnv::default()).await;
        assert!(ran.code == 2 && ran.err.contains("--dry-run is not possible here"), "{line}: {ran:?}");
        assert!(manager.created.is_empty() && manager.left.is_empty() && manager.unlocked.is_empty(), "{line}");
    }
}

#[tokio::test]
async fn flags_around_a_plan_and_in_it_are_those_of_its_command() {
    for line in [
        "plan -o /nowhere/a.plan --reason why service rm web --format json",
        "--format json plan -o /nowhere/a.plan service rm web --reason why",
    ] {
        let mut manager = Fake::new();
        let ran = run(line, &mut manager, TestEnv::default()).await;
        assert!(ran.code == 0 && ran.out.starts_with('{'), "nothing changes, so that nothing is written: {ran:?}");
        let Some(preview_step::Step::Command(request)) = &manager.previewed[0].steps[0].step else { panic!("{line}") };
        assert_eq!(request.reason.as_deref(), Some("why"), "{line}");
    }
}
