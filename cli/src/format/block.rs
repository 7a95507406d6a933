//! Keys and values in two columns with aligned colons, as the inspect commands print them.

use super::escape;
use super::wrap::wrap;

/// A list of keys and values, nested by indentation.
#[derive(Debug, Clone, Default)]
pub struct Block {
    rows: Vec<Row>,
    depth: usize,
}

#[derive(Debug, Clone)]
struct Row {
    depth: usize,
    key: String,
    value: Value,
}

#[derive(Debug, Clone)]
enum Value {
    /// None: a heading.
    Heading,
    /// Text to be copied: never wrapped.
    Plain(String),
    /// Words, which may be wrapped.
    Prose(String),
}

impl Block {
    /// Adds a key with a value.
    pub fn field(&mut self, key: &str, value: impl ToString) -> &mut Self {
        self.row(key, Value::Plain(escape::line(&value.to_string()).into_owned()))
    }

    /// Adds a key with words, if there are any; they are wrapped if the terminal is too narrow.
    pub fn prose(&mut self, key: &str, words: &str) -> &mut Self {
        if words.is_empty() { self } else { self.row(key, Value::Prose(escape::line(words).into_owned())) }
    }

    fn row(&mut self, key: &str, value: Value) -> &mut Self {
        self.rows.push(Row { depth: self.depth, key: key.to_owned(), value });
        self
    }

    /// Adds a key with a value, if there is one.
    pub fn optional(&mut self, key: &str, value: impl Into<String>) -> &mut Self {
        let value = value.into();
        if value.is_empty() { self } else { self.field(key, value) }
    }

    /// Adds one row for each value; the first has the key.
    pub fn each(&mut self, key: &str, values: impl IntoIterator<Item = String>) -> &mut Self {
        for (position, value) in values.into_iter().enumerate() {
            self.field(if position == 0 { key } else { "" }, value);
        }
        self
    }

    /// Adds a heading with the rows that `fill` adds below it; without rows, no heading.
    pub fn section(&mut self, heading: &str, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.rows.len();
        self.row(heading, Value::Heading);
        self.depth += 1;
        fill(self);
        self.depth -= 1;
        if self.rows.len() == start + 1 {
            self.rows.truncate(start);
        }
        self
    }

    /// The text, for a terminal with this many columns.
    pub fn render(&self, columns: Option<usize>) -> String {
        let fields = self.rows.iter().filter(|row| !matches!(row.value, Value::Heading));
        let width = fields.map(|row| row.depth * 2 + row.key.chars().count()).max().unwrap_or(0);
        let room = columns.map_or(usize::MAX, |columns| columns.saturating_sub(width + " : ".len()));
        let lines = |row: &Row| {
            let key = format!("{:indent$}{}", "", row.key, indent = row.depth * 2);
            let values = match &row.value {
                Value::Heading => return format!("{key}\n"),
                Value::Plain(value) => vec![value.as_str()],
                Value::Prose(words) => wrap(words, room),
            };
            let line = |(position, value): (usize, &&str)| match position {
                0 if !row.key.is_empty() => format!("{key:width$} : {value}\n"),
                _ => format!("{:width$}   {value}\n", ""),
            };
            values.iter().enumerate().map(line).collect()
        };
        self.rows.iter().map(lines).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colons_stand_under_each_other_and_empty_sections_vanish() {
        let mut block = Block::default();
        block.field("ID", "abc").optional("Reason", "").section("Update", |block| {
            block.field("State", "COMPLETED").each("Env", ["A=b".to_owned(), "C=d".to_owned()]);
        });
        block.section("Nothing", |_| ()).section("A long heading", |block| {
            block.field("A", 1);
        });
        let expected = "\
ID      : abc
Update
  State : COMPLETED
  Env   : A=b
          C=d
A long heading
  A     : 1
";
        assert_eq!(block.render(None), expected);
    }

    #[test]
    fn words_are_divided_where_the_terminal_is_narrow_and_what_may_be_copied_is_not() {
        let mut block = Block::default();
        block
            .field("ID", "a long value of many words")
            .prose("Status", "a long value of many words")
            .prose("Error", "");
        let expected = "\
ID     : a long value of many words
Status : a long value of many
         words
";
        assert_eq!(block.render(Some(30)), expected);
    }
}
