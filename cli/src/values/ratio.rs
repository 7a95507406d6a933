//! Fractions: `0.25` is a quarter. Stored as millionths.

use super::{Invalid, decimal};

const WHOLE_PPM: u32 = 1_000_000;

/// Reads a fraction between 0 and 1 as millionths.
///
/// # Errors
/// When the text is not such a number or is finer than a millionth.
pub fn parse(text: &str) -> Result<u32, Invalid> {
    let ppm = decimal::parse(text, 6).and_then(|ppm| u32::try_from(ppm).ok()).filter(|ppm| *ppm <= WHOLE_PPM);
    ppm.ok_or_else(|| {
        Invalid::new(
            format!("\"{text}\" is not a share between 0 and 1"),
            "write a decimal number, such as 0.25 for a quarter",
        )
    })
}

/// Writes millionths as a decimal number.
pub fn show(ppm: u32) -> String {
    let text = format!("{}.{:06}", ppm / WHOLE_PPM, ppm % WHOLE_PPM);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_both_ways() {
        for (text, ppm) in [("0", 0), ("0.25", 250_000), ("0.000001", 1), ("1", 1_000_000)] {
            assert_eq!(parse(text), Ok(ppm));
            assert_eq!(show(ppm), text);
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "1.1", "-0.1", "25%", "0.0000001"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
