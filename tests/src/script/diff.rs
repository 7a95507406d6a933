//! The difference of two texts, for people.

/// Number of lines before and after a difference.
const CONTEXT: usize = 3;

/// The lines between the common start and end of both texts: `-` for expected lines, `+` for actual ones. `None` if they are
/// equal.
pub fn diff(expected: &str, actual: &str) -> Option<String> {
    if expected == actual {
        return None;
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), actual.lines().collect());
    let same_start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - same_start;
    let same_end = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let (old_end, new_end) = (old.len() - same_end, new.len() - same_end);
    let before = old[same_start.saturating_sub(CONTEXT)..same_start].iter().map(|line| format!("  {line}"));
    let gone = old[same_start..old_end].iter().map(|line| format!("- {line}"));
    let come = new[same_start..new_end].iter().map(|line| format!("+ {line}"));
    let after = old[old_end..].iter().take(CONTEXT).map(|line| format!("  {line}"));
    let lines: Vec<String> = before.chain(gone).chain(come).chain(after).collect();
    Some(format!("at line {}:\n{}", same_start + 1, lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::diff;

    #[test]
    fn only_what_differs_is_shown() {
        assert_eq!(diff("a\nb\n", "a\nb\n"), None);
        let expected = "at line 5:\n  2\n  3\n  4\n- 5\n+ five\n+ more\n  6\n  7\n  8";
        assert_eq!(
            diff("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nfive\nmore\n6\n7\n8\n9\n").as_deref(),
            Some(expected)
        );
    }

    #[test]
    fn a_text_may_be_the_others_beginning() {
        assert_eq!(diff("1\n1\n", "1\n1\n1\n").as_deref(), Some("at line 3:\n  1\n  1\n+ 1"));
    }
}
