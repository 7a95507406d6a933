//! Draws the screen from its state.

use std::borrow::Cow;

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use unicode_width::UnicodeWidthStr;

use super::help;
use super::model::{FRAME_ROWS, MARGIN, SIZE_MIN, Ui};
use super::page::Page;
use super::question::{Health, Line, Subject};
use crate::format::escape;

/// The key hints below a list, and below a text.
const KEYS_OF_LIST: &str = "enter open  d describe  e explain  l logs  v events  / filter  : command  ? help";
const KEYS_OF_TEXT: &str = "esc back  j/k space scroll  / filter  left/right time  : command  ? help  q quit";

/// Draws everything; returns the position of the cursor, if the prompt is open.
pub fn draw(ui: &Ui, coloured: bool, buffer: &mut Buffer) -> Option<Position> {
    let mut canvas = Canvas { area: buffer.area, buffer, coloured };
    let area = canvas.area;
    if ui.size.columns < SIZE_MIN.columns || ui.size.rows < SIZE_MIN.rows {
        let has = format!("This terminal has {} columns and {} rows.", ui.size.columns, ui.size.rows);
        canvas.put(0, 0, &has, Style::new());
        let needs = format!("At least {} and {} are needed; q ends.", SIZE_MIN.columns, SIZE_MIN.rows);
        canvas.put(0, 1, &needs, Style::new());
        return None;
    }
    canvas.title(ui);
    canvas.timeline(ui);
    if ui.help {
        for (row, line) in (2..area.height - 1).zip(help::LINES) {
            canvas.put(0, row, line, Style::new());
        }
        canvas.put(0, area.height - 1, "any key closes this", canvas.dim());
        return None;
    }
    canvas.page_title(ui.page());
    canvas.lines(ui);
    canvas.last_line(ui)
}

/// The buffer and the display settings.
struct Canvas<'a> {
    area: Rect,
    buffer: &'a mut Buffer,
    coloured: bool,
}

