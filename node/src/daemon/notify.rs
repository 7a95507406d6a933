//! Notifies the machine's service manager, with systemd's protocol: ready, watchdog, stopping. Does nothing without
//! `NOTIFY_SOCKET`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::metrics::Progress;

/// Watchdog notifications per timeout.
const SIGNS_A_PERIOD: u32 = 3;

/// The connection to the service manager.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    socket: Option<Arc<UnixDatagram>>,
    /// The watchdog timeout, if enabled.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The notifier configured by the environment.
    pub fn from_environment() -> Self {
        Self::of(|name| std::env::var_os(name))
    }

    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let Some(path) = variable("NOTIFY_SOCKET") else { return Self::default() };
        let socket =
            connect(&path).inspect_err(|error| tracing::warn!(%error, "cannot notify the service manager")).ok();
        let number = |name| variable(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
        let is_meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| is_meant && *usec > 0).map(Duration::from_micros);
        Self { socket: socket.map(Arc::new), watchdog }
    }

    /// Reports that the node is ready.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", status.replace('\n', " ")));
    }

    /// Reports that the node is stopping.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// Sends watchdog notifications as long as the main loop makes progress.
    pub async fn keep_alive(self, progress: Progress, shutdown: CancellationToken) {
        let Some(period) = self.watchdog.filter(|_| self.socket.is_some()) else { return };
        let mut seen = None;
        loop {
            let rounds = Some(progress.rounds());
            if rounds != seen {
                self.send("WATCHDOG=1");
            }
            seen = rounds;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(period / SIGNS_A_PERIOD) => {}
            }
        }
    }

    fn send(&self, message: &str) {
        // Failures are ignored: the service manager may no longer listen.
        if let Some(Err(error)) = self.socket.as_ref().map(|socket| socket.send(message.as_bytes())) {
            tracing::debug!(%error, "the service manager was not notified");
        }
    }
}

/// A name that starts with `@` is an abstract socket, without a file.
fn connect(path: &OsStr) -> io::Result<UnixDatagram> {
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // Neither a turn nor a connection is blocked by a service manager.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> Option<String> {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    fn listening() -> (tempfile::TempDir, UnixDatagram, Notifier) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        socket.set_nonblocking(true).expect("set");
        let notifier = Notifier::of(|name| match name {
            "NOTIFY_SOCKET" => Some(path.clone().into_os_string()),
            "WATCHDOG_USEC" => Some("30000000".into()),
            _ => None,
        });
        (dir, socket, notifier)
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_stands_still_is_not_said_to_live() {
        let (_dir, socket, notifier) = listening();
        let (turns, shutdown) = (Progress::default(), CancellationToken::new());
        tokio::spawn(notifier.keep_alive(turns.clone(), shutdown.clone()));
        let mut signs = Vec::new();
        for moves in [true, true, false, false, true] {
            if moves {
                turns.note();
            }
            tokio::time::sleep(Duration::from_secs(10)).await;
            signs.push(received(&socket).is_some());
        }
        shutdown.cancel();
        // The first one is sent immediately, and the next check follows each pause.
        assert_eq!(signs[2..], [false, false, true]);
        assert!(signs[0] && signs[1]);
    }

    #[test]
    fn only_who_asks_is_told() {
        let (_dir, socket, notifier) = listening();
        notifier.ready("manager\nof a cluster");
        assert_eq!(received(&socket).as_deref(), Some("READY=1\nSTATUS=manager of a cluster"));
        notifier.stopping();
        assert_eq!(received(&socket).as_deref(), Some("STOPPING=1\nSTATUS=stopping"));
        drop(socket);
        notifier.stopping();
        Notifier::of(|_| None).ready("");
        Notifier::of(|name| (name == "NOTIFY_SOCKET").then(|| "/nonexistent/socket".into())).ready("");
    }
}
