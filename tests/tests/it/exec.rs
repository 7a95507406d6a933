//! Commands in running tasks, through any manager, while nodes and clients come and go.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::cluster::{Cluster, MANAGER, path};
use super::process::{program, run};
use super::units::{Executor, IMAGE};

/// The command of a task that only waits.
const WAIT: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
/// A command that exits when it receives a signal; its exit code shows which one.
const LISTEN: &str = "trap 'exit 9' TERM; trap 'exit 7' INT; echo ready; while :; do sleep 0.1; done";

/// A command that prints nothing once it is ready: a shell would report children that were hung up, which no one reads then.
const QUIET: &str = "echo ready; exec >/dev/null 2>&1; while :; do sleep 0.1; done";

/// Starts `swarmctl task exec` with pipes, and returns its lines.
fn begin(cluster: &Cluster, task: &str, line: &str) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = Command::new(program("swarmctl"))
        .args([
            "--socket",
            &cluster.socket(MANAGER).display().to_string(),
            "task",
            "exec",
            "-i",
            task,
            "sh",
            "-c",
            line,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    (child, lines.map(|line| line.expect("text")))
}

pub fn commands_run_in_tasks_through_any_manager(executor: Executor) {
    let mut cluster = Cluster::start(executor, &["w"]);
    let token = cluster.token("manager");
    let address = cluster.address().to_owned();
    cluster.add("m2", &["--join-addr", &address, "--join-token", &token]);
    cluster.until("the second manager", || cluster.swarmctl_at("m2", "node ls").code == 0);
    let words = ["service", "create", "--name", "web", "--image", IMAGE, "--constraint", "node.hostname==w"];
    let command = ["--env", "SAID=by-the-spec", "--command", "sh", "--args", "-c", "--args", WAIT];
    // More than the limit of a single variable.
    let large = ["A", "B", "C"].map(|name| format!("{name}={}", "x".repeat(60_000)));
    let large = large.iter().flat_map(|variable| ["--env", variable]).collect::<Vec<_>>();
    let created = cluster.swarmctl_words(&[&words[..], &large, &command].concat());
    assert_eq!(created.code, 0, "{created:?}");
    cluster.settled("web", 1);
    for manager in [MANAGER, "m2"] {
        let result = cluster.swarmctl_at(manager, "task exec web.1 env");
        assert!(result.code == 0 && result.out.contains("\nSAID=by-the-spec\n"), "{result:?}");
    }
    let result = cluster.swarmctl_words(&["task", "exec", "web.1", "sh", "-c", "echo trouble >&2; exit 42"]);
    assert_eq!((result.code, result.out.as_str(), result.err.as_str()), (42, "", "trouble\n"), "{result:?}");

    let result = cluster.swarmctl_words(&["task", "exec", "web.1", "sh", "-c", "echo ${#C}"]);
    assert_eq!((result.code, result.out.as_str()), (0, "60000\n"), "{result:?}");

    let result = cluster.swarmctl("task exec web.1 /no/such/program");
    assert!(matches!(result.code, 126 | 127), "{result:?}");
    assert!((result.out.clone() + &result.err).contains("/no/such/program"), "{result:?}");

    // Piped input comes back, and its end ends the command.
    let (mut child, mut lines) = begin(&cluster, "web.1", "cat; echo over");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"piped in\n").expect("written");
    assert_eq!(lines.next().as_deref(), Some("piped in"));
    drop(stdin);
    assert_eq!(lines.next().as_deref(), Some("over"));
    assert_eq!(child.wait().expect("ended").code(), Some(0));

    // Signals of swarmctl are forwarded to the command, and swarmctl exits with the command's exit code.
    for (signal, code) in [("-TERM", 9), ("-INT", 7)] {
        let (mut child, mut lines) = begin(&cluster, "web.1", LISTEN);
        assert_eq!(lines.next().as_deref(), Some("ready"));
        run(Command::new("kill").args([signal, &child.id().to_string()]));
        assert_eq!(child.wait().expect("ended").code(), Some(code), "{signal}");
    }

    // When swarmctl is gone, so is the command.
    let mark = format!("/tmp/swarmlog-exec-{}", cluster.tasks("web")[0].id);
    let (mut child, mut lines) = begin(&cluster, "web.1", &format!("trap 'touch {mark}; exit' HUP; {QUIET}"));
    assert_eq!(lines.next().as_deref(), Some("ready"));
    child.kill().and_then(|()| child.wait()).expect("ended");
    let ended = format!("until test -e {mark}; do sleep 0.01; done; rm {mark}");
    assert_eq!(cluster.swarmctl_words(&["task", "exec", "web.1", "sh", "-c", &ended]).code, 0);

    copies(&cluster, executor);
    in_a_terminal(&cluster);

    let history = cluster.ok("events --kind task_accessed");
    assert!(history.contains("web.1 on w: command env"), "{history}");
    assert!(history.contains("'echo trouble >&2; exit 42'"), "{history}");

    // A node may refuse it, and an unreachable node is reported.
    assert_eq!(cluster.end("w"), Some(0));
    let result = cluster.swarmctl("task exec web.1 true");
    result.refused(7, "node w cannot be asked about task web.1.");
    cluster.resume_with("w", &["--disable-exec"]);
    cluster.until("the node", || cluster.swarmctl("task exec web.1 true").code == 4);
    cluster.swarmctl("task exec web.1 true").refused(4, "was started with --disable-exec, which forbids it");
}

