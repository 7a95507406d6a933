//! Plan files: human-readable text, followed by the changes, encoded so that they are not edited by accident.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;

use crate::v1::Plan;

const BEGIN: &str = "-----BEGIN SWARMLOG PLAN-----";
const END: &str = "-----END SWARMLOG PLAN-----";
/// Characters per line, as in PEM files.
const LINE_MAX: usize = 64;

/// The text of a plan file, with `about` before the plan.
pub fn write(about: &str, plan: &Plan) -> String {
    let encoded = STANDARD.encode(plan.encode_to_vec());
    let mut text: String = about.lines().map(|line| format!("# {line}").trim_end().to_owned() + "\n").collect();
    text.push_str(BEGIN);
    text.push('\n');
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE_MAX));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str(END);
    text.push('\n');
    text
}

/// Whether a text contains a plan, damaged or not.
pub fn is_plan(text: &str) -> bool {
    text.lines().any(|line| line.trim_end() == BEGIN)
}

/// Parses the plan in a text.
///
/// # Errors
/// What is wrong with it.
pub fn read(text: &str) -> Result<Plan, &'static str> {
    let lines = text.lines().map(str::trim_end);
    let encoded: String =
        lines.clone().skip_while(|line| *line != BEGIN).skip(1).take_while(|line| *line != END).collect();
    if !lines.clone().any(|line| line == END) {
        return Err("its end is missing");
    }
    let bytes = STANDARD.decode(encoded).map_err(|_| "it is damaged")?;
    Plan::decode(&*bytes).map_err(|_| "it is damaged, or of another version")
}

#[cfg(test)]
mod tests {
    use events::{ClusterId, Id, Timestamp};

    use super::*;
    use crate::v1::PreviewStep;

    fn plan() -> Plan {
        let steps = vec![PreviewStep { at_rest: true, step: None }; 40];
        Plan { cluster: ClusterId::from_bits(7), index: 3, log_time: Timestamp::from_unix_ns(9), steps }
    }

    #[test]
    fn what_is_written_is_read_and_people_can_read_what_it_is_about() {
        let text = write("~ service web\n\n2 tasks", &plan());
        assert!(text.starts_with("# ~ service web\n#\n# 2 tasks\n-----BEGIN"), "{text}");
        assert!(is_plan(&text) && text.lines().all(|line| line.len() <= LINE_MAX), "{text}");
        assert_eq!(read(&text), Ok(plan()));
        assert_eq!(read(&text.replace('\n', "\r\n")), Ok(plan()));
    }

    #[test]
    fn a_damaged_plan_is_no_plan() {
        let text = write("", &plan());
        assert_eq!(read(text.trim_end().trim_end_matches('-')), Err("its end is missing"));
        assert_eq!(
            read(&text.replacen("AAA", "A!A", 1).replacen("EAE", "E!E", 1).replacen("CCA", "C!A", 1)),
            Err("it is damaged")
        );
        assert!(!is_plan("service: {}"));
    }
}
