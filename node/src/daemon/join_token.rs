//! The join token of a start: on the command line, in the environment, or in a file that no other user of the machine can read.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::daemon::config::RunArgs;
use crate::daemon::failure::{Failure, code};
use crate::security::JoinToken;

/// Maximum bytes of the file: a token has 85.
const FILE_BYTES_MAX: u64 = 4 * 1024;
/// Mode bits that let users other than the owner read a file.
const READABLE_BY_OTHERS: u32 = 0o044;

/// The join token, if one was given. The refusal of a malformed one does not repeat it.
///
/// # Errors
/// When its file cannot be read, or it is not a token.
pub fn given(args: &RunArgs) -> Result<Option<JoinToken>, Failure> {
    let text = match (&args.join_token_file, &args.join_token) {
        (Some(path), _) => Some(read(path)?),
        // An empty environment variable counts as unset.
        (None, token) => token.as_ref().map(|token| Zeroizing::new(token.0.clone())).filter(|text| !text.is_empty()),
    };
    let parsed = text.map(|text| JoinToken::from_str(&text)).transpose();
    parsed.map_err(|error| {
        let hint = error.hint();
        Failure::new(error, hint).with_code(code::USAGE)
    })
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let cannot = |error: std::io::Error| {
        let hint = "name a file that holds nothing but the token, and that the user of swarmd may read";
        Failure::new(format!("the join token file {} cannot be read: {error}", path.display()), hint)
            .with_code(code::USAGE)
    };
    let file = File::open(path).map_err(cannot)?;
    if file.metadata().map_err(cannot)?.mode() & READABLE_BY_OTHERS != 0 {
        let hint = format!(
            "chmod 600 {}; and, as it was readable, rotate the token (`swarmctl cluster update`)",
            path.display()
        );
        let sentence = format!("other users can read the join token file {}", path.display());
        return Err(Failure::new(sentence, hint).with_code(code::USAGE));
    }
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(cannot)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use clap::Parser;

    use super::*;
    use crate::daemon::config::Cli;

    const TOKEN: &str = "SWMTKN-1-27jkzaar00e71yufvx4k2aifktf2q6kksopr5d6vg5ynpiz1ki-025burfp0j7epb0hqfcuw340g";

    fn of(flags: &[&str]) -> Result<Option<JoinToken>, Failure> {
        let line = ["swarmd", "--join-addr", "10.0.0.1:4242"].into_iter().chain(flags.iter().copied());
        given(&Cli::try_parse_from(line).expect("a command line").run)
    }

    #[test]
    fn a_token_comes_from_its_file_or_from_the_command_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("token");
        let file = path.to_str().expect("text");
        std::fs::write(&path, format!("{TOKEN}\n")).expect("written");
        let readable = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
        for mode in [0o644, 0o640, 0o604] {
            readable(mode);
            let refused = of(&["--join-token-file", file]).expect_err("others can read it");
            assert!(refused.sentence.contains("other users can read") && refused.code == code::USAGE, "{refused}");
        }
        readable(0o600);
        for flags in [["--join-token-file", file], ["--join-token", TOKEN]] {
            assert_eq!(of(&flags).expect("a token").map(|token| token.to_string()).as_deref(), Some(TOKEN));
        }
        std::fs::write(&path, "hunter2").expect("written");
        let refused = of(&["--join-token-file", file]).expect_err("no token");
        assert_eq!(refused.code, code::USAGE);
        assert!(!refused.to_string().contains("hunter2"), "{refused}");
        std::fs::remove_file(&path).expect("removed");
        let refused = of(&["--join-token-file", file]).expect_err("no file");
        assert!(refused.sentence.contains(file) && refused.code == code::USAGE, "{refused}");
    }

    #[test]
    fn an_address_needs_a_token_and_a_token_is_given_once() {
        for flags in [
            &["--join-addr", "10.0.0.1:4242"][..],
            &["--join-addr", "10.0.0.1:4242", "--join-token", TOKEN, "--join-token-file", "/run/token"],
        ] {
            let line = ["swarmd"].into_iter().chain(flags.iter().copied());
            assert!(Cli::try_parse_from(line).is_err(), "{flags:?}");
        }
    }
}
