//! The format of log lines.

use std::collections::BTreeMap;
use std::fmt::Write;

use events::{Named, TaskId, Timestamp};
use serde::Serialize;
use unicode_width::UnicodeWidthStr;
use wire::v1::{LogLine, LogSource};

use super::escape;

/// Colours of names, in the order in which tasks appear: readable on light and dark backgrounds.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];
/// Resets all colours.
const RESET: &str = "\u{1b}[0m";
/// Maximum length of a colour sequence: every attribute at once is shorter.
const COLOUR_LENGTH_MAX: usize = 64;

/// The style of lines, and the names of their tasks.
#[derive(Debug)]
pub struct Style {
    timestamps: bool,
    details: bool,
    raw: bool,
    ids: bool,
    coloured: bool,
    names: BTreeMap<TaskId, Name>,
    /// Width of the longest name, in columns.
    width: usize,
    last: Option<Timestamp>,
}

#[derive(Debug)]
struct Name {
    text: String,
    columns: usize,
    colour: u8,
}

impl Style {
    /// A style; `ids` instead of names, names in colours.
    pub fn new(timestamps: bool, details: bool, raw: bool, ids: bool, coloured: bool) -> Self {
        Self { timestamps, details, raw, ids, coloured, names: BTreeMap::new(), width: 0, last: None }
    }

    /// Records the name of a task.
    pub fn learn(&mut self, source: &LogSource) {
        let text = if self.ids { format!("{}@{}", source.task, source.node) } else { name(source) };
        let text = escape::line(&text).into_owned();
        let columns = text.width();
        self.width = self.width.max(columns);
        let colour = COLOURS[self.names.len() % COLOURS.len()];
        self.names.entry(source.task).or_insert(Name { text, columns, colour });
    }

    /// The timestamp of the last line that was shown.
    pub fn last(&self) -> Option<Timestamp> {
        self.last
    }

    /// Appends a line to a text.
    pub fn line(&mut self, source: Option<&LogSource>, line: &LogLine, text: &mut Vec<u8>) {
        self.last = self.last.max(Some(line.at));
        let mut before = String::new();
        if let Some(name) = source.and_then(|source| self.names.get(&source.task)).filter(|_| !self.raw) {
            let gap = self.width - name.columns;
            // Writing to a string cannot fail.
            let _ = match self.coloured {
                true => write!(before, "\u{1b}[{}m{}{RESET}{:gap$} | ", name.colour, name.text, ""),
                false => write!(before, "{}{:gap$} | ", name.text, ""),
            };
        }
        if self.timestamps {
            let _ = write!(before, "{} ", line.at);
        }
        if let Some(details) = source.and_then(|source| source.details.as_deref()).filter(|_| self.details) {
            let _ = write!(before, "{} ", escape::line(details));
        }
        text.extend_from_slice(before.as_bytes());
        match self.raw {
            true => text.extend_from_slice(&line.data),
            false => text.extend_from_slice(harmless(&String::from_utf8_lossy(&line.data)).as_bytes()),
        }
        text.push(b'\n');
    }
}

/// The name shown beside a task's lines: its slot and its node.
fn name(source: &LogSource) -> String {
    match source.slot {
        Some(slot) => format!("{}.{slot}@{}", source.service_name, source.node_hostname),
        None => format!("{}@{}", source.service_name, source.node_hostname),
    }
}

/// A line with only text, tabs and colours for the terminal; colours are reset at its end.
fn harmless(line: &str) -> String {
    let line = line.trim_end_matches('\r');
    let mut shown = String::with_capacity(line.len());
    let (mut rest, mut coloured) = (line, false);
    while let Some(c) = rest.chars().next() {
        let (piece, after) = rest.split_at(c.len_utf8());
        if let Some(length) = colour(rest) {
            let (sequence, after) = rest.split_at(length);
            shown.push_str(sequence);
            (rest, coloured) = (after, true);
            continue;
        }
        rest = after;
        match c {
            '\t' => shown.push('\t'),
            c if escape::is_harmless(c) => shown.push_str(piece),
            c => shown.extend(c.escape_unicode()),
        }
    }
    if coloured {
        shown.push_str(RESET);
    }
    shown
}

