//! The limit of open files of this process, including connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A limit below this allows fewer than three thousand connections.
pub const FEW: usize = 4_096;
/// What an unlimited process is assumed to have: Linux's default maximum (`fs.nr_open`).
const UNLIMITED: u64 = 1_048_576;

/// Raises the soft limit to the hard limit and returns it. The soft limit is usually 1,024 for programs that call select(2),
/// which this one does not.
pub fn raise() -> usize {
    let before = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: before.maximum, maximum: before.maximum };
    let soft = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => before.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit on open files cannot be raised");
            before.current
        }
    };
    usize::try_from(soft.unwrap_or(UNLIMITED).min(UNLIMITED)).unwrap_or(usize::MAX)
}

/// The current soft limit; `None` if unlimited.
pub fn soft_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Lowers the soft limit, for a program that does not expect a high one.
pub fn lower(soft: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(maximum.map_or(soft, |hard| soft.min(hard)));
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current, maximum }) {
        eprintln!("the limit on open files cannot be set to {soft}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum;
        let raised = raise();
        assert_eq!(soft_limit(), hard);
        lower(64);
        assert_eq!((soft_limit(), getrlimit(Resource::Nofile).maximum), (Some(64), hard));
        assert_eq!(raise() as u64, soft_limit().map_or(UNLIMITED, |soft| soft.min(UNLIMITED)));
        assert!(hard.is_none_or(|hard| raised as u64 == hard.min(UNLIMITED)));
    }
}
