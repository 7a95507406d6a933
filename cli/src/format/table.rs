//! Columns as Docker's tools print them: Go's tabwriter with a minimum width of 10 and padding of 3.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::escape;

const WIDTH_MIN: usize = 10;
const GAP: usize = 3;
/// Minimum width of the last column: Docker's own width for errors.
const LAST_MIN: usize = 30;

/// A column of ids is cut to this before any other column except the last: twelve characters, as Docker's short ids, and the
/// ellipsis. Commands accept any unique prefix of an id.
const ID_MIN: usize = 13;

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

    /// Adds a row, with as many cells as the heading.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(self.rows.first().map(Vec::len), Some(N), "a row has a cell for each column");
        // A line break inside a cell, as in an engine's error, would break the table.
        self.rows.push(cells.map(|cell| escape::line(&cell).into_owned()).into());
    }

    /// The same without its first column, which holds the ids.
    pub fn without_ids(mut self) -> Self {
        self.rows.iter_mut().for_each(|row| drop(row.drain(..1)));
        self
    }

    /// Renders the table. If the terminal has `width` columns, cells are cut so that no line is longer.
    pub fn render(&self, width: Option<usize>) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let mut widths: Vec<usize> = (0..columns).map(|column| self.width(column)).collect();
        if let Some(width) = width {
            let has_ids =
                self.rows.first().and_then(|heading| heading.first()).is_some_and(|name| name.ends_with("ID"));
            let first_min = if has_ids { ID_MIN } else { usize::MAX };
            fit(&mut widths, first_min, width.saturating_sub(GAP * columns.saturating_sub(1)));
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (position, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let cell = cut(cell, *width);
                line.push_str(&cell);
                if position + 1 < columns {
                    line.push_str(&" ".repeat(width + GAP - cell.width()));
                }
            }
            text.push_str(&width.map_or(line.as_str().into(), |width| cut(&line, width)));
            text.push('\n');
        }
        text
    }

    /// The display width of the widest cell.
    fn width(&self, column: usize) -> usize {
        let least =
            if self.rows.first().is_some_and(|heading| column + 1 < heading.len()) { WIDTH_MIN - GAP } else { 0 };
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.width()).fold(least, usize::max)
    }
}

/// Narrows columns until they fit into `room`: first the last column, which has the longest texts, then the first down to
/// `first_min`, then the widest of the others. All columns are cut only if nothing else is left.
fn fit(widths: &mut [usize], first_min: usize, room: usize) {
    let Some(last) = widths.len().checked_sub(1) else { return };
    let steps = [
        (last..=last, LAST_MIN),
        (0..=0, first_min),
        (1..=last.saturating_sub(1), WIDTH_MIN - GAP),
        (last..=last, WIDTH_MIN),
        (0..=last, 1),
    ];
    for (columns, least) in steps {
        while let Some(excess) = widths.iter().sum::<usize>().checked_sub(room).filter(|excess| *excess > 0) {
            let wide = columns.clone().filter(|column| widths.get(*column).is_some_and(|width| *width > least));
            let Some(widest) = wide.max_by_key(|column| widths[*column]) else { break };
            // By one if another column may become the widest.
            widths[widest] -= if columns.start() == columns.end() { excess.min(widths[widest] - least) } else { 1 };
        }
    }
}

/// The text, or its beginning and an ellipsis if it is wider than `columns`.
pub(super) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if text.width() <= columns {
        return Cow::Borrowed(text);
    }
    let (mut shown, mut taken) = (String::new(), 1);
    for c in text.chars() {
        taken += c.width().unwrap_or(0);
        if taken > columns {
            break;
        }
        shown.push(c);
    }
    if columns > 0 {
        shown.push('…');
    }
    Cow::Owned(shown)
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
    fn what_does_not_fit_is_cut_first_in_the_last_column() {
        assert!(sample().render(Some(60)).contains("a first and a second line of words\n"));
        assert!(sample().render(Some(58)).contains("a first and a second line of wo…\n"));
        let narrow = "\
ID        NAME      ERROR
abc       a-long…   a first and a …
é                   \n";
        assert_eq!(sample().render(Some(35)), narrow);
    }

    #[test]
    fn ids_are_cut_before_what_has_no_prefix() {
        let mut table = Table::new(&["ID", "IMAGE", "STATUS"]);
        table.row(["4eowgtb263tn4x90vx17eliew".to_owned(), "nginx:1.11.1-alpine".to_owned(), "restarting".to_owned()]);
        let row = |width| table.render(Some(width)).lines().nth(1).unwrap_or_default().to_owned();
        assert_eq!(
            [row(60), row(50), row(45)],
            [
                "4eowgtb263tn4x90vx17eliew   nginx:1.11.1-alpine   restarting",
                "4eowgtb263tn4x…   nginx:1.11.1-alpine   restarting",
                "4eowgtb263tn…   nginx:1.11.1-al…   restarting",
            ]
        );
    }

    #[test]
    fn no_line_is_ever_longer_than_the_terminal() {
        let mut table = sample();
        table.row(["漢字漢字漢字".to_owned(), "🚀 e\u{301}clair 漢字漢字漢字".to_owned(), "漢".repeat(40)]);
        for width in 0..120 {
            let text = table.render(Some(width));
            let longest = text.lines().map(|line| line.trim_end().width()).max();
            assert!(longest <= Some(width), "{width}:\n{text}");
            assert_eq!(text.lines().count(), 4);
        }
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let mut table = Table::new(&["NAME", "X"]);
        table.row(["漢字漢字".to_owned(), "y".to_owned()]);
        assert_eq!(table.render(None), "NAME       X\n漢字漢字   y\n");
    }
}
