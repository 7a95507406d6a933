//! The Compose files of a command.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use events::{ConfigSpec, SecretSpec};

use crate::apply::{Sources, Wanted, WantedConfig, WantedSecret};
use crate::compose::{self, LocalEnv, Problem, Problems};
use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::name;
use crate::yaml::Node;

/// Default file names.
const DEFAULT_FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
/// Maximum size of a file, in bytes: more than any real file has, and small enough for memory.
const BYTES_MAX: u64 = 4 << 20;

/// The files, and how they are read.
#[derive(Debug, Clone, clap::Args)]
pub struct FileFlags {
    /// Compose file, or - for standard input; with several, later files override earlier ones (default compose.yaml in this
    /// directory)
    #[arg(short = 'c', long = "compose-file", visible_alias = "file", value_name = "FILE")]
    files: Vec<PathBuf>,

    /// File with variables for the Compose files, in lines of NAME=VALUE; the environment overrides it
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// Skip unsupported keys with a warning, instead of refusing the files
    #[arg(long)]
    ignore_unsupported: bool,
}

/// The merged files.
pub struct Files {
    file: Node,
    variables: BTreeMap<String, String>,
    directory: PathBuf,
    ignore_unsupported: bool,
}

impl FileFlags {
    /// Reads the files and interpolates their variables.
    ///
    /// # Errors
    /// When a file cannot be read, or is not YAML.
    pub fn read(&self) -> Result<Files, Failure> {
        let mut variables = BTreeMap::new();
        for path in &self.env_file {
            let shown = path.display().to_string();
            let known = |name: &str| std::env::var(name).ok();
            let parsed = compose::parse_variables(&shown, &text(path)?, false, &known);
            variables.extend(parsed.map_err(|why| Failure::new(Kind::Usage, why).hint("write lines of NAME=VALUE"))?);
        }
        let paths = self.paths()?;
        let directory = paths.first().and_then(|path| path.parent()).unwrap_or(Path::new(""));
        let directory = std::path::absolute(if directory.as_os_str().is_empty() { Path::new(".") } else { directory })
            .map_err(|error| Failure::new(Kind::Other, format!("cannot tell the present directory: {error}")))?;
        let mut merged: Option<Node> = None;
        for path in &paths {
            let shown = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
            let variable = |name: &str| std::env::var(name).ok().or_else(|| variables.get(name).cloned());
            let local = LocalEnv { read: &read, variable: &variable, directory: &directory };
            let file = compose::read(&shown, &text(path)?, &local).map_err(|fault| malformed(&fault.to_string()))?;
            merged = match (merged, file) {
                (Some(earlier), Some(later)) => Some(compose::merge(earlier, later)),
                (earlier, later) => earlier.or(later),
            };
        }
        let file = merged.ok_or_else(|| malformed("the Compose file is empty"))?;
        Ok(Files { file, variables, directory, ignore_unsupported: self.ignore_unsupported })
    }

    fn paths(&self) -> Result<Vec<PathBuf>, Failure> {
        if !self.files.is_empty() {
            return Ok(self.files.clone());
        }
        let found = DEFAULT_FILES.iter().map(PathBuf::from).find(|path| path.is_file());
        found.map(|path| vec![path]).ok_or_else(|| {
            let sentence = format!("there is no Compose file in this directory: none of {}", DEFAULT_FILES.join(", "));
            Failure::new(Kind::Usage, sentence).hint("name one with --compose-file, or - for standard input")
        })
    }
}

impl Files {
    /// The tree of the merged files.
    pub fn tree(&self) -> &Node {
        &self.file
    }

    /// The name of the stack: the given one, or that of the files.
    ///
    /// # Errors
    /// When there is no name, or it is invalid.
    pub fn stack_name(&self, given: Option<&str>) -> Result<String, Failure> {
        let Some(name) = given.or_else(|| compose::name(&self.file)) else {
            let failure = Failure::new(Kind::Usage, "the stack has no name");
            return Err(failure.hint("give one behind the command, or write name: in the Compose file"));
        };
        name::parse(name).map_err(|invalid| Failure::new(Kind::Usage, invalid.sentence).hint(invalid.hint))
    }

