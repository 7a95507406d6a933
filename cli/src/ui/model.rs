//! The state of the screen, and how keys and answers change it: no terminal, no manager, no clock.

use std::time::Duration;

use events::Timestamp;
use wire::v1::PointView;

use super::command::{self, Command};
use super::keys::Key;
use super::page::Page;
use super::prompt::{Prompt, PromptKind};
use super::question::{Answer, Noun, Object, Output, Question, Subject};
use super::timeline::{Step, Timeline};
use crate::failure::{Failure, Kind};
use crate::values::point::Point;

/// Minimum size of the terminal.
pub const SIZE_MIN: Size = Size { columns: 80, rows: 24 };
/// Rows besides the lines of the page: title, timeline, page title, column names, and the last line.
pub const FRAME_ROWS: u16 = 5;
/// Columns before each line: the cursor and the health mark.
pub const MARGIN: u16 = 3;
/// Maximum number of pages to go back through.
const PAGES_MAX: usize = 32;

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Its columns.
    pub columns: u16,
    /// Its rows.
    pub rows: u16,
}

/// What to do while no key is pressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Ask this question.
    Ask(Question),
    /// Wait this long, then ask.
    Wait(Duration),
    /// Wait for a key.
    Nothing,
}

/// The whole screen.
#[derive(Debug)]
pub struct Ui {
    /// The cluster's name.
    pub cluster: String,
    /// The terminal's size.
    pub size: Size,
    /// The selected point of history.
    pub timeline: Timeline,
    /// The input line, if it is open.
    pub prompt: Option<Prompt>,
    /// Whether the help is shown.
    pub help: bool,
    /// The error of the last key or command.
    pub notice: Option<String>,
    /// The last connection error, while the manager does not answer.
    pub lost: Option<Failure>,
    /// Never empty; the last one is visible.
    pages: Vec<Page>,
    /// A point that is being looked up.
    wanted: Option<Point>,
    /// The number of the next page.
    next_page: u64,
    is_over: bool,
}

impl Ui {
    /// The first screen: the services, now or at a point of the past.
    pub fn new(cluster: String, size: Size, at: Option<PointView>, now: Timestamp) -> Self {
        Self {
            cluster,
            size,
            timeline: Timeline::at(at),
            prompt: None,
            help: false,
            notice: None,
            lost: None,
            pages: vec![Page::new(0, Subject::Services, now)],
            wanted: None,
            next_page: 1,
            is_over: false,
        }
    }

    /// Whether the user has quit.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The visible page.
    pub fn page(&self) -> &Page {
        &self.pages[self.pages.len() - 1]
    }

    fn page_mut(&mut self) -> &mut Page {
        let last = self.pages.len() - 1;
        &mut self.pages[last]
    }

    /// Whether a page still exists, visible or below.
    pub fn has_page(&self, number: u64) -> bool {
        self.pages.iter().any(|page| page.number == number)
    }

    /// Whether the answer to a question is still needed. An answer about another point of history is: while the user drags,
    /// intermediate points are shown as they arrive, and only the final one is requested next.
    pub fn awaits(&self, question: &Question) -> bool {
        match question {
            Question::Page { page, subject, columns, .. } => {
                *page == self.page().number && *subject == self.page().subject && *columns == self.columns()
            }
            Question::Find(point) => self.wanted.as_ref() == Some(point),
        }
    }

    /// What to do next. There is one question at a time.
    pub fn next(&self, now: Timestamp) -> Next {
        if let Some(point) = &self.wanted {
            return Next::Ask(Question::Find(point.clone()));
        }
        let page = self.page();
        match page.due {
            Some(due) if due <= now => Next::Ask(Question::Page {
                page: page.number,
                subject: page.subject.clone(),
                columns: self.columns(),
                at: self.timeline.index(),
                since: page.last_printed.map(|last| last + Duration::from_nanos(1)),
                containing: page.containing().to_owned(),
            }),
            Some(due) => Next::Wait(due.since(now)),
            None => Next::Nothing,
        }
    }

    /// The width of a page's lines.
    pub fn columns(&self) -> usize {
        usize::from(self.size.columns.saturating_sub(MARGIN))
    }

    /// The number of visible lines of a page.
    pub fn height(&self) -> usize {
        usize::from(self.size.rows.saturating_sub(FRAME_ROWS))
    }

    /// The terminal was resized: the page is read again for the new width.
    pub fn resize(&mut self, size: Size, now: Timestamp) {
        self.size = size;
        self.read_again(now);
    }

    fn read_again(&mut self, now: Timestamp) {
        for page in &mut self.pages {
            page.due = Some(now);
        }
    }

    /// Handles the answer to a question that was asked at `asked_at`.
    pub fn answered(
        &mut self,
        question: &Question,
        answer: Result<Answer, Failure>,
        asked_at: Timestamp,
        now: Timestamp,
    ) {
        if !self.awaits(question) {
            return;
        }
        match answer {
            Ok(answer) => {
                self.lost = None;
                self.take(question, answer, asked_at, now);
            }
            Err(failure) => self.fail(question, failure, now),
        }
    }

