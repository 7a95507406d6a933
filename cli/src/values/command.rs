//! Names of commands, as the log has them or as `swarmctl` spells its verbs.

use std::sync::LazyLock;

use events::catalogue::COMMANDS;

use super::Invalid;

static KNOWN: LazyLock<String> = LazyLock::new(|| format!("commands are {}", COMMANDS.join(", ")));

/// Reads the name of a command.
///
/// # Errors
/// When no command has it.
pub fn parse(text: &str) -> Result<String, Invalid> {
    let name = in_log(text);
    if COMMANDS.contains(&name.as_str()) {
        return Ok(name);
    }
    Err(Invalid::new(format!("there is no command \"{text}\""), &KNOWN))
}

/// The name of a command in the log, where `rm` is `remove`.
pub fn in_log(text: &str) -> String {
    match text.strip_suffix(".rm") {
        Some(noun) => format!("{noun}.remove"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_the_name_of_the_log_or_that_of_its_verb() {
        for (text, name) in [
            ("service.update", Some("service.update")),
            ("service.rm", Some("service.remove")),
            ("service.remove", Some("service.remove")),
            ("service.rm.rm", None),
            ("cluster.rm", None),
            ("service", None),
            ("", None),
        ] {
            assert_eq!(parse(text).ok().as_deref(), name, "{text}");
        }
    }
}