    /// The desired objects of a stack.
    ///
    /// # Errors
    /// When a file is malformed, or has unsupported keys that are not to be skipped.
    pub fn wanted<M: Manager>(&self, stack: &str, session: &mut Session<'_, M>) -> Result<Wanted, Failure> {
        let variable = |name: &str| std::env::var(name).ok().or_else(|| self.variables.get(name).cloned());
        let local = LocalEnv { read: &read, variable: &variable, directory: &self.directory };
        let mut problems = Problems::new();
        let described = compose::stack(stack, &self.file, &local, &mut problems);
        self.report(problems, session)?;
        let config = |mut of: compose::StackFile| WantedConfig {
            spec: ConfigSpec { annotations: Some(of.annotations), template_driver: of.template_driver },
            data: std::mem::take(&mut of.data.0),
        };
        let secret = |of: compose::StackFile| WantedSecret {
            spec: SecretSpec { annotations: Some(of.annotations), template_driver: of.template_driver },
            data: of.data,
        };
        Ok(Wanted {
            services: described.services,
            configs: described.configs.into_iter().map(config).collect(),
            secrets: described.secrets.into_iter().map(secret).collect(),
            unscaled: described.unscaled.into_iter().collect(),
            stack: Some(stack.to_owned()),
            prune: false,
            // Errors in a Compose file are reported where it is read.
            sources: Sources::default(),
        })
    }

    fn report<M: Manager>(&self, mut problems: Problems, session: &mut Session<'_, M>) -> Result<(), Failure> {
        problems.sort_by(|a, b| a.fault().cmp(b.fault()));
        problems.dedup();
        let wrong = problems.iter().any(|problem| matches!(problem, Problem::Wrong(_)));
        if !wrong && self.ignore_unsupported {
            return problems.iter().try_for_each(|problem| session.note(&format!("left out: {}", problem.fault())));
        }
        let hint = if wrong {
            "correct the file; nothing was changed"
        } else {
            "correct the file, or leave out what is not supported with --ignore-unsupported; nothing was changed"
        };
        match problems.as_slice() {
            [] => Ok(()),
            [one] => Err(Failure::new(Kind::Usage, one.fault().to_string()).hint(hint)),
            several => {
                several.iter().try_for_each(|problem| session.note(&problem.fault().to_string()))?;
                let sentence = format!("the Compose file has {} problems", several.len());
                Err(Failure::new(Kind::Usage, sentence).hint(hint))
            }
        }
    }
}

fn malformed(sentence: &str) -> Failure {
    Failure::new(Kind::Usage, sentence).hint("correct the Compose file; nothing was changed")
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    std::fs::File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut data)?;
    if data.len() as u64 > BYTES_MAX {
        return Err(std::io::Error::other("it has more than 4 MiB"));
    }
    Ok(data)
}

/// Reads a file, or standard input.
///
/// # Errors
/// When it cannot be read, is too large or not UTF-8 text.
pub fn text(path: &Path) -> Result<String, Failure> {
    let (shown, data) = if path == Path::new("-") {
        let mut data = Vec::new();
        let read = std::io::stdin().take(BYTES_MAX).read_to_end(&mut data);
        ("standard input".to_owned(), read.map(|_| data))
    } else {
        (path.display().to_string(), read(path))
    };
    let text = data.and_then(|data| String::from_utf8(data).map_err(|_| std::io::Error::other("it is not UTF-8 text")));
    text.map_err(|error| {
        let failure = Failure::new(Kind::Usage, format!("cannot read {shown}: {error}"));
        failure.hint("name a file that you may read, or - for standard input")
    })
}
