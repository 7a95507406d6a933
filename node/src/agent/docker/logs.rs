//! The log of a container, as stored by the engine.

use std::collections::BTreeMap;

use ::events::{Duration, Timestamp};
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{LogsOptions, LogsOptionsBuilder};
use futures_util::stream::{self, BoxStream, StreamExt};
use wire::v1::{LogLine, LogStream};

use super::engine::Engine;
use crate::agent::details::details;
use crate::agent::executor::{ExecutorError, LogQuery};
use crate::agent::lines::Lines;

/// Maximum pieces taken at once, if available: each is at most 16 KiB.
const PIECES_MAX: usize = 32;
/// Nanoseconds per second.
const SECOND: i64 = 1_000_000_000;

/// The engine's query, which supports only whole seconds.
pub(super) fn options(query: LogQuery) -> LogsOptions {
    let seconds = |ns: i64| i32::try_from(ns.div_euclid(SECOND)).unwrap_or(if ns < 0 { 0 } else { i32::MAX });
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).timestamps(true).follow(query.follow);
    let options = options.tail(&query.tail.map_or_else(|| "all".to_owned(), |tail| tail.to_string()));
    // 0 means unbounded.
    let options = options.since(query.since.map_or(0, |since| seconds(since.unix_ns()).max(0)));
    options.until(query.until.map_or(0, |until| seconds(until.unix_ns().saturating_add(SECOND - 1)).max(1))).build()
}

/// The attributes that the container's log driver adds.
pub(super) fn attributes(container: &ContainerInspectResponse) -> String {
    let options = container.host_config.as_ref().and_then(|host| host.log_config.as_ref()?.config.as_ref());
    let config = container.config.as_ref();
    let labels: BTreeMap<String, String> =
        config.and_then(|config| config.labels.clone()).unwrap_or_default().into_iter().collect();
    let env = config.and_then(|config| config.env.clone()).unwrap_or_default();
    let options = options.into_iter().flatten().map(|(option, value)| (option.as_str(), value.as_str()));
    details(options, &labels, &env)
}

/// The lines in the engine's stream.
pub(super) fn lines(
    engine: std::sync::Arc<Engine>,
    query: LogQuery,
    pieces: BoxStream<'static, Result<LogOutput, Error>>,
) -> BoxStream<'static, Result<Vec<LogLine>, ExecutorError>> {
    let pieces = pieces.ready_chunks(PIECES_MAX);
    stream::unfold(Some((pieces, Lines::default())), move |state| {
        let engine = std::sync::Arc::clone(&engine);
        async move {
            let (mut pieces, mut lines) = state?;
            let mut whole = Vec::new();
            while whole.is_empty() {
                let Some(some) = pieces.next().await else {
                    lines.finish(&mut whole);
                    whole.retain(|line| query.wants(line.at));
                    return (!whole.is_empty()).then_some((Ok(whole), None));
                };
                for piece in some {
                    match piece {
                        Ok(piece) => take(&piece, &mut lines, &mut whole),
                        // Lines before the error are returned first.
                        Err(error) if whole.is_empty() => return Some((Err(engine.judge(error)), None)),
                        Err(error) => {
                            tracing::debug!(%error, "the engine interrupted a log stream");
                            return Some((Ok(whole), None));
                        }
                    }
                }
                whole.retain(|line| query.wants(line.at));
            }
            Some((Ok(whole), Some((pieces, lines))))
        }
    })
    .boxed()
}

/// Each piece starts with the time at which the engine received it.
fn take(piece: &LogOutput, lines: &mut Lines, whole: &mut Vec<LogLine>) {
    let (stream, bytes) = match piece {
        LogOutput::StdErr { message } => (LogStream::Stderr, message),
        // A terminal has only one stream.
        LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
            (LogStream::Stdout, message)
        }
    };
    let (at, text) = dated(bytes);
    lines.take(stream, at, text, whole);
}

