//! Names of services: letters and digits with `-` and `_` between them, at most 63 characters.

use super::Invalid;

const LENGTH_MAX: usize = 63;
const HINT: &str = "use letters, digits, - and _, begin and end with a letter or digit, at most 63 characters";

/// Checks a name and returns it unchanged.
///
/// # Errors
/// When it is empty, too long or has other characters.
pub fn parse(text: &str) -> Result<String, Invalid> {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    if text.len() > LENGTH_MAX || !ends(bytes.first()) || !ends(bytes.last()) || !text.bytes().all(inside) {
        return Err(Invalid::new(format!("\"{text}\" is not a name for a service"), HINT));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_letters_or_digits() {
        for text in ["web", "a", "Web-1_b", &"a".repeat(63)] {
            assert_eq!(parse(text), Ok(text.to_owned()));
        }
        for text in ["", "-web", "web-", "we b", "web.1", "wéb", &"a".repeat(64)] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
