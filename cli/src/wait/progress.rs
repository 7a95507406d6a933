//! Progress during a wait: bars on a terminal, lines elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::time::Duration;

use events::TaskState;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::verdict::{LINES_MAX, ProgressView, TaskLine};
use crate::format::escape;

/// The interval of the spinner.
const SPIN: Duration = Duration::from_millis(120);
/// The states on the way to RUNNING, in order; a bar has one step for each.
const STEPS: [TaskState; 7] = [
    TaskState::Pending,
    TaskState::Assigned,
    TaskState::Accepted,
    TaskState::Preparing,
    TaskState::Ready,
    TaskState::Starting,
    TaskState::Running,
];

/// The display of a wait's progress.
pub enum Progress {
    /// Drawn on the terminal.
    Bars(Bars),
    /// Written when something changed.
    Lines(Lines),
}

impl TaskLine {
    /// The number of completed steps: an ended task has none, and neither has one that is still to be updated.
    fn steps(&self) -> u64 {
        if self.stale || self.state.is_terminal() {
            return 0;
        }
        STEPS.iter().filter(|step| **step <= self.state).count() as u64
    }
}

impl Progress {
    /// Bars on a terminal, lines elsewhere.
    pub fn new(interactive: bool) -> Self {
        if interactive { Self::Bars(Bars::new()) } else { Self::Lines(Lines::default()) }
    }

    /// Shows the current progress.
    ///
    /// # Errors
    /// When `err` cannot be written to.
    pub fn show(&mut self, progress_view: &ProgressView, err: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Bars(bars) => {
                bars.show(progress_view);
                Ok(())
            }
            Self::Lines(lines) => lines.show(progress_view, err),
        }
    }

    /// Shows the final progress as the last line. The failure reports the reason if there is one.
    ///
    /// # Errors
    /// When `err` cannot be written to.
    pub fn conclude(&mut self, progress_view: &ProgressView, err: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Bars(bars) => {
                bars.show(progress_view);
                Ok(())
            }
            Self::Lines(lines) => lines.conclude(progress_view, err),
        }
    }

    /// Keeps what was shown and restores the terminal.
    pub fn finish(&self) {
        match self {
            Self::Bars(bars) => bars.finish(),
            Self::Lines(_) => (),
        }
    }
}

/// A headline with a spinner and a bar for each task.
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

    fn show(&mut self, progress_view: &ProgressView) {
        self.headline.set_message(escape::line(&progress_view.headline).into_owned());
        let shown: &[TaskLine] = if progress_view.count > LINES_MAX { &[] } else { &progress_view.tasks };
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

/// A style in ASCII characters, which every terminal supports.
fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ").tick_chars("|/-\\ ")
}

/// Maximum number of tasks with problems that get their own lines; the others are counted.
const TROUBLED_MAX: usize = 3;

/// One line for each step, and one for each new problem of the first few tasks. Nothing is repeated except the final headline: a
/// task that keeps failing takes its service through the same states each time.
#[derive(Default)]
pub struct Lines {
    /// Steps that were shown; each is a line.
    shown_steps: BTreeSet<String>,
    /// The headline, if it is the last line.
    last: Option<String>,
    /// The last problem that was shown for each slot with its own lines.
    troubles: BTreeMap<String, String>,
    /// The number of other slots with problems when it was last shown.
    others: usize,
}

impl Lines {
    /// Shows the headline, unless its step was shown before.
    fn headline(&mut self, progress_view: &ProgressView, err: &mut dyn Write) -> io::Result<()> {
        if self.shown_steps.insert(progress_view.step.clone()) { self.conclude(progress_view, err) } else { Ok(()) }
    }

    /// Shows the headline, unless it is the last line.
    fn conclude(&mut self, progress_view: &ProgressView, err: &mut dyn Write) -> io::Result<()> {
        if self.last.as_ref() != Some(&progress_view.headline) {
            self.line(&progress_view.headline, err)?;
            self.last = Some(progress_view.headline.clone());
        }
        Ok(())
    }