/// The timestamp of a piece, and its content. A piece without one gets the oldest possible time.
fn dated(bytes: &[u8]) -> (Timestamp, &[u8]) {
    let space = bytes.iter().position(|byte| *byte == b' ');
    let split = space.map(|space| (&bytes[..space], &bytes[space + 1..]));
    let read = split.and_then(|(at, text)| Some((time(std::str::from_utf8(at).ok()?)?, text)));
    read.unwrap_or((Timestamp::default(), bytes))
}

/// Parses a time of the engine. Some log drivers use the time zone of the machine.
fn time(text: &str) -> Option<Timestamp> {
    if text.ends_with('Z') {
        return text.parse().ok();
    }
    const OFFSET_LENGTH: usize = "+02:00".len();
    let (local, offset) = text.split_at_checked(text.len().checked_sub(OFFSET_LENGTH)?)?;
    let local: Timestamp = format!("{local}Z").parse().ok()?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let length = Duration::from_secs(hours.parse::<u64>().ok()? * 3_600 + minutes.parse::<u64>().ok()? * 60);
    match &offset[..1] {
        "+" => Some(local - length),
        "-" => Some(local + length),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn at(text: &str) -> Timestamp {
        time(text).expect("a time")
    }

    #[test]
    fn times_of_any_zone_are_read() {
        for text in ["2026-01-31T14:00:00.5+02:00", "2026-01-31T10:30:00.500000000-01:30", "2026-01-31T12:00:00.5Z"] {
            assert_eq!(at(text).to_string(), at("2026-01-31T12:00:00.500Z").to_string(), "{text}");
        }
        for text in ["", "text", "2026-01-31T12:00:00", "2026-01-31T12:00:00*02:00"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn pieces_of_the_engine_become_lines_with_its_times() {
        let out = |text: &str| LogOutput::StdOut { message: text.to_owned().into() };
        let err = |text: &str| LogOutput::StdErr { message: text.to_owned().into() };
        let pieces = [
            out("2026-01-31T12:00:00.000000001Z old\n"),
            // Longer than what the engine stores in one piece.
            out("2026-01-31T12:00:01.500000000Z be"),
            err("2026-01-31T12:00:02.000000000Z oops\n"),
            out("2026-01-31T12:00:03.000000000Z gun\n"),
            LogOutput::Console { message: "2026-01-31T12:00:04.000000000Z no end".into() },
        ];
        let pieces = stream::iter(pieces.map(Ok::<_, Error>)).boxed();
        let engine = Arc::new(Engine::new("unix:///nowhere").expect("an address"));
        let query = LogQuery { since: Some(at("2026-01-31T12:00:00.000000002Z")), ..LogQuery::default() };
        let mut lines = lines(engine, query, pieces);
        let mut received = Vec::new();
        while let Some(some) = lines.next().await {
            received.extend(
                some.expect("lines")
                    .into_iter()
                    .map(|line| (line.at.to_string(), line.stream(), String::from_utf8_lossy(&line.data).into_owned())),
            );
        }
        let expected = [
            ("2026-01-31T12:00:02Z", LogStream::Stderr, "oops"),
            ("2026-01-31T12:00:01.500Z", LogStream::Stdout, "begun"),
            ("2026-01-31T12:00:04Z", LogStream::Stdout, "no end"),
        ];
        let expected = expected.map(|(time, stream, text)| (at(time).to_string(), stream, text.to_owned()));
        assert_eq!(received, expected);
    }

    #[test]
    fn the_engine_is_asked_for_whole_seconds_around_what_is_wanted() {
        let at = |ns| Some(Timestamp::from_unix_ns(ns));
        let asked = |query: LogQuery| {
            let options = options(query);
            (options.since, options.until, options.tail)
        };
        let query = LogQuery::default();
        assert_eq!(asked(query), (0, 0, "all".to_owned()));
        let query = LogQuery { since: at(1_999_999_999), until: at(2_000_000_001), tail: Some(5), ..query };
        assert_eq!(asked(query), (1, 3, "5".to_owned()));
    }
}
