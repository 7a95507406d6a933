//! Limits how many lines of one kind are logged: an event on ten thousand nodes at once is logged for a few of them, and counted
//! for the others.

use std::collections::BTreeMap;
use std::time::Duration;

use events::Timestamp;
use events::catalogue::NAMES;

use super::notice::{Level, Notice, Topic};

/// Lines of one topic in one window; further ones are only counted.
pub const LINES_MAX: u64 = 20;
/// The length of a window. It starts with the first line.
pub const WINDOW: Duration = Duration::from_secs(10);

/// The windows of all topics.
#[derive(Debug, Default)]
pub struct Quota {
    open: BTreeMap<Topic, Window>,
}

#[derive(Debug)]
struct Window {
    since: Timestamp,
    lines: u64,
    left_out: u64,
    level: Level,
}

/// What is logged of a notice.
#[derive(Debug, PartialEq)]
pub struct Admitted {
    /// The notice, unless it is only counted.
    pub line: Option<Notice>,
    /// Summaries of expired windows.
    pub summaries: Vec<Notice>,
}

impl Quota {
    /// Decides about a notice at this time.
    pub fn admit(&mut self, notice: Notice, now: Timestamp) -> Admitted {
        let summaries = self.close_expired(now);
        let level = notice.level;
        let fresh = Window { since: now, lines: 0, left_out: 0, level };
        let window = self.open.entry(notice.topic).or_insert(fresh);
        if window.lines < LINES_MAX {
            window.lines += 1;
            return Admitted { line: Some(notice), summaries };
        }
        window.left_out += 1;
        window.level = window.level.max(level);
        Admitted { line: None, summaries }
    }

    /// Closes the expired windows; returns what they counted.
    pub fn close_expired(&mut self, now: Timestamp) -> Vec<Notice> {
        // A clock that was set back does not keep a window open.
        let is_over = |window: &Window| now < window.since || now.since(window.since) >= WINDOW;
        self.close(is_over)
    }

    /// Closes all windows, at the end.
    pub fn end(&mut self) -> Vec<Notice> {
        self.close(|_| true)
    }

    fn close(&mut self, is_over: impl Fn(&Window) -> bool) -> Vec<Notice> {
        let expired: Vec<Topic> =
            self.open.iter().filter(|(_, window)| is_over(window)).map(|(topic, _)| *topic).collect();
        expired.into_iter().filter_map(|topic| summary(topic, &self.open.remove(&topic)?)).collect()
    }
}

fn summary(topic: Topic, window: &Window) -> Option<Notice> {
    let seconds = WINDOW.as_secs();
    let (more, what, name) = (window.left_out, topic.plural(), topic.name());
    let listed =
        if NAMES.contains(&name) { format!("; `swarmctl events --kind {name}` lists them") } else { String::new() };
    let sentence = format!("{more} more within {seconds} s: {what}{listed}");
    (window.left_out > 0).then_some(Notice { topic, level: window.level, index: None, object: None, sentence })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(number: u64) -> Notice {
        let (topic, level) = (Topic::NodeDeclaredDown, Level::Warn);
        Notice { topic, level, index: Some(number), object: None, sentence: format!("node {number} is down") }
    }

    fn second(second: u64) -> Timestamp {
        Timestamp::from_unix_ns(0) + Duration::from_secs(second)
    }

    #[test]
    fn a_burst_logs_a_few_lines_and_counts_the_others() {
        let mut quota = Quota::default();
        let logged = (0..10_000).filter(|number| quota.admit(down(*number), second(1)).line.is_some()).count();
        assert_eq!(logged as u64, LINES_MAX);
        assert_eq!(quota.close_expired(second(10)), []);
        let summaries = quota.close_expired(second(11));
        let [summary] = &summaries[..] else { panic!("one line: {summaries:?}") };
        assert!(
            summary.sentence.starts_with("9980 more within 10 s: nodes that went down; `swarmctl events --kind node_")
        );
        assert_eq!((summary.level, quota.close_expired(second(99))), (Level::Warn, Vec::new()));
        assert!(quota.admit(down(1), second(100)).line.is_some(), "a new window begins");
    }

    #[test]
    fn topics_do_not_take_each_other_s_room_and_few_lines_need_no_summary() {
        let mut quota = Quota::default();
        for number in 0..=LINES_MAX {
            quota.admit(down(number), second(0));
        }
        let up = Notice { topic: Topic::NodeRegistered, level: Level::Info, ..down(1) };
        assert_eq!(quota.admit(up.clone(), second(5)), Admitted { line: Some(up.clone()), summaries: Vec::new() });
        let late = quota.admit(up, second(15));
        assert_eq!(late.summaries.len(), 1, "{late:?}");
        assert_eq!(quota.end(), []);
    }

    #[test]
    fn a_clock_that_is_set_back_closes_a_window() {
        let mut quota = Quota::default();
        (0..=LINES_MAX).for_each(|number| drop(quota.admit(down(number), second(50))));
        assert_eq!(quota.close_expired(second(49)).len(), 1);
    }
}
