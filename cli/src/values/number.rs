//! Whole numbers within bounds.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::Invalid;

const HINT: &str = "write the number in digits, without a unit or a fraction";

/// A parser for whole numbers within these bounds.
pub fn within<T>(bounds: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, Invalid> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| bounds.contains(number));
        number.ok_or_else(|| {
            let (low, high) = (bounds.start(), bounds.end());
            Invalid::new(format!("\"{text}\" is not a whole number from {low} to {high}"), HINT)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_are_inside() {
        let read = within(-1..=3i64);
        for (text, number) in [("-1", -1), ("0", 0), ("3", 3), ("+2", 2)] {
            assert_eq!(read(text), Ok(number));
        }
        for text in ["", "-2", "4", "99999999999999999999999", "1.5", "1k", "many", " 1"] {
            let error = read(text).expect_err(text);
            assert_eq!(error.sentence, format!("\"{text}\" is not a whole number from -1 to 3"));
        }
    }
}
