//! `swarmctl service edit`.

use std::io::Write;
use std::path::Path;
use std::process::Command as Process;

use clap_complete::ArgValueCandidates;
use events::ServiceSpec;

use crate::apply::{self, Wanted, document};
use crate::completion;
use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::session::Session;
use crate::wait::WaitFlags;
use crate::yaml;

/// Change a service in an editor
///
/// If the file is not edited, nothing changes. If the result is refused, the file is kept.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Service: a name, an id or a unique prefix of an id
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(completion::services))]
    service: String,

    /// Command line of the editor; the file is its last argument (default $VISUAL, $EDITOR or vi)
    #[arg(long, value_name = "COMMAND")]
    editor: Option<String>,

    #[command(flatten)]
    wait: WaitFlags,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let present = session.service(&args.service).await?;
    let before = yaml::to_text(&document::of_service(&present.spec)?);
    let file = tempfile::Builder::new().prefix("swarmctl-").suffix(".yaml").tempfile();
    let mut file = file.map_err(|error| other(format!("cannot make a file to edit: {error}")))?;
    file.write_all(before.as_bytes()).map_err(|error| other(format!("cannot write the file to edit: {error}")))?;
    edit(&editor(args), file.path())?;
    let after =
        std::fs::read_to_string(file.path()).map_err(|error| other(format!("cannot read the edited file: {error}")))?;
    if after == before {
        return session.note("no changes");
    }
    let result = change(args, &present, &after, session).await;
    let Err(failure) = result else { return Ok(()) };
    match failure.kind {
        // The change was made: only the wait failed.
        Kind::UpdateFailed | Kind::TimedOut | Kind::Interrupted => Err(failure),
        _ => match file.keep() {
            Ok((_, path)) => Err(Failure {
                hint: format!("{}; the edited file is kept as {}", failure.hint, path.display()),
                ..failure
            }),
            Err(_) => Err(failure),
        },
    }
}

async fn change<M: Manager>(
    args: &Args,
    present: &wire::v1::ServiceView,
    text: &str,
    session: &mut Session<'_, M>,
) -> Result<(), Failure> {
    let mut wanted = Wanted::default();
    document::read("the edited file", text, &mut wanted)?;
    let Wanted { services, configs, .. } = wanted;
    let [spec]: [ServiceSpec; 1] = services.try_into().map_err(|_| wrong("the edited file has to have one service"))?;
    if !configs.is_empty() || spec.name() != present.spec.name() {
        return Err(wrong(&format!("the edited file has to be about service {}", present.spec.name())));
    }
    let plan = apply::plan_change(present, spec, session).await?;
    apply::run(plan, None, &args.wait, session).await
}

fn editor(args: &Args) -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let given = args.editor.clone().or_else(|| variable("VISUAL")).or_else(|| variable("EDITOR"));
    given.unwrap_or_else(|| "vi".to_owned())
}

/// Runs the editor with the shell, until it exits.
fn edit(editor: &str, path: &Path) -> Result<(), Failure> {
    let ended = Process::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(path).status();
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(other(format!("the editor \"{editor}\" failed: {status}; nothing was changed"))),
        Err(error) => Err(other(format!("cannot start the editor \"{editor}\": {error}"))),
    }
}

fn other(sentence: String) -> Failure {
    Failure::new(Kind::Other, sentence).hint("name another editor with --editor, or use `swarmctl service update`")
}

fn wrong(sentence: &str) -> Failure {
    Failure::new(Kind::Usage, sentence).hint("`swarmctl apply` takes several objects, and makes new ones")
}
