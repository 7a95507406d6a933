//! Secret environment variables: `NAME=FILE` takes the value from a file, `NAME` alone from the environment of swarmctl, so
//! that a value never stands on a command line.

use std::path::{Path, PathBuf};

use events::SecretText;

use super::Invalid;

/// Where the value of a secret variable is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvSecret {
    /// The variable's name.
    pub name: String,
    /// The file with the value; `None`: the variable of the same name in the environment of this program.
    pub file: Option<PathBuf>,
}

/// Whether it can be the name of a secret variable; the manager asks for the same.
fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// Reads where a value is found, and not yet the value.
///
/// # Errors
/// When the name or the file's name is empty.
pub fn parse(text: &str) -> Result<EnvSecret, Invalid> {
    let (name, file) = text.split_once('=').map_or((text, None), |(name, file)| (name, Some(file)));
    if !name.is_empty() && !is_variable_name(name) {
        // Shells write a variable that is not exported as such, or a whole `NAME = VALUE`: the text may be a secret.
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
    /// The value. One newline at the end of a file is not part of it, since most editors add one.
    ///
    /// # Errors
    /// When there is no such variable or file, or it is not text.
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

/// Longest file that is read, in bytes: a mebibyte tells that it is the wrong file, and the cluster's limit is lower.
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