impl Canvas<'_> {
    /// Writes a text on a row, as much of it as fits. All output goes through here: control characters are escaped.
    fn put(&mut self, column: u16, row: u16, text: &str, style: Style) {
        if row >= self.area.height {
            return;
        }
        let room = usize::from(self.area.width.saturating_sub(column));
        self.buffer.set_stringn(column, row, escape::line(text), room, style);
    }

    /// Writes a text at the end of a row.
    fn put_right(&mut self, row: u16, text: &str, style: Style) {
        let width = u16::try_from(text.width()).unwrap_or(self.area.width);
        self.put(self.area.width.saturating_sub(width), row, text, style);
    }

    fn colour(&self, colour: Color) -> Style {
        if self.coloured { Style::new().fg(colour) } else { Style::new() }
    }

    fn dim(&self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn bold(&self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn title(&mut self, ui: &Ui) {
        self.put(0, 0, &format!("swarmctl ui  cluster {}", ui.cluster), self.bold());
        match &ui.lost {
            Some(_) => self.put_right(0, "! NOT CONNECTED", self.colour(Color::Red).add_modifier(Modifier::BOLD)),
            None if ui.timeline.index().is_some() => {
                self.put_right(0, "THE PAST: n for now", self.colour(Color::Yellow).add_modifier(Modifier::BOLD));
            }
            None => self.put_right(0, "now", self.colour(Color::Green)),
        }
    }

    /// The selected point, and where it is in history.
    fn timeline(&mut self, ui: &Ui) {
        let (head, at) = (ui.timeline.head(), ui.timeline.index());
        let shown = ui.page().shown.point.filter(|point| Some(point.index) == at);
        let time = match at {
            None => Cow::Borrowed("now"),
            Some(_) => shown.map_or("reading...".into(), |point| seconds(&point.log_time.to_string()).into()),
        };
        let index = at.unwrap_or(head.index);
        let text = format!("index {index} of {}, {time}  ", head.index);
        let width = u16::try_from(text.width()).unwrap_or(self.area.width);
        let bar = ui.timeline.bar(usize::from(self.area.width.saturating_sub(width)));
        let style = if at.is_some() { self.colour(Color::Yellow) } else { Style::new() };
        self.put(0, 1, &text, style);
        self.put(width, 1, &bar, style);
    }

    fn page_title(&mut self, page: &Page) {
        let (all, shown) = (page.shown.lines.len(), page.lines().len());
        let mut title = page.subject.title();
        let is_searched = !page.shown.containing.is_empty();
        match page.shown.total {
            Some(total) if !is_searched => title.push_str(&format!(" (first {all} of {total}; / searches all)")),
            _ if is_searched || !page.subject.has_rows() => {}
            _ => title.push_str(&format!(" ({all})")),
        }
        if !page.filter.is_empty() {
            let more =
                page.shown.total.filter(|_| is_searched).map_or_else(String::new, |total| format!(" of {total}"));
            title.push_str(&format!("  /{} matches {shown}{more}", page.filter));
        }
        self.put(0, 2, &title, self.bold());
        if page.follows() {
            self.put_right(2, "following", self.dim());
        }
        self.put(MARGIN, 3, &page.shown.heading, self.dim());
    }

    fn lines(&mut self, ui: &Ui) {
        let page = ui.page();
        let (lines, height) = (page.lines(), usize::from(self.area.height.saturating_sub(FRAME_ROWS)));
        let is_list = page.subject.has_rows();
        let top = if is_list { top(page.cursor(), lines.len(), height) } else { page.cursor() };
        for (row, (position, line)) in (4..).zip(lines.iter().enumerate().skip(top).take(height)) {
            self.line(row, line, is_list && position == page.cursor());
        }
        let said = match (&page.failure, page.answered) {
            (Some(failure), _) => Some(format!("{}; {}", failure.sentence, failure.hint)),
            (None, false) => Some("reading...".to_owned()),
            (None, true) if lines.is_empty() => Some(empty(page)),
            (None, true) => None,
        };
        if let Some(said) = said {
            let width = usize::from(self.area.width.saturating_sub(MARGIN));
            let rows = (4..self.area.height - 1).skip(lines.len().saturating_sub(top).min(height));
            for (row, part) in rows.zip(crate::format::wrap(&escape::line(&said), width)) {
                self.put(MARGIN, row, part, self.bold());
            }
        }
    }

    fn line(&mut self, row: u16, line: &Line, is_chosen: bool) {
        let style = match line.health {
            Health::Good => Style::new(),
            Health::Waiting => self.colour(Color::Yellow),
            Health::Bad => self.colour(Color::Red),
        };
        let (sign, style) = if is_chosen { ('>', style.add_modifier(Modifier::REVERSED)) } else { (' ', style) };
        let room = usize::from(self.area.width);
        let text = format!("{sign}{} {}", line.health.mark(), line.text);
        // The selection is as wide as the screen.
        let text = if is_chosen { format!("{text}{:1$}", "", room.saturating_sub(text.width())) } else { text };
        self.put(0, row, &text, style);
    }

    /// The prompt, the last error, the connection error, or key hints.
    fn last_line(&mut self, ui: &Ui) -> Option<Position> {
        let row = self.area.height - 1;
        if let Some(prompt) = &ui.prompt {
            let text = format!("{}{}", prompt.kind.sign(), escape::line(&prompt.text));
            // The end of the input stays visible.
            let hidden = text.width().saturating_sub(usize::from(self.area.width) - 1);
            let shown: String = text.chars().skip(hidden).collect();
            self.put(0, row, &shown, Style::new());
            let column = u16::try_from(shown.width()).unwrap_or(0);
            return Some(Position { x: column, y: row });
        }
        let keys = if ui.page().subject.has_rows() { KEYS_OF_LIST } else { KEYS_OF_TEXT };
        match (&ui.notice, &ui.lost) {
            (Some(notice), _) => self.put(0, row, &format!(" ! {notice}"), self.colour(Color::Red)),
            (None, Some(lost)) => {
                let waits = format!(" ! waiting for a manager: {}", lost.sentence);
                self.put(0, row, &waits, self.colour(Color::Red));
            }
            (None, None) => self.put(0, row, keys, self.dim()),
        }
        None
    }
}

/// The first visible line of a list, so that the selected one is visible: in the middle, if there is room on both sides.
fn top(chosen: usize, count: usize, height: usize) -> usize {
    chosen.saturating_sub(height / 2).min(count.saturating_sub(height))
}

/// A timestamp in seconds.
fn seconds(time: &str) -> String {
    time.get(..19).map_or_else(|| time.to_owned(), |time| format!("{}Z", time.replace('T', " ")))
}

/// The text of an empty page.
fn empty(page: &Page) -> String {
    if !page.filter.is_empty() && !page.shown.lines.is_empty() {
        return "nothing matches; esc shows everything".to_owned();
    }
    match &page.subject {
        Subject::Services if page.shown.point.is_some() => "no services at that time",
        Subject::Services => "no services; `swarmctl service create` makes one",
        Subject::Nodes => "no nodes",
        Subject::Tasks { finished: false, .. } => "no tasks; a shows finished ones too",
        Subject::Tasks { finished: true, .. } => "no tasks",
        Subject::Events { .. } => "no events",
        Subject::Output(_) | Subject::Entry(_) => "nothing",
        Subject::Logs(_) => "nothing printed yet",
    }
    .to_owned()
}