    fn take(&mut self, question: &Question, answer: Answer, asked_at: Timestamp, now: Timestamp) {
        match answer {
            Answer::Found(point) => {
                self.wanted = None;
                self.timeline.go_to(point);
                self.read_again(now);
            }
            Answer::Page(shown) => {
                self.timeline.learn(shown.head);
                let is_now = matches!(question, Question::Page { at, .. } if *at == self.timeline.index());
                let page = self.page_mut();
                let containing = shown.containing.clone();
                page.show(shown, now.since(asked_at), now);
                // Something else is looked for, or elsewhere in history, than when it was asked.
                if !is_now || page.containing() != containing {
                    page.due = Some(now);
                }
            }
            // A log starts with its first lines, which arrive separately.
            Answer::Logs(_) => {}
        }
    }

    fn fail(&mut self, question: &Question, failure: Failure, now: Timestamp) {
        let is_lost = matches!(failure.kind, Kind::Unreachable | Kind::Stopped);
        match question {
            Question::Find(_) => {
                self.wanted = None;
                self.notice = Some(failure.sentence);
            }
            Question::Page { .. } if is_lost => {
                self.page_mut().retry(now);
                self.lost = Some(failure);
            }
            Question::Page { .. } => {
                self.lost = None;
                self.page_mut().fail(failure, now);
            }
        }
    }

    /// The log of a page starts to arrive.
    pub fn open_log(&mut self, number: u64) {
        self.lost = None;
        if let Some(page) = self.pages.iter_mut().find(|page| page.number == number) {
            page.open_log();
        }
    }

    /// Adds lines to a page's log; `last` is the timestamp of the last one.
    pub fn print(&mut self, number: u64, lines: Vec<String>, last: Option<Timestamp>) {
        let height = self.height();
        if let Some(page) = self.pages.iter_mut().find(|page| page.number == number) {
            page.print(lines, last, height);
        }
    }

    /// The log of a page ended: it was that of the past, or it continues when the manager is back.
    pub fn close_log(&mut self, number: u64, failure: Option<Failure>, now: Timestamp) {
        let is_past = self.timeline.index().is_some();
        let Some(page) = self.pages.iter_mut().find(|page| page.number == number) else { return };
        match failure {
            None if is_past => {}
            None => page.retry(now),
            Some(failure) => {
                page.retry(now);
                self.lost = Some(failure);
            }
        }
    }

    /// Handles a key.
    pub fn press(&mut self, key: Key, now: Timestamp) {
        self.notice = None;
        if key == Key::Ctrl('c') {
            self.is_over = true;
        } else if self.help {
            self.help = false;
        } else if let Some(prompt) = self.prompt.take() {
            self.type_into(prompt, key, now);
        } else {
            self.act(key, now);
        }
    }

    fn type_into(&mut self, mut prompt: Prompt, key: Key, now: Timestamp) {
        match key {
            Key::Escape => {
                if prompt.kind == PromptKind::Filter {
                    self.page_mut().filter(String::new(), now);
                }
            }
            Key::Enter => self.submit(&prompt, now),
            key => {
                // Deleting the sign before the text closes the prompt.
                if prompt.press(key) {
                    if prompt.kind == PromptKind::Filter {
                        self.page_mut().filter(prompt.text.clone(), now);
                    }
                    self.prompt = Some(prompt);
                }
            }
        }
    }

    fn submit(&mut self, prompt: &Prompt, now: Timestamp) {
        let done = match prompt.kind {
            PromptKind::Filter => Ok(()),
            PromptKind::Command if prompt.text.trim().is_empty() => Ok(()),
            PromptKind::Command => command::parse(&prompt.text).map(|command| self.command(command, now)),
            PromptKind::Time => command::point(&prompt.text).map(|point| self.wanted = Some(point)),
        };
        if let Err(failure) = done {
            self.notice = Some(format!("{}; {}", failure.sentence, failure.hint));
        }
    }

    fn command(&mut self, command: Command, now: Timestamp) {
        match command {
            Command::Show(subject) => {
                // A list becomes the new first page; an answer can be left with Escape.
                if subject.has_rows() {
                    self.pages.clear();
                }
                self.open(subject, now);
            }
            Command::To(point) => self.wanted = Some(point),
            Command::Now => self.go_to_present(now),
            Command::Help => self.help = true,
            Command::Quit => self.is_over = true,
        }
    }

    fn open(&mut self, subject: Subject, now: Timestamp) {
        if self.pages.len() == PAGES_MAX {
            self.pages.remove(0);
        }
        self.pages.push(Page::new(self.next_page, subject, now));
        self.next_page += 1;
    }

