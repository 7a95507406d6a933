//! What a plan would change, for people and for programs.

use serde::Serialize;

use super::plan::{Plan, Step};
use crate::failure::Failure;
use crate::format::{Format, changes};
use crate::manager::Manager;
use crate::session::Session;

/// What would become of one object.
#[derive(Serialize)]
struct Change<'a> {
    action: &'static str,
    kind: &'static str,
    name: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<String>,
}

/// Tells each step: `+` what would be created, `~` what would be changed and how, `-` what would be removed, `=` what would stay.
///
/// # Errors
/// When the output cannot be written.
pub fn tell<M: Manager>(plan: &Plan, session: &mut Session<'_, M>) -> Result<(), Failure> {
    for step in plan {
        let change = change(step)?;
        if session.globals.format == Format::Json {
            session.json(&change)?;
            continue;
        }
        let sign = match change.action {
            "create" => "+",
            "update" => "~",
            "remove" => "-",
            _ => "=",
        };
        session.line(&format!("{sign} {} {}", change.kind, change.name))?;
        change.changes.iter().try_for_each(|change| session.line(&format!("    {change}")))?;
    }
    Ok(())
}

fn change(step: &Step) -> Result<Change<'_>, Failure> {
    let json = |spec: &events::ServiceSpec| serde_json::to_value(spec).map_err(std::io::Error::from);
    let (action, kind, changes) = match step {
        Step::CreateConfig(_) => ("create", "config", Vec::new()),
        Step::CreateService(_) => ("create", "service", Vec::new()),
        Step::UpdateService(present, spec) => {
            ("update", "service", changes::between(&json(&present.spec)?, &json(spec)?))
        }
        Step::KeepService(_) => ("keep", "service", Vec::new()),
        Step::KeepConfig(_) => ("keep", "config", Vec::new()),
        Step::RemoveService(_) => ("remove", "service", Vec::new()),
        Step::RemoveConfig(..) => ("remove", "config", Vec::new()),
    };
    Ok(Change { action, kind, name: step.name(), changes })
}