/// Files are copied into a task and back unchanged, through any manager.
fn copies(cluster: &Cluster, executor: Executor) {
    let there = cluster.path("there");
    std::fs::create_dir_all(there.join("site/deep")).expect("made");
    let large: String = (0..400_000).map(|number| format!("line {number}\n")).collect();
    std::fs::write(there.join("site/deep/large"), &large).expect("written");
    std::os::unix::fs::symlink("deep/large", there.join("site/link")).expect("linked");
    let (site, back) = (path(&there.join("site")), path(&there.join("back")));
    let into = cluster.swarmctl_at(MANAGER, &format!("task cp {site} web.1:/tmp/copied"));
    if matches!(executor, Executor::Process) {
        return into.refused(4, "plain processes have no files of their own");
    }
    assert!(into.code == 0 && into.err.contains(" to web.1:/tmp/copied"), "{into:?}");
    let result = cluster.swarmctl_words(&["task", "exec", "web.1", "sh", "-c", "wc -l < /tmp/copied/link"]);
    assert_eq!(result.out.trim(), "400000", "{result:?}");
    let out = cluster.swarmctl_at("m2", &format!("task cp -q web.1:/tmp/copied {back}"));
    assert_eq!((out.code, out.err.as_str()), (0, ""), "{out:?}");
    assert!(std::fs::read_to_string(there.join("back/deep/large")).expect("there") == large, "it comes out as it was");
    assert_eq!(std::fs::read_link(there.join("back/link")).expect("a link").to_str(), Some("deep/large"));

    // The contents of a directory, a file with a new name, and an archive.
    for line in [
        format!("task cp web.1:/tmp/copied/. {back}"),
        format!("task cp -L web.1:/tmp/copied/link {back}/one"),
        format!("task cp {back}/one web.1:/tmp/one"),
    ] {
        let result = cluster.swarmctl_at(MANAGER, &line);
        assert_eq!(result.code, 0, "{line}: {result:?}");
    }
    assert_eq!(std::fs::metadata(there.join("back/one")).expect("a file").len(), large.len() as u64);
    let pipe = format!(
        "{0} --socket {1} task cp web.1:/tmp/one - > {2} && {0} --socket {1} task cp - web.1:/tmp/copied/deep < {2}",
        program("swarmctl").display(),
        cluster.socket(MANAGER).display(),
        path(&there.join("archive.tar"))
    );
    let piped = run(Command::new("sh").args(["-c", &pipe]));
    assert_eq!(piped.code, 0, "{piped:?}");
    assert_eq!(cluster.swarmctl("task exec web.1 cmp /tmp/one /tmp/copied/deep/one").code, 0);

    cluster.swarmctl("task cp web.1:/no/such .").refused(4, "there is no /no/such in its container");
    cluster.swarmctl(&format!("task cp {site} web.1:/tmp/one")).refused(2, "is a directory, and /tmp/one is not");
    cluster.swarmctl(&format!("task cp {back}/one web.1:/tmp/none/")).refused(3, "there is no directory /tmp/none/");
    cluster.swarmctl(&format!("task cp {back}/one web.1:/none/one")).refused(4, "none");
    let history = cluster.ok("events --kind task_accessed");
    assert!(history.contains("web.1 on w: copied to /tmp/copied"), "{history}");
    assert!(history.contains("web.1 on w: copied from /tmp/copied/link"), "{history}");
}

