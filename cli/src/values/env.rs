//! Environment variables: `KEY=VALUE`, or `KEY` alone to unset what the image sets.

use events::SecretText;

use super::Invalid;

/// Checks a variable and returns it as a type that is never printed.
///
/// # Errors
/// When the name is empty or contains a NUL byte.
pub fn parse(text: &str) -> Result<SecretText, Invalid> {
    let name = text.split_once('=').map_or(text, |(name, _)| name);
    if name.is_empty() || text.contains('\0') {
        // The value may be a secret: the error does not contain it.
        let sentence = "an environment variable has no name, or a NUL byte in it";
        return Err(Invalid::new(sentence, "write KEY=VALUE, or KEY alone to unset what the image sets"));
    }
    Ok(SecretText(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_needed() {
        for text in ["A=b", "A=", "A", "A=b=c"] {
            assert_eq!(parse(text), Ok(SecretText(text.to_owned())));
        }
        let refused = parse("=hidden").expect_err("no name");
        assert!(!refused.sentence.contains("hidden"), "{refused}");
        assert!(parse("").is_err());
    }
}
