//! Columns as Docker's tools print them: Go's tabwriter with a least width of 10 and a gap of 3.

use super::escape;

const WIDTH_MIN: usize = 10;
const GAP: usize = 3;
/// A last column is never cut below this: Docker's own width for errors.
const LAST_MIN: usize = 30;

/// Rows under a heading.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column names and no rows.
    pub fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(|&name| name.to_owned()).collect()] }
    }

    /// Adds a row. It has as many cells as the heading.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(self.rows.first().map(Vec::len), Some(N), "a row has a cell for each column");
        // A line break inside a cell, as in an engine's error, would tear the table.
        self.rows.push(cells.map(|cell| escape::line(&cell).into_owned()).into());
    }

    /// The text. Where the terminal has `width` columns, a last column that does not fit is cut.
    pub fn render(&self, width: Option<usize>) -> String {
        let columns = self.rows.first().map_or(0, |heading| heading.len().saturating_sub(1));
        let widths: Vec<usize> = (0..columns).map(|column| self.width(column)).collect();
        let room = width.map(|width| width.saturating_sub(widths.iter().sum()).max(LAST_MIN));
        let mut text = String::new();
        for row in &self.rows {
            for (cell, width) in row.iter().zip(&widths) {
                text.push_str(&format!("{cell:width$}"));
            }
            text.push_str(&cut(row.last().map_or("", String::as_str), room));
            text.push('\n');
        }
        text
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count() + GAP).fold(WIDTH_MIN, usize::max)
    }
}

/// The text, or its beginning and three dots if it is longer than the room for it.
fn cut(text: &str, room: Option<usize>) -> String {
    match room {
        Some(room) if text.chars().count() > room => {
            text.chars().take(room.saturating_sub(3)).chain("...".chars()).collect()
        }
        Some(_) | None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&["ID", "NAME", "ERROR"]);
        table.row(["abc".to_owned(), "a-longer-name".to_owned(), "a first\nand a second line of words".to_owned()]);
        table.row(["é".to_owned(), String::new(), String::new()]);
        table
    }

    #[test]
    fn columns_are_at_least_ten_wide_and_three_apart() {
        let expected = "\
ID        NAME            ERROR
abc       a-longer-name   a first and a second line of words
é                         \n";
        assert_eq!(sample().render(None), expected);
    }

    #[test]
    fn only_a_last_column_without_room_is_cut() {
        assert!(sample().render(Some(60)).contains("a first and a second line of words\n"));
        assert!(sample().render(Some(40)).contains("a first and a second line o...\n"));
    }
}
