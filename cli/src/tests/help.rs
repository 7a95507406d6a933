//! The command line as a whole: it is consistent and documented.

use clap::Command;

#[test]
fn the_parser_has_no_contradictions() {
    crate::command().debug_assert();
}

#[test]
fn every_command_and_every_flag_has_help() {
    fn visit(command: &Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        assert!(command.get_about().is_some(), "{path} has no help");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path}: {} has no help", argument.get_id());
        }
        command
            .get_subcommands()
            .filter(|command| command.get_name() != "help")
            .for_each(|command| visit(command, &path));
    }
    let mut command = crate::command();
    command.build();
    visit(&command, "");
}

#[test]
fn every_read_of_the_state_can_look_at_the_past() {
    const READS: [&str; 9] = ["ls", "inspect", "ps", "services", "revisions", "tags", "explain", "blame", "history"];
    fn visit(command: &Command, found: &mut usize) {
        let has_verbs = command.has_subcommands();
        if !has_verbs && READS.contains(&command.get_name()) {
            let has_at = command.get_arguments().any(|argument| argument.get_long() == Some("at"));
            assert!(has_at, "{} lacks --at", command.get_bin_name().unwrap_or_default());
            *found += 1;
        }
        command
            .get_subcommands()
            .filter(|command| command.get_name() != "help")
            .for_each(|command| visit(command, found));
    }
    let mut command = crate::command();
    command.build();
    let mut found = 0;
    visit(&command, &mut found);
    assert!(found > 20, "{found} reads were found");
}

#[test]
fn the_help_lists_every_exit_code() {
    use crate::Kind::*;
    let kinds = [
        Other,
        Usage,
        NotFound,
        Exists,
        Conflict,
        UpdateFailed,
        TimedOut,
        Unreachable,
        Stopped,
        Forbidden,
        Interrupted,
    ];
    let help = crate::command().render_long_help().to_string();
    for kind in kinds {
        let code = format!("\n{:>4}  ", kind.exit_code());
        assert!(help.contains(&code), "{kind:?}: {help}");
    }
}

#[test]
fn every_verb_of_the_plan_is_there() {
    let verbs = [
        "node ls",
        "node inspect x",
        "node update x",
        "node activate x",
        "node pause x",
        "node drain x",
        "node promote x y",
        "node demote x",
        "node rm x",
        "service create --name a --image b",
        "history diff 03:00 03:30",
        "history redact 12 env.PASSWORD --service web",
        "history tag x 12",
        "history tags",
        "history untag x",
        "undo",
        "undo 12 --theirs --yes",
        "revert --to x web",
        "explain task x --at y",
        "explain service x",
        "service ls",
        "service inspect x",
        "service explain x",
        "service update x",
        "service scale x=1",
        "service rollback x",
        "service rollback x --to 7",
        "service revisions x",
        "service pause x y",
        "service resume x",
        "service wait x",
        "service create --name a --image b --mode replicated-job --replicas 5 --max-concurrent 2",
        "service create --name a --image b --mode global-job",
        "service rm x",
        "service logs x y --follow --tail 10 --since 1h --until now --timestamps --details --raw",
        "task logs x -f --tail all -t",
        "task stats",
        "task exec -it -e A=b -u 0:0 -w /srv x sh -c ls",
        "task exec -d x sleep 1",
        "task attach --no-stdin --detach-keys ctrl-a,d x",
        "task cp -a -L -q --max-size 1GiB x:/etc/hosts -",
        "task stats x y --no-stream",
        "service stats x",
        "service ps x y",
        "service export",
        "service edit x --editor ed",
        "apply -f a -f b --dry-run",
        "apply a.plan",
        "plan -o a.plan service rm x",
        "whatif lose x y --where node.role==worker",
        "whatif add 2 --like x",
        "whatif --at 7 drain x",
        "whatif scale x=1",
        "whatif update x --image y",
        "whatif survive --by rack",
        "whatif replay --from 7 --to 1h --strategy binpack --without x",
        "stack deploy",
        "stack deploy -c a -c b --prune shop",
        "stack diff -c a",
        "stack config -c a",
        "stack ls",
        "stack ps shop",
        "stack services shop",
        "stack rm shop other",
        "node ps x",
        "svc ls",
        "task ls",
        "task inspect x",
        "task explain x",
        "task rm x",
        "cluster ls",
        "cluster inspect",
        "cluster inspect default",
        "cluster update",
        "cluster ca",
        "cluster ca --rotate",
        "cluster unlock-key --rotate",
        "cluster unlock",
        "cluster update --autolock",
        "operator create ada",
        "operator create ada --role admin --directory /tmp/ada",
        "operator ls",
        "operator revoke ada",
        "cluster backup /tmp/file --passphrase-file /tmp/passphrase",
        "history archive",
        "history verify",
        "audit keys",
        "audit checkpoint -o /tmp/file",
        "audit prove 7 -o /tmp/file",
        "audit verify /tmp/file --checkpoint /tmp/kept",
        "audit verify --live",
        "raft",
        "ui",
        "ui --at yesterday",
        "events",
        "version",
        "completion bash",
        "node remove x",
        "service remove x",
        "task remove x",
    ];
    for verb in verbs {
        super::parsed(verb);
        super::parsed(&format!("{verb} -s /tmp/socket -n --reason why --format json"));
    }
}

#[tokio::test]
async fn each_shell_gets_its_script() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let ran = super::run(&format!("completion {shell}"), &mut super::fake::Fake::new(), Default::default()).await;
        assert_eq!(ran.code, 0);
        assert!(ran.out.contains("swarmctl"), "{shell}");
    }
}

#[test]
fn a_parsed_command_line_prints_no_secret() {
    let create = "service create --name a --image b";
    for (line, secret) in [
        (format!("{create} --registry-auth the-secret"), "the-secret"),
        (format!("{create} --env PASSWORD=the-secret"), "the-secret"),
        ("service update a --registry-auth the-secret --env PASSWORD=the-secret".to_owned(), "the-secret"),
    ] {
        let printed = format!("{:?}", super::parsed(&line));
        assert!(!printed.contains(secret) && printed.contains("(hidden)"), "{printed}");
    }
}
