//! `key=value` pairs: labels and options of drivers; and single keys, for removals.

use super::Invalid;

const HINT: &str = "write KEY=VALUE, such as zone=east";

/// Reads `key=value`; a key alone has an empty value.
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

/// Reads a single key.
///
/// # Errors
/// When it is empty, or has a value: an entry is removed by its key only.
pub fn key(text: &str) -> Result<String, Invalid> {
    const KEY_HINT: &str = "write the key without a value";
    match text.split_once('=') {
        Some((key, _)) => Err(Invalid::new(format!("\"{text}\" has a value after the key \"{key}\""), KEY_HINT)),
        None if text.trim().is_empty() => Err(Invalid::new("the key is empty", KEY_HINT)),
        None => Ok(text.trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_no_value() {
        assert_eq!(key(" zone "), Ok("zone".to_owned()));
        for text in ["zone=east", "zone=", "=", "", " "] {
            assert!(key(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_equals_sign_divides() {
        for (text, key, value) in [("a=b", "a", "b"), ("a=b=c", "a", "b=c"), ("a=", "a", ""), ("a", "a", "")] {
            assert_eq!(parse(text), Ok((key.to_owned(), value.to_owned())));
        }
        assert!(parse("=b").is_err());
        assert!(parse("").is_err());
    }
}
