//! `swarmctl ui` in a script: keys, and the resulting screen. Questions and drawing are the real code of `swarmctl`; only the
//! terminal is a buffer, and a key is pressed once every question is answered.

use std::rc::Rc;

use anyhow::{Context, anyhow, ensure};
use cli::Manager;
use cli::ui::{Answer, Decoder, Next, PageLoader, Size, Ui, draw};
use futures_util::FutureExt;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::Player;
use crate::clock::Clock;
use crate::socket::Socket;

/// Nothing in a simulation blocks.
const SILENT: &str = "the manager does not answer";
/// The smallest terminal that is large enough.
const SIZE: Size = Size { columns: 80, rows: 24 };
/// The byte sequences of special keys.
const SEQUENCES: [(&str, &str); 8] = [
    ("enter", "\r"),
    ("esc", "\x1b"),
    ("up", "\x1b[A"),
    ("down", "\x1b[B"),
    ("right", "\x1b[C"),
    ("left", "\x1b[D"),
    ("pgup", "\x1b[5~"),
    ("pgdn", "\x1b[6~"),
];

impl Player {
    /// Opens the user interface.
    pub(super) fn open_screen(&mut self) -> anyhow::Result<String> {
        let mut socket = Socket::new(self.world()?);
        let cluster = socket.cluster(false).now_or_never().context(SILENT)?.map_err(|why| anyhow!(why.sentence))?;
        let now = socket.world.borrow().clock.now();
        self.screen = Some(Ui::new(cluster.name, SIZE, None, now));
        self.press(&[])
    }

    /// Presses keys, one after the other, and returns the screen.
    pub(super) fn press(&mut self, words: &[&str]) -> anyhow::Result<String> {
        let world = self.world()?;
        let clock = world.borrow().clock.clone();
        let ui = self.screen.as_mut().context("`! ui` comes first")?;
        answer(ui, &mut Socket::new(Rc::clone(&world)), &clock)?;
        for word in words {
            let typed = SEQUENCES.iter().find(|(name, _)| name == word).map_or(*word, |(_, sequence)| sequence);
            for key in Decoder::default().take(typed.replace('_', " ").as_bytes()) {
                ui.press(key, clock.now());
                answer(ui, &mut Socket::new(Rc::clone(&world)), &clock)?;
            }
        }
        let mut buffer = Buffer::empty(Rect::new(0, 0, SIZE.columns, SIZE.rows));
        draw(ui, false, &mut buffer);
        let text = rows(&buffer);
        let world = world.borrow();
        world.oracle.shows_no_secret(&text);
        Ok(self.mask.apply(&text, &world.oracle.names))
    }
}

/// Answers all pending questions.
fn answer(ui: &mut Ui, socket: &mut Socket, clock: &Clock) -> anyhow::Result<()> {
    while let Next::Ask(question) = ui.next(clock.now()) {
        let asked_at = clock.now();
        let loader = PageLoader { clock, ids: false };
        let answer = loader.ask(socket, &question).now_or_never().context(SILENT)?;
        ensure!(!matches!(answer, Ok(Answer::Logs(_))), "lines come in their own time, which is not that of a script");
        ui.answered(&question, answer, asked_at, clock.now());
    }
    Ok(())
}

/// The rows of the screen; consecutive empty rows are merged.
fn rows(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let mut text = String::new();
    for row in buffer.content.chunks(width) {
        let row: String = row.iter().map(|cell| cell.symbol()).collect();
        if !(row.trim().is_empty() && text.ends_with("\n\n")) {
            text.push_str(row.trim_end());
            text.push('\n');
        }
    }
    text
}
