//! Keys and values under each other, with the colons in one column, as the inspect commands print them.

use super::escape;

/// A list of keys and values, nested by indentation.
#[derive(Debug, Clone, Default)]
pub struct Block {
    rows: Vec<(usize, String, Option<String>)>,
    depth: usize,
}

impl Block {
    /// Adds a key with a value.
    pub fn field(&mut self, key: &str, value: impl ToString) -> &mut Self {
        self.rows.push((self.depth, key.to_owned(), Some(escape::line(&value.to_string()).into_owned())));
        self
    }

    /// Adds a key with a value, if there is a value to show.
    pub fn optional(&mut self, key: &str, value: impl Into<String>) -> &mut Self {
        let value = value.into();
        if value.is_empty() { self } else { self.field(key, value) }
    }

    /// Adds one row for each value, the key before the first.
    pub fn each(&mut self, key: &str, values: impl IntoIterator<Item = String>) -> &mut Self {
        for (position, value) in values.into_iter().enumerate() {
            self.field(if position == 0 { key } else { "" }, value);
        }
        self
    }

    /// Adds a heading with what `fill` puts under it; nothing if it puts nothing there.
    pub fn section(&mut self, heading: &str, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.rows.len();
        self.rows.push((self.depth, heading.to_owned(), None));
        self.depth += 1;
        fill(self);
        self.depth -= 1;
        if self.rows.len() == start + 1 {
            self.rows.truncate(start);
        }
        self
    }

    /// The text.
    pub fn render(&self) -> String {
        let fields = self.rows.iter().filter(|(_, _, value)| value.is_some());
        let width = fields.map(|(depth, key, _)| depth * 2 + key.chars().count()).max().unwrap_or(0);
        let line = |(depth, key, value): &(usize, String, Option<String>)| {
            let key = format!("{:indent$}{key}", "", indent = depth * 2);
            match value {
                Some(value) if key.trim().is_empty() => format!("{:width$}   {value}\n", ""),
                Some(value) => format!("{key:width$} : {value}\n"),
                None => format!("{key}\n"),
            }
        };
        self.rows.iter().map(line).collect()
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
        assert_eq!(block.render(), expected);
    }
}
