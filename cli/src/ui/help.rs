//! The keys and commands, as `?` shows them.

/// The lines; they fit the smallest screen.
pub const LINES: [&str; 21] = [
    "Keys                                      Commands, after :",
    "  j k, up down     choose, or scroll        services  nodes  tasks",
    "  g G, home end    to the beginning, end    events [OBJECT]",
    "  space, ctrl-b    a page down, up          at INDEX|TIME|TAG    now",
    "  enter            the tasks of a service   whatif lose NODE...",
    "                   or node; an entry        whatif drain NODE...",
    "  d                describe                 whatif scale SERVICE=NUMBER",
    "  e                explain                  whatif survive",
    "  l                logs, as they come       explain service|task NAME",
    "  v                events about it          blame service|node NAME",
    "  a                finished tasks too       history diff A B, history tags",
    "  /                only lines with a text   service|node|task inspect NAME",
    "  esc              back                     quit",
    "",
    "Time                                      Signs before a line",
    "  left right       a frame back, forward    >  chosen",
    "  pgup pgdn        a part of history        ~  not yet as it should be",
    "                   (a page of a text)       !  something failed",
    "  t                to an index or a time",
    "  n                now                    What is asked with whatif, explain and",
    "  q, ctrl-c        end                    inspect is asked of the time shown.",
];
