//! Secret environment variables: `NAME=FILE` takes the value from a file, `NAME` alone from the environment of swarmctl, so that
//! a value never appears on a command line.

use std::path::{Path, PathBuf};

use events::SecretText;

use super::Invalid;

/// The source of a secret variable's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvSecret {
    /// The variable's name.
    pub name: String,
    /// The file with the value; `None` for the variable of the same name in the environment of this program.
    pub file: Option<PathBuf>,
}

/// Whether it is a valid name of a secret variable; the manager has the same rule.
fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// Reads the source of a value, but not yet the value.
///
/// # Errors
/// When the name or the file's name is empty.
pub fn parse(text: &str) -> Result<EnvSecret, Invalid> {
    let (name, file) = text.split_once('=').map_or((text, None), |(name, file)| (name, Some(file)));
    if !name.is_empty() && !is_variable_name(name) {
        // The text may be a secret: a user may have written `$NAME` instead of `NAME`, or `NAME = VALUE`.
        let sentence = "the name of a secret variable has a character that is not allowed, or a digit first";
        return Err(Invalid::new(
            sentence,
            "use letters, digits, \"_\", \".\" and \"-\", such as DB_PASSWORD=/run/password",
        ));
    }
    if name.is_empty() || file == Some("") {
        let sentence = format!("\"{text}\" does not say where a secret variable is found");
        return Err(Invalid::new(
            sentence,
            "write NAME=FILE, or NAME alone to take it from the environment of swarmctl",
        ));
    }
    Ok(EnvSecret { name: name.to_owned(), file: file.map(PathBuf::from) })
}

impl EnvSecret {
    /// The value. One trailing newline of a file is removed, since most editors add one.
    ///
    /// # Errors
    /// When the variable or file does not exist, or is not text.
    pub fn value(&self) -> Result<SecretText, Invalid> {
        match &self.file {
            Some(path) => read(path),
            None => std::env::var(&self.name).map(SecretText).map_err(|_| {
                let sentence = format!("the environment has no variable {}, or it is not text", self.name);
                Invalid::new(sentence, "set it for this command, or give its value in a file with NAME=FILE")
            }),
        }
    }
}

/// Maximum size of the file, in bytes. The cluster's limit is lower; a larger file is the wrong one.
const FILE_BYTES_MAX: u64 = 1 << 20;

fn read(path: &Path) -> Result<SecretText, Invalid> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path);
    match file.and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)) {
        Ok(bytes) if bytes as u64 > FILE_BYTES_MAX => {
            let sentence = format!("{} is too long for the value of a variable", path.display());
            Err(Invalid::new(sentence, "a value has at most 65536 bytes"))
        }
        Ok(_) => {
            let value = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text)).unwrap_or(&text);
            Ok(SecretText(value.to_owned()))
        }
        Err(error) => {
            let sentence = format!("cannot read {}: {error}", path.display());
            Err(Invalid::new(sentence, "name a text file that you may read"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_a_name_and_a_place() {
        let secret = |name: &str, file: Option<&str>| EnvSecret { name: name.into(), file: file.map(PathBuf::from) };
        assert_eq!(parse("A=/run/a"), Ok(secret("A", Some("/run/a"))));
        assert_eq!(parse("A"), Ok(secret("A", None)));
        for text in ["", "=", "=x", "A=", "A B=/x", "A*", "*", "1A", "A\n", "a/b=x", "A$"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_value_is_read_without_its_last_newline() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secret");
        let value = |text: &[u8]| {
            std::fs::write(&path, text).expect("written");
            EnvSecret { name: "A".into(), file: Some(path.clone()) }.value().map(|secret| secret.0.clone())
        };
        for (text, expected) in [("s", "s"), ("s\n", "s"), ("s\r\n", "s"), ("s\n\n", "s\n"), ("", "")] {
            assert_eq!(value(text.as_bytes()).as_deref(), Ok(expected), "{text:?}");
        }
        assert!(value(b"hidden\xff").is_err_and(|refused| !refused.sentence.contains("hidden")));
        assert!(value(&vec![b's'; (1 << 20) + 1]).is_err_and(|refused| refused.sentence.contains("too long")));
        let absent = EnvSecret { name: "A".into(), file: Some(dir.path().join("absent")) };
        assert!(absent.value().is_err_and(|refused| refused.sentence.contains("absent")));
        let unset = EnvSecret { name: "SWARMLOG_NEVER_SET".into(), file: None };
        assert!(unset.value().is_err_and(|refused| refused.sentence.contains("SWARMLOG_NEVER_SET")));
    }
}
