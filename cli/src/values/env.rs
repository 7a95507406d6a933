//! Environment variables: `KEY=VALUE`, or `KEY` alone to unset what the image sets.

use super::Invalid;

/// Checks one variable and gives it back unchanged.
///
/// # Errors
/// When the name is empty or holds a NUL byte.
pub fn parse(text: &str) -> Result<String, Invalid> {
    let name = text.split_once('=').map_or(text, |(name, _)| name);
    if name.is_empty() || text.contains('\0') {
        let sentence = format!("environment variable \"{text}\" has no name");
        return Err(Invalid::new(sentence, "write KEY=VALUE, or KEY alone to unset what the image sets"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_needed() {
        for text in ["A=b", "A=", "A", "A=b=c"] {
            assert_eq!(parse(text), Ok(text.to_owned()));
        }
        assert!(parse("=b").is_err());
        assert!(parse("").is_err());
    }
}
