//! Questions of a page to a manager, and the answers.

use events::Timestamp;
use wire::v1::PointView;

use crate::manager::LogParts;
use crate::values::point::Point;

/// An object that a line is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its kind.
    pub noun: Noun,
    /// Its id.
    pub id: String,
    /// Its display name.
    pub name: String,
}

/// The kinds of objects that can be selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noun {
    /// A service.
    Service,
    /// A node.
    Node,
    /// A task; its name is its slot.
    Task,
    /// An entry of history; its id is the index and the ordinal.
    Entry,
}

impl Noun {
    /// The word for it in command lines.
    pub fn word(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Node => "node",
            Self::Task => "task",
            Self::Entry => "entry",
        }
    }
}

/// The subject of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// All services.
    Services,
    /// All nodes.
    Nodes,
    /// Tasks: all, or those of a service or a node.
    Tasks {
        /// The service or the node.
        of: Option<Object>,
        /// Whether finished ones are shown as well.
        finished: bool,
    },
    /// History: its last entries, all or those about an object.
    Events {
        /// The object's reference and display name.
        about: Option<(String, String)>,
    },
    /// The output of `swarmctl` for a command line.
    Output(Output),
    /// One entry of history, with its causes and consequences.
    Entry(Object),
    /// The logs of a service or a task.
    Logs(Object),
}

/// A command line, and how its output is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Title.
    pub title: String,
    /// Its words, without the program's name.
    pub words: Vec<String>,
    /// Where `--at` is inserted, if the command supports it.
    pub at_position: Option<usize>,
    /// Whether it is run again while it is visible.
    pub live: bool,
}

impl Output {
    /// The output of a command of two words about an object, which supports `--at`.
    pub fn about(command: [&str; 2], name: &str, id: String, live: bool) -> Self {
        let [first, second] = command.map(str::to_owned);
        Self { title: format!("{first} {second} {name}"), words: vec![first, second, id], at_position: Some(2), live }
    }
}

impl Subject {
    /// Whether its lines can be selected.
    pub fn has_rows(&self) -> bool {
        match self {
            Self::Services | Self::Nodes | Self::Tasks { .. } | Self::Events { .. } => true,
            Self::Output(_) | Self::Entry(_) | Self::Logs(_) => false,
        }
    }

    /// Whether it is read again while it is visible.
    pub fn is_live(&self) -> bool {
        match self {
            Self::Output(output) => output.live,
            Self::Services | Self::Nodes | Self::Tasks { .. } | Self::Events { .. } => true,
            // History does not change, and a log is a stream.
            Self::Entry(_) | Self::Logs(_) => false,
        }
    }

    /// The title of the page.
    pub fn title(&self) -> String {
        match self {
            Self::Services => "services".to_owned(),
            Self::Nodes => "nodes".to_owned(),
            Self::Tasks { of, finished } => {
                let of = of.as_ref().map_or_else(String::new, |of| format!(" of {} {}", of.noun.word(), of.name));
                format!("tasks{of}{}", if *finished { ", finished ones too" } else { "" })
            }
            Self::Events { about } => {
                format!("events{}", about.as_ref().map_or_else(String::new, |(_, name)| format!(" about {name}")))
            }
            Self::Output(output) => output.title.clone(),
            Self::Entry(of) => format!("entry {}", of.name),
            Self::Logs(of) => format!("logs of {} {}", of.noun.word(), of.name),
        }
    }
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// The contents of a page.
    Page {
        /// The number of the page.
        page: u64,
        /// Its subject.
        subject: Subject,
        /// The width of its lines.
        columns: usize,
        /// The selected index; `None` for the present.
        at: Option<u64>,
        /// For logs, the time from which lines are wanted.
        since: Option<Timestamp>,
        /// Of a list that is too long to be shown whole, the text that its lines have; empty: all.
        containing: String,
    },
    /// Find a point of history.
    Find(Point),
}

/// The answer to a question.
pub enum Answer {
    /// The contents of a page.
    Page(Shown),
    /// A log stream.
    Logs(LogParts),
    /// The point.
    Found(PointView),
}

/// The contents of a page at some point.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// The end of history.
    pub head: PointView,
    /// The point that is shown; `None` for the present.
    pub point: Option<PointView>,
    /// The names of columns.
    pub heading: String,
    /// The lines.
    pub lines: Vec<Line>,
    /// How many lines there are, where not all of them are here.
    pub total: Option<u64>,
    /// The text that they were chosen by; empty: all were.
    pub containing: String,
}

/// One line of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// The text.
    pub text: String,
    /// The full text, if it is longer than the line.
    pub whole: Option<String>,
    /// The object that it is about, if it can be selected.
    pub object: Option<Object>,
    /// The health of the object.
    pub health: Health,
}

impl Line {
    /// A line of a text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// Whether it contains this lower-case text, ignoring case.
    pub fn has(&self, text: &str) -> bool {
        text.is_empty() || self.whole.as_ref().unwrap_or(&self.text).to_lowercase().contains(text)
    }
}

/// The health of an object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Health {
    /// Nothing to report.
    #[default]
    Good,
    /// Not yet in its desired state.
    Waiting,
    /// Something failed.
    Bad,
}

impl Health {
    /// The character that shows it without colours.
    pub fn mark(self) -> char {
        match self {
            Self::Good => ' ',
            Self::Waiting => '~',
            Self::Bad => '!',
        }
    }
}
