//! One page: its contents, the visible lines, and the selected one.

use std::time::Duration;

use events::Timestamp;

use super::question::{Line, Object, Shown, Subject};
use crate::failure::Failure;

/// Maximum number of log lines in memory; the log itself has older ones.
pub const LOG_LINES_MAX: usize = 5_000;
/// Minimum time between two reads.
const READ_EVERY: Duration = Duration::from_secs(1);
/// The delay until the next read, as a multiple of the last read's duration: a large page must not overload its manager.
const READ_DELAY_FACTOR: u32 = 10;

/// A page.
#[derive(Debug)]
pub struct Page {
    /// Unique number.
    pub number: u64,
    /// What the page is about.
    pub subject: Subject,
    /// The last answer.
    pub shown: Shown,
    /// Whether there was an answer yet.
    pub answered: bool,
    /// The error of the last read, if it failed.
    pub failure: Option<Failure>,
    /// Only lines that contain this text are shown, ignoring case.
    pub filter: String,
    /// The time of the next read; `None` if nothing new can come.
    pub due: Option<Timestamp>,
    /// The timestamp of the last log line.
    pub last_printed: Option<Timestamp>,
    /// The position of the selected line; in a text, the first visible line.
    cursor: usize,
    /// The selected object: it stays selected when its line moves.
    chosen: Option<Object>,
    /// Whether the list was cut off, so that the manager applies the filter.
    is_searched: bool,
    /// Whether the view follows the end of a log.
    follows: bool,
}

impl Page {
    /// A page that is read at once.
    pub fn new(number: u64, subject: Subject, now: Timestamp) -> Self {
        Self {
            number,
            follows: matches!(subject, Subject::Logs(_)),
            subject,
            shown: Shown::default(),
            answered: false,
            failure: None,
            filter: String::new(),
            due: Some(now),
            last_printed: None,
            cursor: 0,
            chosen: None,
            is_searched: false,
        }
    }

    /// The lines that match the filter.
    pub fn lines(&self) -> Vec<&Line> {
        if !self.filter.is_empty() && self.shown.containing == self.filter {
            return self.shown.lines.iter().collect();
        }
        let filter = self.filter.to_lowercase();
        self.shown.lines.iter().filter(|line| line.has(&filter)).collect()
    }

    /// The position of the selected line, or of the first visible one.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// The selected object.
    pub fn chosen(&self) -> Option<&Object> {
        self.chosen.as_ref()
    }

    /// Whether the view follows the end of a log.
    pub fn follows(&self) -> bool {
        self.follows
    }

    /// The text that lines are to have of a list that is too long to be shown whole; empty: all.
    pub fn containing(&self) -> &str {
        if self.is_searched { &self.filter } else { "" }
    }

    /// Takes what was read, and says when to read it again.
    pub fn show(&mut self, shown: Shown, took: Duration, now: Timestamp) {
        self.is_searched = shown.total.is_some() || !shown.containing.is_empty();
        self.shown = shown;
        (self.answered, self.failure) = (true, None);
        self.due = self.next_reading(took, now);
        self.find_chosen();
    }

    /// Records why the read failed.
    pub fn fail(&mut self, failure: Failure, now: Timestamp) {
        self.due = self.next_reading(Duration::ZERO, now);
        self.failure = Some(failure);
    }

    fn next_reading(&self, took: Duration, now: Timestamp) -> Option<Timestamp> {
        let is_past = self.shown.point.is_some();
        (self.subject.is_live() && !is_past).then(|| now + READ_EVERY.max(took.saturating_mul(READ_DELAY_FACTOR)))
    }

    /// Schedules a read after the manager was lost.
    pub fn retry(&mut self, now: Timestamp) {
        self.due = Some(now + READ_EVERY);
    }

    /// A log starts to arrive: with its past lines, unless it continues after an interruption.
    pub fn open_log(&mut self) {
        if self.last_printed.is_none() {
            self.shown.lines.clear();
        }
        (self.answered, self.failure, self.due) = (true, None, None);
    }

    /// Adds log lines.
    pub fn print(&mut self, lines: Vec<String>, last: Option<Timestamp>, height: usize) {
        self.shown.lines.extend(lines.into_iter().map(Line::text));
        let excess = self.shown.lines.len().saturating_sub(LOG_LINES_MAX);
        self.shown.lines.drain(..excess);
        self.last_printed = self.last_printed.max(last);
        match self.follows {
            true => self.cursor = self.lines().len().saturating_sub(height),
            // The lines in view stay in place.
            false => self.cursor = self.cursor.saturating_sub(excess),
        }
    }

