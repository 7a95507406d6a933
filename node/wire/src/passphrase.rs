//! Reads the passphrase of a backup: a line in a file, or on standard input.

use std::io::{self, ErrorKind, Read};

use events::SecretText;

/// Maximum bytes of a passphrase, with its line end: anything longer is a file that was named by mistake.
const BYTES_MAX: usize = 4_096;

/// Reads a passphrase without the end of its line.
///
/// # Errors
/// When it cannot be read, is not UTF-8, or is longer than 4,096 bytes: with a truncated passphrase the backup could not be
/// opened with the complete one.
pub fn read_passphrase(source: impl Read) -> io::Result<SecretText> {
    // Allocated in full, because reallocating would leave a copy of a part in memory.
    let mut text = SecretText(String::with_capacity(BYTES_MAX + 1));
    source.take(BYTES_MAX as u64 + 1).read_to_string(&mut text.0)?;
    if text.0.len() > BYTES_MAX {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is longer than 4,096 bytes"));
    }
    let length = text.0.trim_end_matches(['\r', '\n']).len();
    text.0.truncate(length);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_read_whole_or_not_at_all() {
        let read =
            |text: &str| read_passphrase(text.as_bytes()).map(|read| read.0.clone()).map_err(|error| error.kind());
        assert_eq!(read("correct horse battery\r\n"), Ok("correct horse battery".to_owned()));
        assert_eq!(read(""), Ok(String::new()));
        let longest = "a".repeat(BYTES_MAX - 1);
        assert_eq!(read(&format!("{longest}\n")), Ok(longest.clone()));
        for long in [format!("{longest}aa"), format!("{longest}a\n")] {
            assert_eq!(read(&long), Err(ErrorKind::InvalidData));
        }
        assert!(read_passphrase([0xff_u8].as_slice()).is_err());
    }
}