/// A line without colour sequences.
pub fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let length = colour(rest);
        if length.is_none() {
            plain.push(c);
        }
        rest = rest.get(length.unwrap_or(c.len_utf8())..).unwrap_or_default();
    }
    plain
}

/// The length of the colour sequence at the start of a text, if there is one.
fn colour(text: &str) -> Option<usize> {
    let numbers = text.strip_prefix("\u{1b}[")?;
    let end = numbers.find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':')?;
    let is_one = numbers[end..].starts_with('m') && end <= COLOUR_LENGTH_MAX;
    is_one.then_some("\u{1b}[".len() + end + 1)
}

/// A line for scripts.
#[derive(Debug, Serialize)]
pub struct JsonLine<'a> {
    time: Timestamp,
    task: Option<TaskId>,
    name: &'a str,
    service: &'a str,
    node: &'a str,
    stream: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a str>,
    text: std::borrow::Cow<'a, str>,
}

impl<'a> JsonLine<'a> {
    /// A line of a task.
    pub fn new(source: Option<&'a LogSource>, line: &'a LogLine) -> Self {
        Self {
            time: line.at,
            task: source.map(|source| source.task),
            name: source.map_or("", |source| &source.name),
            service: source.map_or("", |source| &source.service_name),
            node: source.map_or("", |source| &source.node_hostname),
            stream: line.stream().name(),
            details: source.and_then(|source| source.details.as_deref()),
            text: String::from_utf8_lossy(&line.data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::escape::tests::{HOSTILE, assert_harmless};
    use super::*;

    #[test]
    fn a_line_keeps_its_colours_and_loses_what_else_a_terminal_would_obey() {
        for (printed, shown) in [
            ("plain é\ttab\r", "plain é\ttab".to_owned()),
            ("\u{1b}[1;31mred\u{1b}[m!", format!("\u{1b}[1;31mred\u{1b}[m!{RESET}")),
            ("\u{1b}[2Jgone", r"\u{1b}[2Jgone".to_owned()),
            ("\u{1b}]0;title\u{7}", r"\u{1b}]0;title\u{7}".to_owned()),
            ("\u{1b}[31", r"\u{1b}[31".to_owned()),
        ] {
            assert_eq!(harmless(printed), shown);
        }
        assert_harmless(&harmless(&HOSTILE.replace("\u{1b}[31m", "")));
    }

    #[test]
    fn colours_can_be_left_out() {
        for (line, plain) in [("plain é", "plain é"), ("\u{1b}[1;31mred\u{1b}[m!", "red!"), ("\u{1b}[2J", "\u{1b}[2J")]
        {
            assert_eq!(without_colours(line), plain);
        }
    }

    fn source(task: u128, name: &str) -> LogSource {
        LogSource {
            task: events::Id::from_bits(task),
            service_name: name.to_owned(),
            slot: Some(1),
            node_hostname: "n1".to_owned(),
            details: Some("tier=web".to_owned()),
            ..LogSource::default()
        }
    }

    fn shown(mut style: Style) -> String {
        let (one, two) = (source(1, "a"), source(2, "long"));
        [&one, &two].into_iter().for_each(|source| style.learn(source));
        let line = |text: &'static str| LogLine { data: text.into(), ..LogLine::default() };
        let mut text = Vec::new();
        style.line(Some(&one), &line("x"), &mut text);
        style.line(Some(&two), &line("y\u{7}"), &mut text);
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn each_flag_shows_what_it_says() {
        let time = Timestamp::default();
        for (style, expected) in [
            (Style::new(false, false, false, false, false), "a.1@n1    | x\nlong.1@n1 | y\\u{7}\n".to_owned()),
            (Style::new(true, false, true, false, true), format!("{time} x\n{time} y\u{7}\n")),
            (
                Style::new(true, true, false, false, false),
                format!("a.1@n1    | {time} tier=web x\nlong.1@n1 | {time} tier=web y\\u{{7}}\n"),
            ),
            (
                Style::new(false, false, false, false, true),
                "\u{1b}[36ma.1@n1\u{1b}[0m    | x\n\u{1b}[33mlong.1@n1\u{1b}[0m | y\\u{7}\n".to_owned(),
            ),
        ] {
            assert_eq!(shown(style), expected);
        }
    }
}
