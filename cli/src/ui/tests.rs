//! Keys and answers, and the resulting screen.

use std::time::Duration;

use events::Timestamp;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use wire::v1::{LogBatch, LogLine, LogSource, LogsPart, PointView};

use super::keys::Decoder;
use super::log::Log;
use super::model::{Next, Size, Ui};
use super::question::{Answer, Line, Noun, Object, Question, Shown, Subject};
use super::{draw, rows};
use crate::failure::{Failure, Kind};
use crate::format::escape;
use crate::format::{samples, view::View};

const NOW: Timestamp = samples::NOW;
const SIZE: Size = Size { columns: 80, rows: 24 };

fn at(seconds: u64) -> Timestamp {
    NOW + Duration::from_secs(seconds)
}

fn point(index: u64) -> PointView {
    PointView { index, log_time: NOW }
}

fn ui() -> Ui {
    Ui::new("default".to_owned(), SIZE, None, NOW)
}

fn press(ui: &mut Ui, typed: &str, now: Timestamp) {
    Decoder::default().take(typed.as_bytes()).into_iter().for_each(|key| ui.press(key, now));
}

fn asked(ui: &Ui, now: Timestamp) -> Question {
    match ui.next(now) {
        Next::Ask(question) => question,
        next => panic!("nothing is asked: {next:?}"),
    }
}

/// Answers the pending question with the sample services, at the requested point.
fn answer(ui: &mut Ui, now: Timestamp) {
    let question = asked(ui, now);
    let answer = match &question {
        Question::Page { at, columns, .. } => {
            let view = View { now, ids: false, width: Some(*columns) };
            let (heading, lines) = rows::services(&[samples::service_summary()], view);
            Answer::Page(Shown { head: point(100), point: at.map(point), heading, lines, ..Shown::default() })
        }
        Question::Find(_) => Answer::Found(point(42)),
    };
    ui.answered(&question, Ok(answer), now, now);
}

fn screen(ui: &Ui) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(ui.size.columns, ui.size.rows)).expect("a terminal");
    terminal.draw(|frame| _ = draw(ui, false, frame.buffer_mut())).expect("drawn");
    let shown = terminal.backend().to_string();
    shown.lines().map(|line| line.trim_matches('"').trim_end().to_owned()).collect()
}

#[track_caller]
fn shows(ui: &Ui, text: &str) {
    let screen = screen(ui).join("\n");
    assert!(screen.contains(text), "\"{text}\" is not on\n{screen}");
}

#[test]
fn a_list_is_read_again_as_long_as_it_is_looked_at() {
    let mut ui = ui();
    shows(&ui, "reading...");
    answer(&mut ui, NOW);
    shows(&ui, "services (1)");
    assert_eq!(ui.next(NOW), Next::Wait(Duration::from_secs(1)));
    answer(&mut ui, at(1));
    // A lost manager: the last answer stays visible, and the question is repeated until there is an answer.
    let question = asked(&ui, at(2));
    let lost = || Failure::new(Kind::Unreachable, "no manager listens");
    ui.answered(&question, Err(lost()), at(2), at(2));
    shows(&ui, "NOT CONNECTED");
    shows(&ui, "! waiting for a manager: no manager listens");
    shows(&ui, "services (1)");
    assert_eq!(ui.next(at(2)), Next::Wait(Duration::from_secs(1)));
    answer(&mut ui, at(3));
    assert!(!screen(&ui).join("\n").contains("waiting for a manager"));
    // A refusal of the manager is shown on the page.
    let question = asked(&ui, at(4));
    ui.answered(&question, Err(Failure::new(Kind::NotFound, "the past is gone")), at(4), at(4));
    shows(&ui, "the past is gone");
}

#[test]
fn dragging_asks_one_question_at_a_time_and_ends_where_one_ends_up() {
    let mut ui = ui();
    answer(&mut ui, NOW);
    press(&mut ui, "\x1b[D", NOW);
    let first = asked(&ui, NOW);
    assert!(matches!(first, Question::Page { at: Some(99), .. }));
    press(&mut ui, "\x1b[D\x1b[D\x1b[5~", NOW);
    assert!(ui.awaits(&first), "it is waited for");
    shows(&ui, "index 87 of 100, reading...");
    let passed = Shown { head: point(100), point: Some(point(99)), ..Shown::default() };
    ui.answered(&first, Ok(Answer::Page(passed)), NOW, NOW);
    assert!(matches!(asked(&ui, NOW), Question::Page { at: Some(87), .. }));
    answer(&mut ui, NOW);
    shows(&ui, "index 87 of 100, 2027-01-15 08:00:00Z");
    shows(&ui, "THE PAST");
    assert_eq!(ui.next(at(60)), Next::Nothing, "the past does not change");
    press(&mut ui, "n", at(60));
    answer(&mut ui, at(60));
    shows(&ui, "index 100 of 100, now");
    press(&mut ui, "tyesterday\r", at(60));
    assert!(matches!(asked(&ui, at(60)), Question::Find(_)));
    answer(&mut ui, at(60));
    assert!(matches!(asked(&ui, at(60)), Question::Page { at: Some(42), .. }));
    press(&mut ui, "tx/y\r", at(60));
    shows(&ui, "neither an index, a time nor a tag");
}