/// swarmctl in a terminal of 30 lines and 100 columns.
struct Terminal {
    /// The user's side.
    screen: File,
    /// The side of swarmctl.
    line: OwnedFd,
    child: Child,
}

impl Terminal {
    fn run(cluster: &Cluster, words: &str) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let screen = openpt(flags).expect("a terminal");
        grantpt(&screen).and_then(|()| unlockpt(&screen)).expect("unlocked");
        let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&screen, size).expect("sized");
        let line = ioctl_tiocgptpeer(&screen, flags).expect("its other end");
        let end = || line.try_clone().expect("another handle");
        let mut command = Command::new(program("swarmctl"));
        command.arg("--socket").arg(cluster.socket(MANAGER)).args(words.split(' '));
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("started");
        Self { screen: screen.into(), line, child }
    }

    fn type_in(&mut self, keys: &str) {
        self.screen.write_all(keys.as_bytes()).expect("typed");
    }

    /// Reads until the screen contains this.
    fn shows(&mut self, wanted: &str) -> String {
        let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let text = String::from_utf8_lossy(&shown).into_owned();
            if text.contains(wanted) {
                return text;
            }
            let count = self.screen.read(&mut buffer).expect("readable");
            shown.extend(&buffer[..count]);
        }
    }

    /// Waits for its end, after which the terminal is restored.
    fn ended(mut self) -> Option<i32> {
        let code = self.child.wait().expect("ended").code();
        let modes = tcgetattr(&self.line).expect("a terminal").local_modes;
        assert!(modes.contains(LocalModes::ECHO | LocalModes::ICANON), "{modes:?}");
        code
    }
}

/// A command gets a terminal like the local one, and receives its keys.
fn in_a_terminal(cluster: &Cluster) {
    let mut terminal = Terminal::run(cluster, "task exec -it web.1 sh");
    terminal.type_in("stty size; test -t 0 && echo has-$((40 + 2))\n");
    let shown = terminal.shows("has-42");
    assert!(shown.contains("30 100"), "{shown}");
    // The key goes to the command, and ends neither the command nor swarmctl.
    let line = r#"trap "echo heard-$((1 + 1)); exit" INT; echo set-$((1 + 1)); while :; do sleep 0.1; done"#;
    terminal.type_in(&format!("sh -c '{line}'\n"));
    terminal.shows("set-2");
    terminal.type_in("\u{3}");
    terminal.shows("heard-2");
    terminal.type_in("exit 5\n");
    assert_eq!(terminal.ended(), Some(5));
}

pub fn who_attaches_to_a_terminal_types_into_it_and_leaves_it() {
    let cluster = Cluster::start(Executor::Docker, &[]);
    let words = ["service", "create", "--name", "web", "--image", IMAGE, "--tty", "--open-stdin", "--command", "sh"];
    let created = cluster.swarmctl_words(&words);
    assert_eq!(created.code, 0, "{created:?}");
    cluster.settled("web", 1);
    let mut terminal = Terminal::run(&cluster, "task attach web.1");
    terminal.type_in("stty size; echo typed-$((40 + 2))\n");
    let shown = terminal.shows("typed-42");
    assert!(shown.contains("30 100"), "{shown}");
    terminal.type_in("\u{10}\u{11}");
    terminal.shows("detached; the task keeps running");
    assert_eq!(terminal.ended(), Some(0));
    // The last input ends the task, and with it swarmctl.
    let mut terminal = Terminal::run(&cluster, "task attach --detach-keys ctrl-a,d web.1");
    terminal.type_in("exit 7\n");
    assert_eq!(terminal.ended(), Some(7));
}
