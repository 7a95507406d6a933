//! Progress for the person who waits: bars on a terminal, lines elsewhere.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use events::TaskState;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::verdict::{LINES_MAX, Picture, TaskLine};
use crate::format::escape;

/// How often the headline's spinner turns.
const SPIN: Duration = Duration::from_millis(120);
/// States on the way to running, in order; a bar has one step for each.
const STEPS: [TaskState; 7] = [
    TaskState::Pending,
    TaskState::Assigned,
    TaskState::Accepted,
    TaskState::Preparing,
    TaskState::Ready,
    TaskState::Starting,
    TaskState::Running,
];

/// A way to show how far a service is.
pub enum Progress {
    /// Drawn on the terminal.
    Bars(Bars),
    /// Written when something changed.
    Lines(Lines),
}

impl TaskLine {
    /// How many steps it has behind it: what ended has none, and what is to be updated none of the new ones.
    fn steps(&self) -> u64 {
        if self.stale || self.state.is_terminal() {
            return 0;
        }
        STEPS.iter().filter(|step| **step <= self.state).count() as u64
    }
}

impl Progress {
    /// Bars for a person at a terminal, lines for everybody else.
    pub fn new(interactive: bool) -> Self {
        if interactive { Self::Bars(Bars::new()) } else { Self::Lines(Lines::default()) }
    }

    /// Shows how far it is now.
    ///
    /// # Errors
    /// When `err` cannot be written to.
    pub fn show(&mut self, picture: &Picture, err: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Bars(bars) => {
                bars.show(picture);
                Ok(())
            }
            Self::Lines(lines) => lines.show(picture, err),
        }
    }

    /// Shows how far it got in the end. Why it got no further is for the failure to say.
    ///
    /// # Errors
    /// When `err` cannot be written to.
    pub fn conclude(&mut self, picture: &Picture, err: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Bars(bars) => {
                bars.show(picture);
                Ok(())
            }
            Self::Lines(lines) => lines.headline(picture, err),
        }
    }

    /// Leaves what was shown where it is and gives the terminal back.
    pub fn finish(&self) {
        match self {
            Self::Bars(bars) => bars.finish(),
            Self::Lines(_) => (),
        }
    }
}

/// A spinning headline and a bar for each task.
pub struct Bars {
    all: MultiProgress,
    headline: ProgressBar,
    tasks: Vec<ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let headline = all.add(ProgressBar::new_spinner().with_style(style("{spinner} {wide_msg}")));
        headline.enable_steady_tick(SPIN);
        Self { all, headline, tasks: Vec::new() }
    }

    fn show(&mut self, picture: &Picture) {
        self.headline.set_message(escape::line(&picture.headline).into_owned());
        let shown: &[TaskLine] = if picture.count > LINES_MAX { &[] } else { &picture.tasks };
        while self.tasks.len() > shown.len() {
            self.tasks.pop().iter().for_each(ProgressBar::finish_and_clear);
        }
        while self.tasks.len() < shown.len() {
            let bar = ProgressBar::new(STEPS.len() as u64).with_style(style("  {prefix} [{bar:14}] {wide_msg}"));
            self.tasks.push(self.all.add(bar));
        }
        for (bar, task) in self.tasks.iter().zip(shown) {
            bar.set_prefix(escape::line(&task.place).into_owned());
            bar.set_position(task.steps());
            bar.set_message(escape::line(&task.detail()).into_owned());
        }
    }

    fn finish(&self) {
        self.tasks.iter().for_each(|bar| bar.abandon());
        self.headline.abandon();
    }
}

/// A style in plain characters, which every terminal has.
fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ").tick_chars("|/-\\ ")
}

/// One line whenever the headline changes, and one for each new trouble of a task.
#[derive(Default)]
pub struct Lines {
    headline: String,
    /// Of each place the trouble that was told.
    troubles: BTreeMap<String, String>,
}

impl Lines {
    fn headline(&mut self, picture: &Picture, err: &mut dyn Write) -> io::Result<()> {
        if self.headline != picture.headline {
            self.headline.clone_from(&picture.headline);
            writeln!(err, "{}", escape::line(&picture.headline))?;
        }
        Ok(())
    }

    fn show(&mut self, picture: &Picture, err: &mut dyn Write) -> io::Result<()> {
        self.headline(picture, err)?;
        let troubled = picture.tasks.iter().filter(|task| !task.trouble.is_empty());
        let mut present = BTreeMap::new();
        for task in troubled {
            // The reason alone counts: a task that tries again goes through many states for the same one.
            if self.troubles.get(&task.place) != Some(&task.trouble) {
                writeln!(err, "{}", escape::line(&format!("{}: {}", task.place, task.detail())))?;
            }
            present.insert(task.place.clone(), task.trouble.clone());
        }
        self.troubles = present;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(headline: &str, trouble: &str) -> Picture {
        let task = TaskLine {
            place: "web.1".to_owned(),
            about: "web.1 (nginx)".to_owned(),
            stale: false,
            state: TaskState::Pending,
            node: String::new(),
            trouble: trouble.to_owned(),
            attempt: None,
            since: crate::format::samples::NOW,
        };
        Picture { headline: headline.to_owned(), count: 1, tasks: vec![task] }
    }

    #[test]
    fn lines_are_written_once_each() {
        let (mut lines, mut err) = (Lines::default(), Vec::new());
        for picture in
            [picture("0 of 1", ""), picture("0 of 1", "no node"), picture("0 of 1", "no node"), picture("1 of 1", "")]
        {
            lines.show(&picture, &mut err).expect("a vector takes everything");
        }
        assert_eq!(String::from_utf8_lossy(&err), "0 of 1\nweb.1: pending: no node\n1 of 1\n");
    }

    #[test]
    fn a_bar_is_full_only_where_the_count_has_the_task() {
        let task = picture("", "").tasks.remove(0);
        for (state, stale, steps) in [
            (TaskState::Pending, false, 1),
            (TaskState::Running, false, 7),
            (TaskState::Running, true, 0),
            (TaskState::Failed, false, 0),
        ] {
            assert_eq!(TaskLine { state, stale, ..task.clone() }.steps(), steps, "{state:?}");
        }
    }

    #[test]
    fn the_templates_of_the_bars_are_valid() {
        for template in ["{spinner} {wide_msg}", "  {prefix} [{bar:14}] {wide_msg}"] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
