//! Which commands are allowed when the manager's disk is nearly full: those that lead to less data, and none that add any.

use projections::Cluster;

use crate::{Command, Rejection, RejectionKind};

/// Free bytes below which an operator is warned, whatever the size of the disk.
pub const WARN_BELOW_BYTES: u64 = 512 * MIB;
/// Share of the disk below which an operator is warned, in percent.
pub const WARN_BELOW_PERCENT: u64 = 5;
/// Free bytes below which nothing is added. The log needs some 50 MiB for its journals and a compaction, without which
/// nothing could be removed either.
pub const REFUSE_BELOW_BYTES: u64 = 64 * MIB;

const MIB: u64 = 1024 * 1024;

/// A reading of the disk that the log is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Bytes of the whole disk.
    pub total_bytes: u64,
}

/// The assessment of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// There is enough.
    Ample,
    /// An operator should make room.
    Low,
    /// Nothing may be added.
    Full,
}

impl Space {
    /// The assessment of this reading.
    pub fn level(self) -> Level {
        let percent = u128::from(self.free_bytes) * 100;
        if self.free_bytes < REFUSE_BELOW_BYTES {
            Level::Full
        } else if self.free_bytes < WARN_BELOW_BYTES
            || percent < u128::from(self.total_bytes) * u128::from(WARN_BELOW_PERCENT)
        {
            Level::Low
        } else {
            Level::Ample
        }
    }

    /// Rejects a command for which this manager's disk has no room.
    ///
    /// # Errors
    /// Exhausted, if the disk is full and the command adds data.
    pub fn admit(self, manager: &str, state: &Cluster, command: &Command) -> Result<(), Rejection> {
        match self.level() {
            Level::Full if command.verb().adds(state) => {
                let (free, least) = (self.free_bytes / MIB, REFUSE_BELOW_BYTES / MIB);
                let sentence = format!(
                    "the disk of manager {manager} has {free} MiB free, and below {least} MiB nothing can be added"
                );
                let hint = "make room on the disk of that manager's state directory, or remove services";
                Err(Rejection::new(RejectionKind::Exhausted, "disk", sentence, hint))
            }
            Level::Ample | Level::Low | Level::Full => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use events::NodeSpec;

    use super::*;
    use crate::testing::{Fixture, replicated, web, worker};

    const GIB: u64 = 1024 * MIB;

    #[test]
    fn a_disk_is_ample_low_or_full() {
        let cases = [
            (100 * GIB, 1_000 * GIB, Level::Ample),
            (50 * GIB, 1_000 * GIB, Level::Ample),
            (50 * GIB - 1, 1_000 * GIB, Level::Low),
            (512 * MIB, GIB, Level::Ample),
            (512 * MIB - 1, GIB, Level::Low),
            (64 * MIB, GIB, Level::Low),
            (64 * MIB - 1, GIB, Level::Full),
            (0, 0, Level::Full),
            (u64::MAX, u64::MAX, Level::Ample),
        ];
        for (free_bytes, total_bytes, level) in cases {
            assert_eq!(Space { free_bytes, total_bytes }.level(), level, "{free_bytes} of {total_bytes}");
        }
    }

    #[test]
    fn commands_that_free_space_are_accepted_when_the_disk_is_full() {
        let mut fixture = Fixture::with_worker();
        let service = fixture.service(&replicated("web", 3));
        let scale = |replicas| Command::ScaleService(crate::ScaleService { service, replicas });
        let create = Command::CreateService(crate::CreateService {
            spec: Box::new(web()),
            secrets: crate::ServiceSecrets::default(),
        });
        let drain = Command::UpdateNode(crate::UpdateNode { node: worker(), spec: NodeSpec::default(), version: None });
        let cases = [
            (create, false),
            (scale(4), false),
            (scale(3), true),
            (scale(0), true),
            (drain, true),
            (Command::RemoveService(crate::RemoveService { service }), true),
        ];
        let full = Space { free_bytes: 63 * MIB, total_bytes: GIB };
        for (command, admitted) in cases {
            let judged = full.admit("m1", &fixture.state, &command);
            assert_eq!(judged.is_ok(), admitted, "{}", command.name());
            if let Err(refused) = judged {
                assert_eq!(refused.kind, RejectionKind::Exhausted);
                assert_eq!(
                    refused.sentence,
                    "the disk of manager m1 has 63 MiB free, and below 64 MiB nothing can be added"
                );
            }
            let low = Space { free_bytes: 64 * MIB, total_bytes: GIB };
            assert_eq!(low.admit("m1", &fixture.state, &command), Ok(()), "{}", command.name());
        }
    }
}
