//! Redacts values in events that leave the cluster: in exports, and for sinks.

use serde_json::{Value, json};

/// The replacement of a redacted value.
const REDACTED: &str = "<redacted>";

/// The kinds of values to redact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Redaction {
    /// Values of environment variables; their names are kept.
    pub env: bool,
    /// Values of labels; their keys are kept.
    pub labels: bool,
}

impl Redaction {
    /// All combinations.
    pub const ALL: [Self; 4] = [
        Self { env: false, labels: false },
        Self { env: true, labels: false },
        Self { env: false, labels: true },
        Self { env: true, labels: true },
    ];

    /// Whether nothing is redacted.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }

    /// The redacted kinds, by the names used in flags and events.
    pub fn names(self) -> Vec<&'static str> {
        [(self.env, "env"), (self.labels, "labels")].into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect()
    }

    /// Redacts an event, and lists the redacted kinds in it.
    pub fn leave_out(self, event: &mut Value) {
        if !self.is_nothing() {
            self.apply(event);
            event["redacted"] = json!(self.names());
        }
    }

    /// Redacts a JSON value recursively.
    fn apply(self, value: &mut Value) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(|value| self.apply(value)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    match (name.as_str(), &mut *value) {
                        ("env", Value::Array(variables)) if self.env => variables.iter_mut().for_each(hide_variable),
                        ("labels", Value::Object(labels)) if self.labels => {
                            labels.iter_mut().for_each(|(_, label)| *label = json!(REDACTED));
                        }
                        (_, value) => self.apply(value),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// `NAME=VALUE` without the value.
fn hide_variable(variable: &mut Value) {
    if let Some((name, _)) = variable.as_str().and_then(|text| text.split_once('=')) {
        *variable = json!(format!("{name}={REDACTED}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_left_out_wherever_they_are_and_nothing_else_is() {
        let document = json!({
            "spec": { "env": ["A=b=c", "INHERITED"], "labels": { "team": "blue" }, "image": "x" },
            "before": [{ "env": ["A=old"] }, { "env": "text" }],
        });
        for (redaction, expected) in [
            (Redaction::default(), document.clone()),
            (
                Redaction { env: true, labels: false },
                json!({
                    "spec": { "env": ["A=<redacted>", "INHERITED"], "labels": { "team": "blue" }, "image": "x" },
                    "before": [{ "env": ["A=<redacted>"] }, { "env": "text" }],
                }),
            ),
            (
                Redaction { env: false, labels: true },
                json!({
                    "spec": { "env": ["A=b=c", "INHERITED"], "labels": { "team": "<redacted>" }, "image": "x" },
                    "before": [{ "env": ["A=old"] }, { "env": "text" }],
                }),
            ),
        ] {
            let mut redacted = document.clone();
            redaction.leave_out(&mut redacted);
            let said = redacted.as_object_mut().and_then(|event| event.remove("redacted"));
            assert_eq!((redacted, said.is_none()), (expected.clone(), expected == document));
            assert_eq!(said, (!redaction.is_nothing()).then(|| json!(redaction.names())));
        }
    }
}
