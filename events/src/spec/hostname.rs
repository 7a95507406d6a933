//! Host names inside containers.

/// The valid form, for hints.
pub const CONTAINER_HOSTNAME_HINT: &str =
    "use letters, digits, - . and _, begin and end with a letter or digit, at most 63 characters";

/// Maximum length: the kernel allows one character more, the engine's tools do not.
const LENGTH_MAX: usize = 63;

/// Whether a container can have this host name.
pub fn is_container_hostname(text: &str) -> bool {
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.len() <= LENGTH_MAX
        && ends.iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_word() {
        for text in ["h", "web-1", "db.example.org", "my_host", &"a".repeat(63)] {
            assert!(is_container_hostname(text), "{text}");
        }
        for text in ["", "bad host name!", "a b", "-a", "a-", ".a", "a/b", "a\n", "wéb", "{{.Node}}", &"a".repeat(64)]
        {
            assert!(!is_container_hostname(text), "{text}");
        }
    }
}
