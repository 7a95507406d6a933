//! Sizes in the syntax of Docker's tools: `512M`, `1GiB`, `1.5g`. Every unit is a power of 1024.

use super::{Invalid, decimal};

const HINT: &str = "write a number and a unit (b, k, m, g, t, p), such as 512M or 1.5GiB";
const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
/// Maximum number of decimals; more would be fractions of a byte in every common unit.
const PLACES: usize = 9;

/// Reads a size in bytes.
///
/// # Errors
/// When the text is not a number with a known unit, or exceeds 2^63 bytes.
pub fn parse(text: &str) -> Result<u64, Invalid> {
    let error = |why: &str| Invalid::new(format!("size \"{text}\" {why}"), HINT);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number = decimal::parse(number, PLACES).ok_or_else(|| error("is not a number with a unit"))?;
    let power = power(suffix.strip_prefix(' ').unwrap_or(suffix)).ok_or_else(|| error("has an unknown unit"))?;
    let bytes = number.checked_mul(1 << (10 * power)).map(|scaled| scaled / 10u128.pow(PLACES as u32));
    let bytes = bytes.and_then(|bytes| i64::try_from(bytes).ok());
    bytes.map(i64::unsigned_abs).ok_or_else(|| error("is too large"))
}

/// Reads a size in bytes, or -1 for no limit.
///
/// # Errors
/// When it is malformed.
pub fn parse_or_unlimited(text: &str) -> Result<i64, Invalid> {
    // `parse` returns only values that fit.
    if text == "-1" { Ok(-1) } else { parse(text).map(u64::cast_signed) }
}

/// The power of 1024 of a suffix.
fn power(suffix: &str) -> Option<u32> {
    let lower = suffix.to_ascii_lowercase();
    let (unit, rest) = lower.split_at_checked(1).unwrap_or(("b", ""));
    let position = ["b", "k", "m", "g", "t", "p"].iter().position(|known| *known == unit)?;
    let allowed: &[&str] = if position == 0 { &[""] } else { &["", "b", "ib"] };
    if allowed.contains(&rest) { u32::try_from(position).ok() } else { None }
}

/// Writes a size with four significant digits: `512MiB`, `1.5GiB`.
pub fn show(bytes: u64) -> String {
    let power = (bytes.max(1).ilog2() / 10).min(5);
    let value = bytes as f64 / (1u64 << (10 * power)) as f64;
    let decimals = if value >= 1000.0 { 0 } else { 3 - value.max(1.0).log10() as usize };
    let text = format!("{value:.decimals$}");
    let text = if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[power as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_a_power_of_1024() {
        let table = [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("32k", 32 << 10),
            ("32KB", 32 << 10),
            ("32kib", 32 << 10),
            ("512M", 512 << 20),
            ("1GiB", 1 << 30),
            ("1.5g", 3 << 29),
            ("1 gb", 1 << 30),
            ("2T", 2 << 40),
            ("1p", 1 << 50),
        ];
        for (text, bytes) in table {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "abc", "-1", "32mm", "32 m b", "32bb", "32bib", "1.2.3k", "64e", "99999999p", " 32"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn four_digits_say_enough() {
        let table = [
            (0, "0B"),
            (1_023, "1023B"),
            (1_024, "1KiB"),
            (512 << 20, "512MiB"),
            (3 << 29, "1.5GiB"),
            (1_234_567, "1.177MiB"),
            (1_023 << 20, "1023MiB"),
            (u64::MAX, "16384PiB"),
        ];
        for (bytes, text) in table {
            assert_eq!(show(bytes), text);
        }
    }
}