    /// Sets the filter. The chosen line stays chosen while it is shown. What is not here is asked for.
    pub fn filter(&mut self, text: String, now: Timestamp) {
        self.filter = text;
        if self.is_searched {
            self.due = Some(now);
        }
        self.find_chosen();
    }

    /// Moves by this many lines, on a page of `height` lines.
    pub fn move_by(&mut self, lines: isize, height: usize) {
        let count = self.lines().len();
        let last = if self.subject.has_rows() { count.saturating_sub(1) } else { count.saturating_sub(height) };
        self.cursor = self.cursor.saturating_add_signed(lines).min(last);
        self.follows = matches!(self.subject, Subject::Logs(_)) && self.cursor == last;
        self.choose();
    }

    /// Finds the selected object; if it is gone, the line in its place is selected.
    fn find_chosen(&mut self) {
        let lines = self.lines();
        let found = self.chosen.as_ref().and_then(|chosen| {
            lines.iter().position(|line| line.object.as_ref().is_some_and(|object| object.id == chosen.id))
        });
        self.cursor = found.unwrap_or(self.cursor).min(lines.len().saturating_sub(1));
        self.choose();
    }

    fn choose(&mut self) {
        self.chosen = self.lines().get(self.cursor).and_then(|line| line.object.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::v1::PointView;

    use crate::ui::question::Noun;

    const NOW: Timestamp = Timestamp::from_unix_ns(1_000_000_000_000);

    fn row(name: &str) -> Line {
        let object = Object { noun: Noun::Service, id: name.to_owned(), name: name.to_owned() };
        Line { object: Some(object), ..Line::text(name) }
    }

    fn show(page: &mut Page, names: &[&str]) {
        let lines = names.iter().map(|name| row(name)).collect();
        page.show(Shown { lines, ..Shown::default() }, Duration::ZERO, NOW);
    }

    fn chosen(page: &Page) -> &str {
        page.chosen().map_or("", |object| &object.name)
    }

    #[test]
    fn what_is_chosen_stays_so_wherever_it_moves() {
        let mut page = Page::new(1, Subject::Services, NOW);
        show(&mut page, &["a", "b", "c"]);
        assert_eq!(chosen(&page), "a");
        page.move_by(1, 10);
        assert_eq!(chosen(&page), "b");
        show(&mut page, &["a", "a2", "b", "c"]);
        assert_eq!((chosen(&page), page.cursor()), ("b", 2));
        show(&mut page, &["a", "a2", "c"]);
        assert_eq!(chosen(&page), "c", "it is gone");
        page.filter("A".to_owned(), NOW);
        assert_eq!((page.lines().len(), chosen(&page)), (2, "a2"));
        page.filter("none".to_owned(), NOW);
        assert_eq!((page.lines().len(), chosen(&page)), (0, ""));
        page.filter(String::new(), NOW);
        page.move_by(isize::MAX, 10);
        assert_eq!(chosen(&page), "c");
        page.move_by(isize::MIN, 10);
        assert_eq!(chosen(&page), "a");
    }

    #[test]
    fn what_took_long_is_read_less_often_and_the_past_once() {
        let mut page = Page::new(1, Subject::Services, NOW);
        for (took, next) in [(0, Some(1)), (100, Some(1)), (2_000, Some(20))] {
            page.show(Shown::default(), Duration::from_millis(took), NOW);
            assert_eq!(page.due, next.map(|seconds| NOW + Duration::from_secs(seconds)), "{took} ms");
        }
        page.show(Shown { point: Some(PointView::default()), ..Shown::default() }, Duration::ZERO, NOW);
        assert_eq!(page.due, None);
    }

    #[test]
    fn a_log_keeps_its_last_lines_and_its_end_in_sight_until_one_goes_back() {
        let of = Object { noun: Noun::Task, id: "1".to_owned(), name: "web.1".to_owned() };
        let mut page = Page::new(1, Subject::Logs(of), NOW);
        let lines = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        page.print(lines(30), None, 20);
        assert_eq!((page.cursor(), page.follows()), (10, true));
        page.move_by(-5, 20);
        page.print(lines(LOG_LINES_MAX), None, 20);
        assert_eq!((page.lines().len(), page.cursor(), page.follows()), (LOG_LINES_MAX, 0, false));
        page.move_by(isize::MAX, 20);
        assert_eq!((page.cursor(), page.follows()), (LOG_LINES_MAX - 20, true));
    }
}
