//! Splits a command line into words, as a shell does. Nothing is expanded.

/// Splits a line at whitespace outside quotes; `None` if a quote is not closed or a backslash is at the end.
pub fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(characters.next()?),
            '\'' => loop {
                match characters.next()? {
                    '\'' => break word.get_or_insert_default().push_str(""),
                    inside => word.get_or_insert_default().push(inside),
                }
            },
            '"' => loop {
                match characters.next()? {
                    '"' => break word.get_or_insert_default().push_str(""),
                    '\\' => word.get_or_insert_default().push_str(&escaped(characters.next()?)),
                    inside => word.get_or_insert_default().push(inside),
                }
            },
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Some(words)
}

/// Within double quotes, a backslash is literal unless it precedes a special character.
fn escaped(character: char) -> String {
    match character {
        '"' | '\\' | '$' | '`' => character.to_string(),
        other => format!("\\{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_a_shell_splits_them() {
        for (line, words) in [
            ("", &[][..]),
            ("  nginx  -g x ", &["nginx", "-g", "x"]),
            (r#"sh -c 'a "b" c'"#, &["sh", "-c", r#"a "b" c"#]),
            (r#"nginx -g "daemon off;""#, &["nginx", "-g", "daemon off;"]),
            (r#"a\ b "c\"d" "e\nf" ''"#, &["a b", "c\"d", "e\\nf", ""]),
            ("a'b'\"c\"", &["abc"]),
        ] {
            assert_eq!(split(line), Some(words.iter().map(|word| (*word).to_owned()).collect()), "{line}");
        }
        for line in ["'a", "\"a", "a\\"] {
            assert_eq!(split(line), None, "{line}");
        }
    }
}