    fn act(&mut self, key: Key, now: Timestamp) {
        let (height, has_rows) = (self.height(), self.page().subject.has_rows());
        let page_length = isize::try_from(height).unwrap_or(isize::MAX);
        match key {
            Key::Char('j') | Key::Down => self.page_mut().move_by(1, height),
            Key::Char('k') | Key::Up => self.page_mut().move_by(-1, height),
            Key::Char('g') | Key::Home => self.page_mut().move_by(isize::MIN, height),
            Key::Char('G') | Key::End => self.page_mut().move_by(isize::MAX, height),
            Key::Char(' ') | Key::Ctrl('f') => self.page_mut().move_by(page_length, height),
            Key::Ctrl('b') => self.page_mut().move_by(-page_length, height),
            // In a text these keys scroll by pages, in a list they move through time.
            Key::PageDown if !has_rows => self.page_mut().move_by(page_length, height),
            Key::PageUp if !has_rows => self.page_mut().move_by(-page_length, height),
            Key::Left => self.travel(|timeline| timeline.back(Step::Frame), now),
            Key::Right => self.travel(|timeline| timeline.forward(Step::Frame), now),
            Key::PageUp => self.travel(|timeline| timeline.back(Step::Part), now),
            Key::PageDown => self.travel(|timeline| timeline.forward(Step::Part), now),
            Key::Char('n') => self.go_to_present(now),
            Key::Char('t') => self.prompt = Some(Prompt::new(PromptKind::Time)),
            Key::Char(':') => self.prompt = Some(Prompt::new(PromptKind::Command)),
            Key::Char('/') => self.prompt = Some(Prompt::new(PromptKind::Filter)),
            Key::Char('?') => self.help = true,
            Key::Char('q') => self.is_over = true,
            Key::Char('a') => self.toggle_finished(now),
            Key::Escape => self.back(now),
            Key::Enter => self.ask_about(Self::deeper, now),
            Key::Char('d') => self.ask_about(Self::description, now),
            Key::Char('e') => self.ask_about(Self::explanation, now),
            Key::Char('l') => self.ask_about(Self::logs, now),
            Key::Char('v') => self.ask_about(Self::events, now),
            Key::Char(_) | Key::Ctrl(_) | Key::Backspace | Key::Tab => {}
        }
    }

    fn back(&mut self, now: Timestamp) {
        if !self.page().filter.is_empty() {
            self.page_mut().filter(String::new(), now);
        } else if self.pages.len() > 1 {
            self.pages.pop();
        }
    }

    fn travel(&mut self, step: impl FnOnce(&mut Timeline), now: Timestamp) {
        let before = self.timeline.index();
        step(&mut self.timeline);
        if self.timeline.index() != before {
            self.look_again(now);
        }
    }

    fn go_to_present(&mut self, now: Timestamp) {
        self.wanted = None;
        self.travel(Timeline::go_to_present, now);
    }

    /// Reads everything again at another point.
    fn look_again(&mut self, now: Timestamp) {
        for page in &mut self.pages {
            page.last_printed = None;
        }
        self.read_again(now);
    }

    fn toggle_finished(&mut self, now: Timestamp) {
        let page = self.page_mut();
        if let Subject::Tasks { finished, .. } = &mut page.subject {
            *finished = !*finished;
            page.due = Some(now);
        }
    }

    /// Opens a page about the selected object.
    fn ask_about(&mut self, subject: fn(&Object) -> Result<Subject, &'static str>, now: Timestamp) {
        let Some(object) = self.page().chosen().cloned() else { return };
        match subject(&object) {
            Ok(subject) => self.open(subject, now),
            Err(why) => self.notice = Some(why.to_owned()),
        }
    }

    fn deeper(object: &Object) -> Result<Subject, &'static str> {
        match object.noun {
            Noun::Service | Noun::Node => Ok(Subject::Tasks { of: Some(object.clone()), finished: false }),
            Noun::Task | Noun::Entry => Self::description(object),
        }
    }

    fn description(object: &Object) -> Result<Subject, &'static str> {
        match object.noun {
            Noun::Service | Noun::Node | Noun::Task => {
                let command = [object.noun.word(), "inspect"];
                Ok(Subject::Output(Output::about(command, &object.name, object.id.clone(), true)))
            }
            Noun::Entry => Ok(Subject::Entry(object.clone())),
        }
    }

    fn explanation(object: &Object) -> Result<Subject, &'static str> {
        match object.noun {
            Noun::Service | Noun::Task => {
                let command = ["explain", object.noun.word()];
                Ok(Subject::Output(Output::about(command, &object.name, object.id.clone(), false)))
            }
            Noun::Node => Err("explain is for services and tasks"),
            Noun::Entry => Self::description(object),
        }
    }

    fn logs(object: &Object) -> Result<Subject, &'static str> {
        match object.noun {
            Noun::Service | Noun::Task => Ok(Subject::Logs(object.clone())),
            Noun::Node | Noun::Entry => Err("logs are of services and tasks"),
        }
    }

    fn events(object: &Object) -> Result<Subject, &'static str> {
        match object.noun {
            Noun::Service | Noun::Node | Noun::Task => {
                Ok(Subject::Events { about: Some((object.id.clone(), object.name.clone())) })
            }
            Noun::Entry => Err("choose a service, a node or a task"),
        }
    }
}
