//! Checkpoints in the text form of C2SP's tlog-checkpoint: the origin of the history, its number of frames, and the root of the
//! tree over them. [`crate::note`] handles the signatures that follow the text.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use events::ClusterId;

use crate::tree::Hash;

/// The prefix of the cluster's id in the first line.
const ORIGIN: &str = "swarmlog/";

/// Identifies a history up to a number of frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The cluster.
    pub cluster: ClusterId,
    /// The number of frames.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The first line: the origin of the history.
    pub fn origin(cluster: ClusterId) -> String {
        format!("{ORIGIN}{cluster}")
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", Self::origin(self.cluster), self.size, BASE64_STANDARD.encode(self.root))
    }
}

impl FromStr for Checkpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        let mut line = |what: &str| lines.next().ok_or_else(|| format!("the checkpoint has no {what}"));
        let (origin, size, root) = (line("first line")?, line("number of frames")?, line("root")?);
        let cluster = origin.strip_prefix(ORIGIN).and_then(|id| id.parse().ok());
        let cluster = cluster.ok_or_else(|| format!("\"{origin}\" names no cluster: {ORIGIN}ID is expected"))?;
        // A number has only one valid representation.
        let number = size.parse().ok().filter(|number: &u64| number.to_string() == size);
        let size = number.ok_or_else(|| format!("\"{size}\" is not a number of frames"))?;
        let decoded = BASE64_STANDARD.decode(root).ok().and_then(|bytes| bytes.try_into().ok());
        let root = decoded.ok_or_else(|| format!("\"{root}\" is not a root: 32 bytes in base64 are expected"))?;
        Ok(Self { cluster, size, root })
    }
}

#[cfg(test)]
mod tests {
    use events::Id;

    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_it_is_written_also_with_signatures() {
        let checkpoint = Checkpoint { cluster: ClusterId::from_bits(7), size: 12, root: [255; 32] };
        let text = checkpoint.to_string();
        assert_eq!(text, "swarmlog/0000000000000000000000007\n12\n//////////////////////////////////////////8=\n");
        assert_eq!(text.parse().as_ref(), Ok(&checkpoint));
        assert_eq!(format!("{text}\n— somebody AAAA\n").parse().as_ref(), Ok(&checkpoint));
    }

    #[test]
    fn what_is_no_checkpoint_is_refused_and_why() {
        let root = BASE64_STANDARD.encode([1; 32]);
        let origin = format!("{ORIGIN}0000000000000000000000007");
        for (text, why) in [
            (String::new(), "no first line"),
            (format!("{origin}\n"), "no number of frames"),
            (format!("{origin}\n1\n"), "no root"),
            (format!("example.com/log\n1\n{root}\n"), "names no cluster"),
            (format!("{origin}\n01\n{root}\n"), "is not a number of frames"),
            (format!("{origin}\n-1\n{root}\n"), "is not a number of frames"),
            (format!("{origin}\n1\nAAAA\n"), "is not a root"),
        ] {
            let refused = text.parse::<Checkpoint>().expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
    }
}
