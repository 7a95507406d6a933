//! Documentation pages whose sessions are executed: the output on a page is the actual output.
//!
//! Blocks of `console` contain commands, which start with `$`, and their output. Comments that start with `<!-- world` contain
//! directives to the world, one per line, and are not visible on the rendered page. Everything else is left unchanged.

use anyhow::ensure;

use super::{Player, Transcript};

/// The delimiters of executed blocks.
const CONSOLE: (&str, &str) = ("```console", "```");
const WORLD: (&str, &str) = ("<!-- world", "-->");

/// The part of a page that a line belongs to.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Text,
    World,
    Console,
}

/// Executes a page and returns it with the actual output.
///
/// # Errors
/// When a block is not closed, or its script is malformed.
pub fn run(page: &str) -> anyhow::Result<String> {
    let (mut player, mut part) = (Player::default(), Part::Text);
    let (mut text, mut block) = (String::new(), Transcript::default());
    for (number, line) in page.lines().enumerate() {
        let next = next(part, line);
        if part == Part::Console && next == Part::Text {
            text.push_str(&std::mem::take(&mut block).text);
        }
        let is_inside = next == part && part != Part::Text;
        match part {
            Part::Console if is_inside => {
                if line.starts_with('$') {
                    block.add(line, player.line(line, number)?.as_deref());
                }
            }
            Part::World if is_inside => {
                let said = player.line(&format!("!{line}"), number)?.unwrap_or_default();
                ensure!(said.is_empty(), "line {}: {line}: {said}", number + 1);
                push(&mut text, line);
            }
            Part::Text | Part::World | Part::Console => push(&mut text, line),
        }
        part = next;
    }
    ensure!(part == Part::Text, "a block is not closed");
    player.world()?.borrow_mut().finish()?;
    Ok(text)
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// The part that a line starts, ends or continues.
fn next(part: Part, line: &str) -> Part {
    match part {
        Part::Text if line == CONSOLE.0 => Part::Console,
        Part::Text if line == WORLD.0 => Part::World,
        Part::Console if line == CONSOLE.1 => Part::Text,
        Part::World if line == WORLD.1 => Part::Text,
        same => same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# A question\n\nText with $ 5.\n\n<!-- world\nnodes 1\n-->\n```console\n$ swarmctl service create --name web \
                        --image sim/ok\nwhat it said once\n```\n\nMore.\n\n<!-- world\nsettle\n-->\n```console\n$ swarmctl service ls \
                        -q\n```\n";

    #[test]
    fn a_page_shows_what_its_commands_say_and_keeps_the_rest() {
        let once = run(PAGE).expect("the page runs");
        assert!(once.contains("--image sim/ok\n<web>\n```\n\nMore.") && once.contains("Text with $ 5."), "{once}");
        assert!(!once.contains("what it said once"), "{once}");
        assert_eq!(run(&once).expect("it runs again"), once);
    }

    #[test]
    fn a_block_that_is_not_closed_and_a_directive_that_is_none_are_refused() {
        for page in ["```console\n$ swarmctl\n", "<!-- world\nnodes 1\nfly\n-->\n"] {
            assert!(run(page).is_err(), "{page}");
        }
    }
}
