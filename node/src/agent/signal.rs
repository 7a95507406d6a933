//! Signals by the names used in specs and on the command line.

use rustix::process::Signal;

/// The supported signals.
const NAMES: [(&str, Signal); 20] = [
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("ILL", Signal::ILL),
    ("TRAP", Signal::TRAP),
    ("ABRT", Signal::ABORT),
    ("BUS", Signal::BUS),
    ("FPE", Signal::FPE),
    ("KILL", Signal::KILL),
    ("USR1", Signal::USR1),
    ("SEGV", Signal::SEGV),
    ("USR2", Signal::USR2),
    ("PIPE", Signal::PIPE),
    ("ALRM", Signal::ALARM),
    ("TERM", Signal::TERM),
    ("CONT", Signal::CONT),
    ("WINCH", Signal::WINCH),
    ("IO", Signal::IO),
    ("PWR", Signal::POWER),
    ("SYS", Signal::SYS),
];

/// The signal with a name (`SIGTERM`, `term`) or number; TERM for an empty text.
///
/// # Errors
/// A message for anything else.
pub(super) fn parse(text: &str) -> Result<Signal, String> {
    if text.is_empty() {
        return Ok(Signal::TERM);
    }
    named(text).ok_or_else(|| format!("unknown stop signal \"{text}\""))
}

/// The signal with a name or number.
pub(super) fn named(text: &str) -> Option<Signal> {
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let known = NAMES.iter().find(|(known, signal)| *known == name || signal.as_raw().to_string() == name);
    known.map(|(_, signal)| *signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_go_by_name_or_number() {
        for (text, wanted) in [("", 15), ("SIGINT", 2), ("usr1", 10), ("9", 9), ("SigTerm", 15)] {
            assert_eq!(parse(text).map(Signal::as_raw), Ok(wanted), "{text}");
        }
        assert_eq!(parse("SIGNONE"), Err("unknown stop signal \"SIGNONE\"".into()));
    }
}
