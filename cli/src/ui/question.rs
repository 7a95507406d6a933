//! What a page asks of a manager, and what it gets.

use events::Timestamp;
use wire::v1::PointView;

use crate::manager::LogParts;
use crate::values::point::Point;

/// An object that a line is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub noun: Noun,
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
}

/// What can be chosen on a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noun {
    /// A service.
    Service,
    /// A node.
    Node,
    /// A task; its name is its place.
    Task,
    /// An entry of history; its id is the index and the ordinal.
    Entry,
}

impl Noun {
    /// Its word in command lines.
    pub fn word(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Node => "node",
            Self::Task => "task",
            Self::Entry => "entry",
        }
    }
}

/// What a page shows.
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
        /// The object's reference, and what people call it.
        about: Option<(String, String)>,
    },
    /// What `swarmctl` prints for a command line.
    Output(Output),
    /// One entry of history: why, and what followed.
    Entry(Object),
    /// What a service or a task prints.
    Logs(Object),
}

/// A command line, and how its output is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What stands above it.
    pub title: String,
    /// Its words, without the program's name.
    pub words: Vec<String>,
    /// Where `--at` goes, if the command can look at the past.
    pub at_position: Option<usize>,
    /// Whether it is run again while it is looked at.
    pub live: bool,
}

impl Output {
    /// The output of a command of two words about an object, which can look at the past.
    pub fn about(command: [&str; 2], name: &str, id: String, live: bool) -> Self {
        let [first, second] = command.map(str::to_owned);
        Self { title: format!("{first} {second} {name}"), words: vec![first, second, id], at_position: Some(2), live }
    }
}

impl Subject {
    /// Whether one of its lines can be chosen.
    pub fn has_rows(&self) -> bool {
        match self {
            Self::Services | Self::Nodes | Self::Tasks { .. } | Self::Events { .. } => true,
            Self::Output(_) | Self::Entry(_) | Self::Logs(_) => false,
        }
    }

    /// Whether it is asked for again while it is looked at.
    pub fn is_live(&self) -> bool {
        match self {
            Self::Output(output) => output.live,
            Self::Services | Self::Nodes | Self::Tasks { .. } | Self::Events { .. } => true,
            // What is in history stays as it is, and a stream brings what is new.
            Self::Entry(_) | Self::Logs(_) => false,
        }
    }

    /// What stands above it.
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

/// One thing that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// What a page shows.
    Page {
        /// The number of the page.
        page: u64,
        /// What it shows.
        subject: Subject,
        /// The columns that its lines have.
        columns: usize,
        /// The index that is looked at; absent: the present.
        at: Option<u64>,
        /// Of logs, the time from which on lines are wanted.
        since: Option<Timestamp>,
    },
    /// Where a point of history is.
    Find(Point),
}

/// What came of it.
pub enum Answer {
    /// What a page shows.
    Page(Shown),
    /// Lines to come.
    Logs(LogParts),
    /// Where the point is.
    Found(PointView),
}

/// What a page shows, and of when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// Where history ends.
    pub head: PointView,
    /// The point that it shows; absent: the present.
    pub point: Option<PointView>,
    /// The names of columns.
    pub heading: String,
    /// Line by line.
    pub lines: Vec<Line>,
}

/// One line of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// What it says.
    pub text: String,
    /// All that it says, where that is more than fits.
    pub whole: Option<String>,
    /// What it is about, if that can be chosen.
    pub object: Option<Object>,
    /// How that is.
    pub health: Health,
}

impl Line {
    /// A line of a text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// Whether this text, in small letters, is in it.
    pub fn has(&self, text: &str) -> bool {
        text.is_empty() || self.whole.as_ref().unwrap_or(&self.text).to_lowercase().contains(text)
    }
}

/// How something is, at a glance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Health {
    /// Nothing to say.
    #[default]
    Good,
    /// It is not yet as it should be.
    Waiting,
    /// Something failed.
    Bad,
}

impl Health {
    /// The character that says so without colours.
    pub fn mark(self) -> char {
        match self {
            Self::Good => ' ',
            Self::Waiting => '~',
            Self::Bad => '!',
        }
    }
}
