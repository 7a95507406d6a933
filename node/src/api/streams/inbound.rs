//! An incoming stream of a node: always read immediately, so that it blocks no other call on its connection, and limited by its
//! credit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use events::NodeId;
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tokio::sync::mpsc;
use tonic::Status;
use wire::v1::from_task::Message;
use wire::v1::to_task::Message as ToMessage;
use wire::v1::{FromTask, LogBatch, LogDetails, LogFailure, TaskUsage, ToTask};

use crate::streams::{Credit, Line, Piece};

/// Credits and orders queued until the agent has read the previous ones.
const QUEUED_MAX: usize = 64;

/// A message to an agent on its stream.
pub type ToAgent = Result<ToTask, Status>;

/// A stream that an agent has opened.
pub struct NodeStream {
    messages: mpsc::UnboundedReceiver<Result<FromTask, Status>>,
    to: mpsc::Sender<ToAgent>,
    credit: u64,
    /// Bytes received and not consumed yet.
    unread: Arc<AtomicU64>,
    /// Bytes consumed whose credit was not returned to the agent yet.
    uncredited: u64,
}

/// Messages of a node other than lines.
#[derive(Debug)]
pub enum NodeMessage {
    /// The attributes of a task's log driver.
    Details(LogDetails),
    /// A task sends no more data.
    Failed(LogFailure),
    /// Resource usage of tasks.
    Used(Vec<TaskUsage>),
    /// The node sends no more data; the reason, if the stream broke.
    Ended(NodeId, Option<String>),
}

impl NodeStream {
    /// Starts to read the stream. Also returns the receiver of the messages for the agent.
    pub fn begin(
        inbound: impl Stream<Item = Result<FromTask, Status>> + Unpin + Send + 'static,
        credit: u64,
    ) -> (Self, mpsc::Receiver<ToAgent>) {
        // The credit bounds it.
        let (sender, messages) = mpsc::unbounded_channel();
        let (to, for_agent) = mpsc::channel(QUEUED_MAX);
        let unread = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&unread);
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                () = read(inbound, credit, &counted, &sender) => {}
            }
        });
        (Self { messages, to, credit, unread, uncredited: 0 }, for_agent)
    }

    /// The sender of messages to the agent.
    pub fn sender(&self) -> mpsc::Sender<ToAgent> {
        self.to.clone()
    }

    /// The next message. Its credit is returned to the agent.
    pub async fn next(&mut self) -> Option<Result<FromTask, Status>> {
        let message = self.messages.recv().await?;
        if let Ok(message) = &message {
            let cost = Credit::cost(message, self.credit);
            self.unread.fetch_sub(cost, Ordering::Relaxed);
            self.uncredited += cost;
            // If the agent does not read, the credit is returned with a later message.
            let for_agent = || ToTask { message: Some(ToMessage::Credit(self.uncredited)) };
            if self.uncredited >= self.credit / 4 && self.to.try_send(Ok(for_agent())).is_ok() {
                self.uncredited = 0;
            }
        }
        Some(message)
    }

    /// The messages as pieces; the last one reports the end.
    pub fn pieces(self, node: NodeId) -> BoxStream<'static, Piece<NodeMessage>> {
        let pieces = stream::unfold(Some(self), move |stream| async move {
            let mut stream = stream?;
            Some(match stream.next().await {
                None => (Piece::Control(NodeMessage::Ended(node, None)), None),
                Some(Err(status)) => {
                    (Piece::Control(NodeMessage::Ended(node, Some(status.message().to_owned()))), None)
                }
                Some(Ok(message)) => (piece(message), Some(stream)),
            })
        });
        pieces.boxed()
    }
}

/// Reads until the stream ends, or the agent exceeds its credit.
async fn read(
    mut inbound: impl Stream<Item = Result<FromTask, Status>> + Unpin,
    credit: u64,
    unread: &AtomicU64,
    to: &mpsc::UnboundedSender<Result<FromTask, Status>>,
) {
    while let Some(message) = inbound.next().await {
        let cost = message.as_ref().map_or(0, |message| Credit::cost(message, credit));
        let message = match unread.fetch_add(cost, Ordering::Relaxed) + cost > credit {
            true => Err(Status::resource_exhausted("it exceeded its credit")),
            false => message,
        };
        let is_last = message.is_err();
        if to.send(message).is_err() || is_last {
            return;
        }
    }
}

/// Converts a message to a piece for a log reader.
fn piece(message: FromTask) -> Piece<NodeMessage> {
    let lines = |batch: LogBatch| {
        let task = batch.task;
        batch.lines.into_iter().map(move |line| Line { task, line })
    };
    match message.message {
        Some(Message::Lines(batches)) => Piece::Lines(batches.batches.into_iter().flat_map(lines).collect()),
        Some(Message::Details(details)) => Piece::Control(NodeMessage::Details(details)),
        Some(Message::Usage(usage)) => Piece::Control(NodeMessage::Used(usage.readings)),
        Some(Message::Failure(failure)) => Piece::Control(NodeMessage::Failed(failure)),
        // Not requested on this kind of stream, or from a newer version.
        Some(Message::Begun(_) | Message::Output(_) | Message::UsedInputs(_)) | None => Piece::Lines(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use events::Id;

    use super::*;

    /// A message of about this many bytes.
    fn message(bytes: usize) -> FromTask {
        let failure = LogFailure { sentence: "x".repeat(bytes), ..LogFailure::default() };
        FromTask { opens: None, message: Some(Message::Failure(failure)) }
    }

    #[tokio::test]
    async fn a_node_that_sends_more_than_it_may_is_cut_off() {
        let (sender, inbound) = mpsc::unbounded_channel();
        let inbound = tokio_stream::wrappers::UnboundedReceiverStream::new(inbound);
        let (stream, _told) = NodeStream::begin(inbound, 1_000);
        for _ in 0..10 {
            sender.send(Ok(message(400))).expect("it reads");
        }
        sender.closed().await;
        let pieces: Vec<_> = stream.pieces(NodeId::from_bits(1)).collect().await;
        let [
            Piece::Control(NodeMessage::Failed(_)),
            Piece::Control(NodeMessage::Failed(_)),
            Piece::Control(NodeMessage::Ended(_, Some(why))),
        ] = &pieces[..]
        else {
            panic!("two messages and why there is no third: {pieces:?}")
        };
        assert_eq!(why, "it exceeded its credit");
    }

    #[tokio::test]
    async fn what_is_taken_is_paid_back_and_the_stream_goes_on() {
        let (sender, inbound) = mpsc::unbounded_channel();
        let inbound = tokio_stream::wrappers::UnboundedReceiverStream::new(inbound);
        let (stream, mut for_agent) = NodeStream::begin(inbound, 1_000);
        let mut pieces = stream.pieces(NodeId::from_bits(1));
        for _ in 0..10 {
            sender.send(Ok(message(800))).expect("it reads");
            assert!(matches!(pieces.next().await, Some(Piece::Control(NodeMessage::Failed(_)))));
            let paid = for_agent.recv().await.and_then(Result::ok).and_then(|for_agent| for_agent.message);
            assert_eq!(paid, Some(ToMessage::Credit(Credit::cost(&message(800), 1_000))));
        }
        drop(sender);
        assert!(matches!(pieces.next().await, Some(Piece::Control(NodeMessage::Ended(_, None)))));
        assert!(pieces.next().await.is_none() && for_agent.recv().await.is_none(), "the agent hears that it is over");
    }
}
