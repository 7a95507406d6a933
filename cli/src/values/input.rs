//! Reads input of a command: a file, or standard input.

use std::io::Read;
use std::path::Path;

use crate::failure::{Failure, Kind};

/// Reads a file, or standard input if the path is `-`, of at most `bytes_max` bytes. The buffer is allocated at once: a growing
/// one would leave copies of a secret in memory.
///
/// # Errors
/// When it cannot be read, or is longer.
pub fn read(path: &Path, noun: &str, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut data = Vec::with_capacity(bytes_max + 2);
    let limit = bytes_max as u64 + 1;
    let (shown, read) = if path == Path::new("-") {
        ("standard input".to_owned(), std::io::stdin().take(limit).read_to_end(&mut data))
    } else {
        let file = std::fs::File::open(path);
        (path.display().to_string(), file.and_then(|file| file.take(limit).read_to_end(&mut data)))
    };
    match read {
        Ok(bytes) if bytes > bytes_max => {
            let sentence = format!("{shown} is too large for a {noun}");
            Err(Failure::new(Kind::Usage, sentence).hint(format!("a {noun} has at most {} KiB", bytes_max / 1024)))
        }
        Ok(_) => Ok(data),
        Err(error) => {
            let failure = Failure::new(Kind::Usage, format!("cannot read {shown}: {error}"));
            Err(failure.hint("name a file that you may read, or - for standard input"))
        }
    }
}
