//! `key=value` pairs: labels and options of drivers.

use super::Invalid;

const HINT: &str = "write KEY=VALUE, such as zone=east";

/// Reads `key=value`; a key alone has the empty value.
///
/// # Errors
/// When the key is empty.
pub fn parse(text: &str) -> Result<(String, String), Invalid> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.trim().is_empty() {
        return Err(Invalid::new(format!("\"{text}\" has no key"), HINT));
    }
    Ok((key.trim().to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_equals_sign_divides() {
        for (text, key, value) in [("a=b", "a", "b"), ("a=b=c", "a", "b=c"), ("a=", "a", ""), ("a", "a", "")] {
            assert_eq!(parse(text), Ok((key.to_owned(), value.to_owned())));
        }
        assert!(parse("=b").is_err());
        assert!(parse("").is_err());
    }
}
