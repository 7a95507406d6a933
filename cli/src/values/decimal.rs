//! Decimal fractions without floating point, so that `0.1` is exact.

/// Parses `digits[.digits]` as an integer multiple of 10^-`places`, at least one place; `None` if it is malformed, finer than
/// that, or too large.
pub fn parse(text: &str, places: usize) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > places {
        return None;
    }
    format!("{whole}{fraction:0<places$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn fractions_are_exact() {
        let table = [
            ("0", 3, Some(0)),
            ("1", 3, Some(1_000)),
            ("0.1", 9, Some(100_000_000)),
            (".5", 1, Some(5)),
            ("2.", 1, Some(20)),
            ("1.500", 1, Some(15)),
            ("1.25", 1, None),
            ("", 1, None),
            (".", 1, None),
            ("-1", 1, None),
            ("+1", 1, None),
            ("1e3", 1, None),
            ("1.2.3", 3, None),
            ("999999999999999999999999999999999999999999", 1, None),
        ];
        for (text, places, expected) in table {
            assert_eq!(parse(text, places), expected, "{text}");
        }
    }
}
