//! CPU quantities: `0.5` is half a core. Stored as billionths of a core.

use super::{Invalid, decimal};

const HINT: &str = "write a number of cores with at most nine decimals, such as 0.5 or 2";

/// Reads a number of cores as billionths.
///
/// # Errors
/// When the text is not a decimal number, is finer than a billionth or too large.
pub fn parse(text: &str) -> Result<u64, Invalid> {
    let nano_cpus = decimal::parse(text, 9).and_then(|nano| i64::try_from(nano).ok());
    nano_cpus.map(i64::unsigned_abs).ok_or_else(|| Invalid::new(format!("\"{text}\" is not a number of cores"), HINT))
}

/// Writes billionths of a core as a decimal number.
pub fn show(nano_cpus: u64) -> String {
    let text = format!("{}.{:09}", nano_cpus / 1_000_000_000, nano_cpus % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_both_ways() {
        for (text, nano) in [("0.5", 500_000_000), ("2", 2_000_000_000), ("0.000000001", 1), ("1.25", 1_250_000_000)] {
            assert_eq!(parse(text), Ok(nano));
            assert_eq!(show(nano), text);
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "half", "-1", "1.0000000001", "1,5", "1e9", "99999999999999"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