    fn show(&mut self, progress_view: &ProgressView, err: &mut dyn Write) -> io::Result<()> {
        self.headline(progress_view, err)?;
        let mut others = Vec::new();
        for task in progress_view.tasks.iter().filter(|task| !task.trouble.is_empty()) {
            if self.troubles.len() >= TROUBLED_MAX && !self.troubles.contains_key(&task.place) {
                others.push(task);
                continue;
            }
            // Only the reason is compared: a task that is retried passes through many states with the same reason.
            if self.troubles.get(&task.place) != Some(&task.trouble) {
                self.troubles.insert(task.place.clone(), task.trouble.clone());
                self.line(&format!("{}: {}", task.place, task.detail()), err)?;
            }
        }
        self.others(&others, err)
    }

    /// Shows the number of other tasks with problems, once it has doubled.
    fn others(&mut self, others: &[&TaskLine], err: &mut dyn Write) -> io::Result<()> {
        let Some(last) = others.last().filter(|_| others.len() >= 2 * self.others.max(1) || self.others == 0) else {
            return Ok(());
        };
        self.others = others.len();
        let example = format!("{}: {}", last.place, last.detail());
        match others.len() {
            1 => self.line(&example, err),
            count => self.line(&format!("{count} more tasks have problems, such as {example}"), err),
        }
    }

    fn line(&mut self, text: &str, err: &mut dyn Write) -> io::Result<()> {
        self.last = None;
        writeln!(err, "{}", escape::line(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress_view(headline: &str, trouble: &str) -> ProgressView {
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
        ProgressView { headline: headline.to_owned(), step: headline.to_owned(), count: 1, tasks: vec![task] }
    }

    fn output(lines: impl FnOnce(&mut Lines, &mut Vec<u8>) -> io::Result<()>) -> String {
        let mut err = Vec::new();
        lines(&mut Lines::default(), &mut err).expect("a vector takes everything");
        String::from_utf8(err).expect("text")
    }

    #[test]
    fn lines_are_written_once_each() {
        let pictures = [
            progress_view("0 of 1", ""),
            progress_view("0 of 1", "no node"),
            progress_view("0 of 1", "no node"),
            progress_view("1 of 1", ""),
        ];
        let output = output(|lines, err| pictures.iter().try_for_each(|progress_view| lines.show(progress_view, err)));
        assert_eq!(output, "0 of 1\nweb.1: pending: no node\n1 of 1\n");
    }

    #[test]
    fn what_happens_again_and_again_is_told_once_and_how_it_ends_is_told_last() {
        let round =
            [progress_view("0 of 1", ""), progress_view("1 of 1", ""), progress_view("0 of 1", "exit status 1")];
        let output = output(|lines, err| {
            (0..3).flat_map(|_| &round).try_for_each(|progress_view| lines.show(progress_view, err))?;
            lines.conclude(&round[1], err)?;
            lines.conclude(&round[1], err)
        });
        assert_eq!(output, "0 of 1\n1 of 1\nweb.1: pending: exit status 1\n1 of 1\n");
    }

    #[test]
    fn a_number_that_goes_up_and_down_makes_no_line() {
        let running = |count| ProgressView {
            step: "1 updated".to_owned(),
            ..progress_view(&format!("1 updated, {count} running"), "")
        };
        let output = output(|lines, err| [1, 2, 1].iter().try_for_each(|count| lines.show(&running(count), err)));
        assert_eq!(output, "1 updated, 1 running\n");
    }

    #[test]
    fn of_many_tasks_in_trouble_three_have_lines_and_the_others_are_counted() {
        let troubled = |count: usize| {
            let task = |slot| TaskLine { place: format!("web.{slot}"), ..progress_view("", "no node").tasks.remove(0) };
            ProgressView { tasks: (1..=count).map(task).collect(), ..progress_view("0 of 9", "") }
        };
        let counts = [3, 4, 4, 5, 6, 7, 9, 100];
        let output = output(|lines, err| counts.iter().try_for_each(|count| lines.show(&troubled(*count), err)));
        let expected = "0 of 9
web.1: pending: no node
web.2: pending: no node
web.3: pending: no node
web.4: pending: no node
2 more tasks have problems, such as web.5: pending: no node
4 more tasks have problems, such as web.7: pending: no node
97 more tasks have problems, such as web.100: pending: no node
";
        assert_eq!(output, expected);
    }

    #[test]
    fn a_bar_is_full_only_where_the_count_has_the_task() {
        let task = progress_view("", "").tasks.remove(0);
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