#[test]
fn an_answer_that_nobody_waits_for_any_more_is_dropped() {
    let mut ui = ui();
    answer(&mut ui, NOW);
    let old = asked(&ui, at(1));
    press(&mut ui, "\r", at(1));
    assert!(!ui.awaits(&old));
    ui.answered(&old, Ok(Answer::Page(Shown::default())), at(1), at(1));
    assert!(matches!(asked(&ui, at(1)), Question::Page { subject: Subject::Tasks { of: Some(_), .. }, .. }));
    press(&mut ui, "\x1b", at(1));
    shows(&ui, "services (1)");
    // After a resize, the page is read again.
    let old = asked(&ui, at(2));
    ui.resize(Size { columns: 100, rows: 30 }, at(2));
    assert!(!ui.awaits(&old));
    assert!(matches!(asked(&ui, at(2)), Question::Page { columns: 97, .. }));
}

#[test]
fn keys_lead_to_pages_and_back() {
    let mut ui = ui();
    answer(&mut ui, NOW);
    for (typed, title) in [
        ("\r", "tasks of service web"),
        ("d", "service inspect web"),
        ("e", "explain service web"),
        ("l", "logs of service web"),
        ("v", "events about web"),
        (":whatif lose n3\r", "whatif lose n3"),
    ] {
        press(&mut ui, typed, NOW);
        shows(&ui, title);
        press(&mut ui, "\x1b", NOW);
        shows(&ui, "services (1)");
    }
    for (typed, said) in [
        (":service rm web\r", "! \"service rm web\" is no command here; press ? for keys and commands"),
        ("/zzz\r", "nothing matches; esc shows everything"),
        ("\x1b?", "any key closes this"),
        ("x:nodes\r", "nodes (0)"),
        (":ta\t\ra", "tasks, finished ones too (0)"),
    ] {
        press(&mut ui, typed, NOW);
        shows(&ui, said);
    }
    press(&mut ui, ":q\r", NOW);
    assert!(ui.is_over());
}

#[test]
fn a_list_that_is_too_long_to_be_shown_whole_is_searched_by_the_manager() {
    let mut ui = ui();
    press(&mut ui, ":tasks\r", NOW);
    let listed = |ui: &mut Ui, names: &[&str], total: Option<u64>, now| {
        let question = asked(ui, now);
        let Question::Page { containing, .. } = &question else { panic!("a page is asked for") };
        let lines = names.iter().map(|name| Line::text(*name)).collect();
        let shown = Shown { head: point(100), lines, total, containing: containing.clone(), ..Shown::default() };
        ui.answered(&question, Ok(Answer::Page(shown)), now, now);
    };
    let looked_for = |ui: &Ui, now| match asked(ui, now) {
        Question::Page { containing, .. } => containing,
        Question::Find(_) => panic!("a page is asked for"),
    };
    listed(&mut ui, &["api.1", "api.2"], Some(100_000), NOW);
    shows(&ui, "tasks (first 2 of 100000; / searches all)");
    press(&mut ui, "/we", NOW);
    shows(&ui, "/we matches 0");
    assert_eq!(looked_for(&ui, NOW), "we", "at once");
    // What is typed meanwhile is looked for next.
    let early = asked(&ui, NOW);
    press(&mut ui, "b", NOW);
    assert!(ui.awaits(&early));
    let found = Shown { lines: vec![Line::text("went.1")], containing: "we".to_owned(), ..Shown::default() };
    ui.answered(&early, Ok(Answer::Page(found)), NOW, NOW);
    assert_eq!(looked_for(&ui, NOW), "web");
    listed(&mut ui, &["web.1", "elsewhere on web-3"], Some(7), NOW);
    shows(&ui, "tasks  /web matches 2 of 7");
    press(&mut ui, "\r", NOW);
    assert_eq!(looked_for(&ui, at(1)), "web", "as long as it is looked at");
    press(&mut ui, "\x1b", NOW);
    assert_eq!(looked_for(&ui, NOW), "");
    // A list that is here as a whole is searched here.
    listed(&mut ui, &["api.1", "web.1"], None, NOW);
    press(&mut ui, "/web", NOW);
    shows(&ui, "tasks (2)  /web matches 1");
    assert_eq!(ui.next(NOW), Next::Wait(Duration::from_secs(1)));
    assert_eq!(looked_for(&ui, at(1)), "");
}

