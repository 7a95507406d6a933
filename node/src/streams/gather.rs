//! Merges several streams of lines into one.

use std::collections::{BTreeMap, VecDeque};

use events::Timestamp;
use futures_util::stream::{BoxStream, FuturesUnordered, SelectAll, StreamExt, StreamFuture};

use super::Line;

/// An item of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece<A> {
    /// Lines, oldest first.
    Lines(Vec<Line>),
    /// Something else, which overtakes lines.
    Control(A),
}

/// Several streams merged into one.
pub enum Gather<A> {
    /// Ordered by time: each stream is read far enough to have its next line.
    Ordered(Ordered<A>),
    /// In order of arrival.
    Unordered(SelectAll<BoxStream<'static, Piece<A>>>),
}

/// See [`Gather::Ordered`].
pub struct Ordered<A> {
    /// Streams whose next lines are awaited.
    awaited: FuturesUnordered<StreamFuture<Numbered<A>>>,
    /// Streams whose next lines are available, by the time of the first of them.
    known: BTreeMap<(Timestamp, usize), (VecDeque<Line>, Numbered<A>)>,
    count: usize,
}

/// A stream, and its number as a tie-breaker between lines with the same time.
struct Numbered<A> {
    number: usize,
    stream: BoxStream<'static, Piece<A>>,
}

impl<A> futures_util::Stream for Numbered<A> {
    type Item = Piece<A>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Piece<A>>> {
        self.stream.poll_next_unpin(context)
    }
}

impl<A> Gather<A> {
    /// No streams yet. When following, lines are merged in order of arrival.
    pub fn new(follow: bool) -> Self {
        match follow {
            true => Self::Unordered(SelectAll::new()),
            false => Self::Ordered(Ordered { awaited: FuturesUnordered::new(), known: BTreeMap::new(), count: 0 }),
        }
    }

    /// Adds a stream.
    pub fn push(&mut self, stream: BoxStream<'static, Piece<A>>) {
        match self {
            Self::Unordered(all) => all.push(stream),
            Self::Ordered(ordered) => {
                let number = ordered.count;
                ordered.count += 1;
                ordered.awaited.push(Numbered { number, stream }.into_future());
            }
        }
    }

    /// The next item; `None` once all streams have ended. Cancel safe.
    pub async fn next(&mut self) -> Option<Piece<A>> {
        match self {
            Self::Unordered(all) => all.next().await,
            Self::Ordered(ordered) => ordered.next().await,
        }
    }
}

impl<A> Ordered<A> {
    async fn next(&mut self) -> Option<Piece<A>> {
        while let Some((piece, stream)) = self.awaited.next().await {
            match piece {
                None => {}
                Some(Piece::Lines(lines)) => self.put(lines.into(), stream),
                Some(Piece::Control(control)) => {
                    self.awaited.push(stream.into_future());
                    return Some(Piece::Control(control));
                }
            }
        }
        let (_, (mut lines, stream)) = self.known.pop_first()?;
        let until = self.known.first_key_value().map(|(key, _)| *key);
        let is_first = |line: &Line| until.is_none_or(|until| (line.line.at, stream.number) <= until);
        let next: Vec<Line> = std::iter::from_fn(|| lines.pop_front_if(|line| is_first(line))).collect();
        self.put(lines, stream);
        Some(Piece::Lines(next))
    }

    fn put(&mut self, lines: VecDeque<Line>, stream: Numbered<A>) {
        match lines.front() {
            Some(first) => drop(self.known.insert((first.line.at, stream.number), (lines, stream))),
            None => self.awaited.push(stream.into_future()),
        }
    }
}

#[cfg(test)]
mod tests {
    use events::{Id, TaskId};
    use futures_util::{FutureExt, stream};
    use wire::v1::LogLine;

    use super::*;

    fn lines(task: u128, times: &[i64]) -> Piece<&'static str> {
        let line = |time: &i64| Line {
            task: TaskId::from_bits(task),
            line: LogLine { at: Timestamp::from_unix_ns(*time), ..LogLine::default() },
        };
        Piece::Lines(times.iter().map(line).collect())
    }

    fn merged(gather: &mut Gather<&'static str>) -> Vec<(u128, i64)> {
        let mut merged = Vec::new();
        while let Some(piece) = gather.next().now_or_never().expect("nothing is awaited") {
            match piece {
                Piece::Lines(lines) => {
                    merged.extend(lines.iter().map(|line| (line.task.bits(), line.line.at.unix_ns())));
                }
                Piece::Control(_) => merged.push((0, 0)),
            }
        }
        merged
    }

    #[test]
    fn lines_come_in_the_order_of_time_and_of_the_same_time_in_that_of_streams() {
        let mut gather = Gather::new(false);
        gather.push(stream::iter([lines(1, &[1, 4, 4]), lines(1, &[]), lines(1, &[5, 9])]).boxed());
        gather.push(stream::iter([lines(2, &[2, 3, 4]), Piece::Control("broken")]).boxed());
        gather.push(stream::empty().boxed());
        gather.push(stream::iter([lines(3, &[4])]).boxed());
        let expected = [(1, 1), (2, 2), (2, 3), (1, 4), (1, 4), (0, 0), (2, 4), (3, 4), (1, 5), (1, 9)];
        let merged = merged(&mut gather);
        let without = |of: &[(u128, i64)]| of.iter().filter(|(task, _)| *task != 0).copied().collect::<Vec<_>>();
        assert_eq!(without(&merged), without(&expected));
        assert_eq!(merged.len(), expected.len(), "what is no line comes as well");
    }

    #[test]
    fn in_order_nothing_overtakes_a_stream_that_is_slow_and_as_it_comes_everything_does() {
        for (follow, ready) in [(true, true), (false, false)] {
            let mut gather: Gather<&str> = Gather::new(follow);
            gather.push(stream::pending().boxed());
            gather.push(stream::iter([lines(1, &[1])]).boxed());
            assert_eq!(gather.next().now_or_never().is_some(), ready, "following: {follow}");
        }
    }
}
