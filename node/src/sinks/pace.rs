//! When a delivery is retried, and when progress is recorded: pure functions without a clock.

use std::time::Duration;

/// Delay before the first retry.
const FIRST: Duration = Duration::from_secs(1);
/// Maximum delay between two retries.
const LONGEST: Duration = Duration::from_secs(300);
/// Minimum interval between two records of progress: each is a frame of the log.
pub const NOTED_EVERY: Duration = Duration::from_secs(5);
/// Number of frames without selected events after which the progress of a sink is recorded anyway: the next leader reads at most
/// this many again. Each record is a frame, so that with a lower number an idle cluster would keep recording its own records.
const UNWANTED_MAX: u64 = 1_000;
/// Interval between two checks for new events, so that a burst of frames becomes one request.
pub const LOOK: Duration = Duration::from_millis(200);

/// The delay before the next attempt after this many failures in a row. Half of it depends on `chance`, so that sinks that failed
/// together are not retried together.
pub fn pause(failures: u32, chance: u16) -> Duration {
    let whole = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    whole / 2 + whole / 2 * u32::from(chance) / u32::from(u16::MAX)
}

/// Whether a sink has read far enough since its progress was recorded, without delivering anything, to record it again.
pub fn is_far_from(noted: u64, seen: u64) -> bool {
    seen.saturating_sub(noted) >= UNWANTED_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sink_does_not_want_moves_it_a_thousand_frames_at_a_time() {
        for (noted, seen, far) in [(0, 0, false), (35, 1_034, false), (35, 1_035, true), (9, 5, false)] {
            assert_eq!(is_far_from(noted, seen), far, "{noted} {seen}");
        }
    }

    #[test]
    fn pauses_double_up_to_five_minutes_and_half_of_each_is_chance() {
        let most = u16::MAX;
        let table =
            [(0, 0, 500), (1, most, 1_000), (1, 0, 500), (2, most, 2_000), (4, most / 3, 5_333), (9, most, 256_000)];
        for (failures, chance, ms) in table {
            assert_eq!(pause(failures, chance).as_millis(), ms, "{failures} {chance}");
        }
        for failures in [10, 17, 18, u32::MAX] {
            assert_eq!(pause(failures, most), LONGEST, "{failures}");
        }
    }
}
