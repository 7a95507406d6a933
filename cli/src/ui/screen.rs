//! The terminal that the page is drawn on.

use std::io::{self, Write};

use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};

use super::model::{Size, Ui};
use super::view;

/// Draws the differences from the last drawn screen.
pub struct Screen<'a> {
    terminal: Terminal<CrosstermBackend<&'a mut dyn Write>>,
    size: Size,
    coloured: bool,
}

impl<'a> Screen<'a> {
    /// An empty screen.
    ///
    /// # Errors
    /// When the terminal cannot be written to.
    pub fn new(out: &'a mut dyn Write, size: Size, coloured: bool) -> io::Result<Self> {
        let options = TerminalOptions { viewport: Viewport::Fixed(area(size)) };
        let terminal = Terminal::with_options(CrosstermBackend::new(out), options)?;
        Ok(Self { terminal, size, coloured })
    }

    /// Draws the page.
    ///
    /// # Errors
    /// When the terminal cannot be written to.
    pub fn draw(&mut self, ui: &Ui) -> io::Result<()> {
        if self.size != ui.size {
            self.size = ui.size;
            self.terminal.resize(area(ui.size))?;
        }
        let coloured = self.coloured;
        self.terminal.draw(|frame| {
            if let Some(cursor) = view::draw(ui, coloured, frame.buffer_mut()) {
                frame.set_cursor_position(cursor);
            }
        })?;
        Ok(())
    }
}

fn area(size: Size) -> Rect {
    Rect::new(0, 0, size.columns, size.rows)
}
