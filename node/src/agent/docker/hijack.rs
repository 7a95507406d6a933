//! Hijacked connections of the engine, which become raw streams in both directions.
//!
//! Bollard has these calls as well, but parses terminal output as a frame if it starts like one, and then buffers the supposed
//! length of the frame.

use std::io;

use bollard::errors::Error;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use wire::v1::task_output::Output;

use super::engine::Engine;
use crate::agent::conversation;
use crate::agent::executor::ExecutorError;
use crate::streams::MESSAGE_BYTES;

/// Maximum bytes of an error response.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// A frame header: the stream, three zeros, and the length.
const HEADER_BYTES: usize = 8;
/// The stream number of standard error in a frame.
const STDERR: u8 = 2;

/// A bidirectional stream of the engine.
pub(super) struct Hijacked {
    reader: ReadHalf<TokioIo<Upgraded>>,
    pub(super) writer: WriteHalf<TokioIo<Upgraded>>,
}

/// Calls the engine with the API version of its client, and takes over the connection.
pub(super) async fn call(engine: &Engine, path: &str, body: String) -> Result<Hijacked, ExecutorError> {
    let broken = |error: io::Error| engine.judge(Error::from(error));
    let lost = |error: hyper::Error| broken(io::Error::other(error));
    let stream = UnixStream::connect(engine.socket()).await.map_err(broken)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
    // The task ends with the connection, whose errors the reader gets.
    tokio::spawn(connection.with_upgrades());
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, "docker")
        .header(CONTENT_TYPE, "application/json")
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "tcp")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| broken(io::Error::other(error)))?;
    let response = sender.send_request(request).await.map_err(lost)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(engine.judge(refusal(response.status(), response.into_body()).await));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(lost)?;
    let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
    Ok(Hijacked { reader, writer })
}

/// The engine's message, as for its other calls.
async fn refusal(status: StatusCode, body: Incoming) -> Error {
    #[derive(serde::Deserialize)]
    struct Refusal {
        message: String,
    }
    let bytes = Limited::new(body, REFUSAL_BYTES_MAX).collect().await.map(http_body_util::Collected::to_bytes);
    let read = bytes.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let message = read.map_or_else(|| format!("the engine answers {status}"), |Refusal { message }| message);
    Error::DockerResponseServerError { status_code: status.as_u16(), message }
}

/// The output: raw for a terminal, otherwise in frames with the stream number.
pub(super) fn output(reader: ReadHalf<TokioIo<Upgraded>>, is_terminal: bool) -> BoxStream<'static, io::Result<Output>> {
    if is_terminal { conversation::pieces(reader, Output::Stdout) } else { framed(reader) }
}

impl Hijacked {
    /// Its two ends.
    pub(super) fn ends(self, takes_input: bool, is_terminal: bool) -> conversation::CommandStreams {
        let Self { reader, writer } = self;
        let stdin = takes_input.then(|| Box::new(writer) as Box<_>);
        conversation::CommandStreams { stdin, output: output(reader, is_terminal) }
    }
}

/// The payloads of frames, in pieces no longer than a message may be.
fn framed(reader: impl AsyncRead + Send + Unpin + 'static) -> BoxStream<'static, io::Result<Output>> {
    let frames = Frames { reader, stream: 0, left: 0, buffer: vec![0; MESSAGE_BYTES] };
    let pieces =
        stream::try_unfold(frames, |mut frames| async move { Ok(frames.next().await?.map(|piece| (piece, frames))) });
    pieces.boxed()
}

struct Frames<R> {
    reader: R,
    /// The current frame: its stream, and the remaining bytes.
    stream: u8,
    left: usize,
    buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    async fn next(&mut self) -> io::Result<Option<Output>> {
        while self.left == 0 {
            let mut header = [0; HEADER_BYTES];
            // Nothing, or an incomplete header, is the end.
            match self.reader.read_exact(&mut header).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                read => read.map(drop)?,
            }
            let [stream, _, _, _, a, b, c, d] = header;
            self.stream = stream;
            self.left = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        }
        let most = self.left.min(self.buffer.len());
        let count = self.reader.read(self.buffer.get_mut(..most).unwrap_or_default()).await?;
        if count == 0 {
            return Ok(None);
        }
        self.left -= count;
        let piece = self.buffer.get(..count).unwrap_or_default().to_vec();
        Ok(Some(if self.stream == STDERR { Output::Stderr(piece) } else { Output::Stdout(piece) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("a length").to_be_bytes();
        [&[stream, 0, 0, 0], &length[..], payload].concat()
    }

    #[tokio::test]
    async fn frames_are_taken_apart_in_bounded_pieces() {
        let long = vec![b'x'; MESSAGE_BYTES + 5];
        let mut bytes = [frame(1, b"out"), frame(2, b"err"), frame(1, b""), frame(1, &long), frame(2, b"cut")].concat();
        bytes.truncate(bytes.len() - 1);
        let pieces: Vec<_> = framed(io::Cursor::new(bytes)).map(|piece| piece.expect("read")).collect().await;
        let expected = [
            Output::Stdout(b"out".to_vec()),
            Output::Stderr(b"err".to_vec()),
            Output::Stdout(long[..MESSAGE_BYTES].to_vec()),
            Output::Stdout(b"xxxxx".to_vec()),
            Output::Stderr(b"cu".to_vec()),
        ];
        assert_eq!(pieces, expected);
        let claimed = io::Cursor::new([&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..], b"short"].concat());
        let pieces: Vec<_> = framed(claimed).map(|piece| piece.expect("read")).collect().await;
        assert_eq!(pieces, [Output::Stdout(b"short".to_vec())], "a length is believed for what comes only");
    }
}
