//! The protocol between agent, supervisor and command: an order goes in and a response comes out, over a socket that is the
//! standard input of the receiver. A response consists of lines, `warning: ...` or `failure: ...`, and is complete at end of
//! file.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::order::Order;

/// Maximum bytes of an order or response. The kernel limits environments to 2 MiB.
const BYTES_MAX: u64 = 8 << 20;

/// The socket that is this process's standard input. It closes itself when the process executes the command.
pub(super) fn from_stdin() -> io::Result<UnixStream> {
    Ok(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// Sends an order.
pub(super) fn send(to: &mut UnixStream, order: &Order) -> io::Result<()> {
    to.write_all(&serde_json::to_vec(order)?)?;
    to.shutdown(Shutdown::Write)
}

/// Receives an order. An incomplete one is an error.
pub(super) fn receive(from: &mut UnixStream) -> io::Result<Order> {
    let mut bytes = Vec::new();
    from.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Reads the response to its end.
pub(super) fn answer(from: &mut UnixStream) -> io::Result<Result<Vec<String>, String>> {
    let mut text = String::new();
    from.take(BYTES_MAX).read_to_string(&mut text)?;
    Ok(read_answer(&text))
}

/// The warnings of a response, or its failure.
fn read_answer(text: &str) -> Result<Vec<String>, String> {
    let failure = text.lines().find_map(|line| line.strip_prefix("failure: "));
    let warnings = text.lines().filter_map(|line| line.strip_prefix("warning: "));
    failure.map_or_else(|| Ok(warnings.map(str::to_owned).collect()), |words| Err(words.to_owned()))
}

/// Sends a response and shuts the socket down, so that the peer sees the end: standard input stays open as long as this process
/// lives.
pub(super) fn reply(to: &mut UnixStream, answer: &Result<Vec<String>, String>) -> io::Result<()> {
    to.write_all(write_answer(answer).as_bytes())?;
    to.shutdown(Shutdown::Both)
}

/// Formats a response.
fn write_answer(answer: &Result<Vec<String>, String>) -> String {
    let line = |kind: &str, words: &String| format!("{kind}: {}\n", words.replace('\n', " "));
    match answer {
        Ok(warnings) => warnings.iter().map(|words| line("warning", words)).collect(),
        Err(words) => line("failure", words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_back_as_they_were_given() {
        for answer in [Ok(vec![]), Ok(vec!["one".to_owned(), "two".to_owned()]), Err("no such file".to_owned())] {
            assert_eq!(read_answer(&write_answer(&answer)), answer);
        }
        assert_eq!(write_answer(&Err("two\nlines".into())), "failure: two lines\n");
    }
}