#[test]
fn the_help_fits_the_smallest_screen() {
    let mut ui = ui();
    press(&mut ui, "?", NOW);
    let screen = screen(&ui);
    for line in super::help::LINES {
        assert!(screen.contains(&line.to_owned()), "{line}");
    }
}

#[test]
fn a_small_terminal_is_told_what_is_needed() {
    let mut ui = ui();
    for size in [(79, 24), (80, 23), (60, 2), (1, 1)] {
        ui.resize(Size { columns: size.0, rows: size.1 }, NOW);
        let screen = screen(&ui).join("\n");
        assert!(size.0 < 60 || screen.contains("At least 80 and 24 are needed"), "{size:?}:\n{screen}");
    }
}

#[test]
fn a_hostile_name_or_line_is_only_text() {
    let hostile = "a\u{1b}[31m\u{7}\u{9b}2J\u{202e}\u{200b}\u{1b}]0;title\u{7}\nz";
    let mut ui = Ui::new(hostile.to_owned(), Size { columns: 200, rows: 24 }, None, NOW);
    let object = Object { noun: Noun::Service, id: hostile.to_owned(), name: hostile.to_owned() };
    let line = Line { object: Some(object), ..Line::text(hostile) };
    let shown = Shown { heading: hostile.to_owned(), lines: vec![line], ..Shown::default() };
    let question = asked(&ui, NOW);
    ui.answered(&question, Ok(Answer::Page(shown.clone())), NOW, NOW);
    let part = LogsPart {
        warnings: vec![hostile.to_owned()],
        sources: vec![LogSource { service_name: hostile.to_owned(), ..LogSource::default() }],
        batches: vec![LogBatch {
            lines: vec![LogLine { data: hostile.into(), ..LogLine::default() }],
            ..LogBatch::default()
        }],
    };
    let harmless = |ui: &Ui| {
        let screen = screen(ui).join("\n");
        assert!(screen.contains("31m") && screen.contains('a'), "{screen}");
        let bad: Vec<char> = screen.chars().filter(|c| *c != '\n' && !escape::is_harmless(*c)).collect();
        assert!(bad.is_empty(), "{bad:?} on\n{screen}");
    };
    harmless(&ui);
    // Typed or pasted, in an error, and in the title and lines of a log.
    press(&mut ui, &format!(":{}", hostile.replace(['\u{1b}', '\u{7}', '\n'], "")), NOW);
    harmless(&ui);
    press(&mut ui, "\r", NOW);
    harmless(&ui);
    press(&mut ui, "l", NOW);
    let Question::Page { page, .. } = asked(&ui, NOW) else { panic!("a page is asked for") };
    ui.open_log(page);
    ui.print(page, Log::new(false).lines(part), Some(NOW));
    harmless(&ui);
    ui.close_log(page, Some(Failure::new(Kind::Stopped, hostile)), NOW);
    harmless(&ui);
}

#[test]
fn a_log_goes_on_after_its_last_line_when_the_manager_is_back() {
    let mut ui = ui();
    answer(&mut ui, NOW);
    press(&mut ui, "l", NOW);
    let Question::Page { page, since: None, .. } = asked(&ui, NOW) else { panic!("a log from its tail on") };
    ui.open_log(page);
    assert_eq!(ui.next(NOW), Next::Nothing);
    ui.print(page, (0..30).map(|number| format!("line {number}")).collect(), Some(at(5)));
    shows(&ui, "line 29");
    ui.close_log(page, Some(Failure::stopped()), at(6));
    shows(&ui, "waiting for a manager");
    let Question::Page { since, .. } = asked(&ui, at(7)) else { panic!("a page is asked for") };
    assert_eq!(since, Some(at(5) + Duration::from_nanos(1)));
    ui.open_log(page);
    ui.print(page, vec!["line 30".to_owned()], Some(at(8)));
    shows(&ui, "line 30");
    shows(&ui, "line 29");
    // For a point of the past, the log up to then.
    press(&mut ui, "\x1b[D", at(9));
    assert!(matches!(asked(&ui, at(9)), Question::Page { at: Some(99), since: None, .. }));
    ui.open_log(page);
    ui.close_log(page, None, at(9));
    assert_eq!(ui.next(at(100)), Next::Nothing);
    shows(&ui, "nothing printed yet");
}
