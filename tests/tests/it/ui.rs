//! `swarmctl ui` in a terminal: its contents, while managers come and go and the size changes, and the terminal afterwards.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::cluster::{Cluster, MANAGER};
use super::process::{TIMEOUT, poll, program, run};
use super::units::{Executor, IMAGE};

/// The command of a task that prints a line with control sequences, and waits.
const TALK: &str = "printf 'hello \\033[2J\\033]0;title\\007 there\\n'; while :; do sleep 0.1; done";

/// A terminal, and the program in it.
struct Terminal {
    child: Child,
    /// The user's side.
    keyboard: File,
    /// The program's side.
    device: OwnedFd,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    /// Starts `swarmctl ui` in a terminal of 24 rows and 80 columns.
    fn open(cluster: &Cluster) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let person = openpt(flags).expect("a terminal");
        grantpt(&person).and_then(|()| unlockpt(&person)).expect("unlocked");
        let device = ioctl_tiocgptpeer(&person, flags).expect("its other end");
        tcsetwinsize(&device, size(24, 80)).expect("a size");
        let end = || device.try_clone().expect("another descriptor");
        // With this terminal as its controlling terminal: otherwise it is not notified of new sizes.
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(program("swarmctl"))
            .args(["--socket", &cluster.socket(MANAGER).display().to_string(), "ui"])
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("started");
        let keyboard = File::from(person);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(count(24), count(80), 0)));
        let (mut output, shown) = (keyboard.try_clone().expect("another descriptor"), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Reading fails once both sides are closed.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shown.lock().expect("the screen").process(&bytes[..count]);
            }
        });
        Self { child, keyboard, device, screen }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("typed");
    }

    fn resize(&self, rows: u16, columns: u16) {
        self.screen.lock().expect("the screen").screen_mut().set_size(count(rows), count(columns));
        tcsetwinsize(&self.device, size(rows, columns)).expect("a size");
    }

    fn screen(&self) -> String {
        self.screen.lock().expect("the screen").screen().contents()
    }

    /// Waits until the screen meets the condition.
    #[track_caller]
    fn until(&self, what: &str, condition: impl Fn(&str) -> bool) {
        let found = poll(TIMEOUT, || condition(&self.screen()).then_some(()));
        assert!(found.is_some(), "{what} is not on\n{}", self.screen());
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        self.until(text, |screen| screen.contains(text));
    }

    /// Waits for its end and returns the exit code. Before that, the terminal was restored.
    #[track_caller]
    fn ended(&mut self) -> Option<i32> {
        let ended = poll(TIMEOUT, || self.child.try_wait().expect("waited"));
        let code = ended.unwrap_or_else(|| panic!("it did not end:\n{}", self.screen())).code();
        let modes = tcgetattr(&self.device).expect("its settings").local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG), "{modes:?}");
        let is_back = |parser: &vt100::Parser| !parser.screen().alternate_screen() && !parser.screen().hide_cursor();
        let is_back = poll(TIMEOUT, || is_back(&self.screen.lock().expect("the screen")).then_some(()));
        assert!(is_back.is_some(), "the other screen is still there:\n{}", self.screen());
        code
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // If a check failed, it is still running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn count(of: u16) -> NonZero<u16> {
    NonZero::new(of).expect("more than none")
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

pub fn a_page_lives_in_a_terminal_and_gives_it_back(executor: Executor) {
    let mut cluster = Cluster::start(executor, &["w"]);
    let words = ["service", "create", "--name", "web", "--image", IMAGE, "--constraint", "node.hostname==w"];
    let created = cluster.swarmctl_words(&[&words[..], &["--command", "sh", "--args", "-c", "--args", TALK]].concat());
    assert_eq!(created.code, 0, "{created:?}");
    cluster.settled("web", 1);
    let mut terminal = Terminal::open(&cluster);
    terminal.until("the service", |screen| screen.contains("services (1)") && screen.contains("1/1"));
    terminal.press(":nodes\r");
    terminal.until("both nodes", |screen| screen.contains("nodes (2)") && screen.matches("READY").count() == 2);

    // At this size, and at one that is too small.
    terminal.resize(40, 132);
    terminal.until("the last row", |screen| screen.lines().nth(39).is_some_and(|row| row.contains("? help")));
    terminal.resize(20, 70);
    terminal.shows("At least 80 and 24 are needed");
    terminal.resize(24, 80);
    terminal.shows("nodes (2)");

    // The output of a task is text, even if it contains control sequences.
    terminal.press(":services\r");
    terminal.shows("services (1)");
    terminal.press("l");
    terminal.shows(r"hello \u{1b}[2J\u{1b}]0;title\u{7} there");
    terminal.press("\x1b");

    // The past, and back: before the service was created there was none.
    terminal.shows("services (1)");
    let created = cluster.list("events --kind service_created")[0]["index"].as_u64().expect("an index");
    terminal.press(&format!("t{}\r", created - 1));
    terminal.until("the past", |screen| screen.contains("THE PAST") && screen.contains("services (0)"));
    terminal.press("n");
    terminal.shows("services (1)");

    // Without a manager it waits, and continues with the next one.
    assert_eq!(cluster.end(MANAGER), Some(0));
    terminal.shows("! waiting for a manager");
    terminal.shows("services (1)");
    cluster.resume(MANAGER);
    terminal.until("the manager again", |screen| !screen.contains("waiting for a manager"));
    cluster.ok("service scale --detach web=2");
    terminal.shows("2/2");
    terminal.press("q");
    assert_eq!(terminal.ended(), Some(0));

    let mut terminal = Terminal::open(&cluster);
    terminal.shows("services (1)");
    run(Command::new("kill").args(["-TERM", &terminal.child.id().to_string()]));
    assert_eq!(terminal.ended(), Some(130));
    terminal.shows("error: ended by a signal");
}

#[test]
fn without_a_terminal_it_says_what_to_use() {
    let cluster = Cluster::start(Executor::Process, &[]);
    cluster.swarmctl("ui").refused(2, "`swarmctl ui` needs a terminal");
}
