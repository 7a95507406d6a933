//! One stream of a node, as it comes in: always read at once, so that it holds up no other call of its connection, and never more
//! than its credit.

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

/// Credits and orders that wait until the agent has read those before.
const TOLD_MAX: usize = 64;

/// What goes to an agent on its stream.
pub type Told = Result<ToTask, Status>;

/// A stream that an agent has opened.
pub struct NodeStream {
    messages: mpsc::UnboundedReceiver<Result<FromTask, Status>>,
    to: mpsc::Sender<Told>,
    credit: u64,
    /// Bytes that have come and were not taken.
    unread: Arc<AtomicU64>,
    /// Taken, and the agent was not told yet.
    owed: u64,
}

/// What a node says beside lines.
#[derive(Debug)]
pub enum Said {
    /// The attributes of a task's log driver.
    Details(LogDetails),
    /// Nothing more comes of a task.
    Failed(LogFailure),
    /// What tasks use.
    Used(Vec<TaskUsage>),
    /// Nothing more comes of the node, and why if it broke off.
    Over(NodeId, Option<String>),
}

impl NodeStream {
    /// Reads what comes in from now on; the other end of what is told.
    pub fn begin(
        inbound: impl Stream<Item = Result<FromTask, Status>> + Unpin + Send + 'static,
        credit: u64,
    ) -> (Self, mpsc::Receiver<Told>) {
        // The credit bounds it.
        let (sender, messages) = mpsc::unbounded_channel();
        let (to, told) = mpsc::channel(TOLD_MAX);
        let unread = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&unread);
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                () = read(inbound, credit, &counted, &sender) => {}
            }
        });
        (Self { messages, to, credit, unread, owed: 0 }, told)
    }

    /// The way to tell the agent more.
    pub fn teller(&self) -> mpsc::Sender<Told> {
        self.to.clone()
    }

    /// What comes next, for which the agent gets its credit back.
    pub async fn next(&mut self) -> Option<Result<FromTask, Status>> {
        let message = self.messages.recv().await?;
        if let Ok(message) = &message {
            let cost = Credit::cost(message, self.credit);
            self.unread.fetch_sub(cost, Ordering::Relaxed);
            self.owed += cost;
            // Where the agent does not read, more is owed the next time.
            let told = || ToTask { message: Some(ToMessage::Credit(self.owed)) };
            if self.owed >= self.credit / 4 && self.to.try_send(Ok(told())).is_ok() {
                self.owed = 0;
            }
        }
        Some(message)
    }

    /// What comes, as pieces; the last of them says that it is over.
    pub fn pieces(self, node: NodeId) -> BoxStream<'static, Piece<Said>> {
        let pieces = stream::unfold(Some(self), move |stream| async move {
            let mut stream = stream?;
            Some(match stream.next().await {
                None => (Piece::Aside(Said::Over(node, None)), None),
                Some(Err(status)) => (Piece::Aside(Said::Over(node, Some(status.message().to_owned()))), None),
                Some(Ok(message)) => (piece(message), Some(stream)),
            })
        });
        pieces.boxed()
    }
}

/// Reads until the stream ends, or the agent sends more than it may.
async fn read(
    mut inbound: impl Stream<Item = Result<FromTask, Status>> + Unpin,
    credit: u64,
    unread: &AtomicU64,
    to: &mpsc::UnboundedSender<Result<FromTask, Status>>,
) {
    while let Some(message) = inbound.next().await {
        let cost = message.as_ref().map_or(0, |message| Credit::cost(message, credit));
        let message = match unread.fetch_add(cost, Ordering::Relaxed) + cost > credit {
            true => Err(Status::resource_exhausted("it sends more than it may")),
            false => message,
        };
        let is_last = message.is_err();
        if to.send(message).is_err() || is_last {
            return;
        }
    }
}

/// What a message is to whoever reads lines.
fn piece(message: FromTask) -> Piece<Said> {
    let lines = |batch: LogBatch| {
        let task = batch.task;
        batch.lines.into_iter().map(move |line| Line { task, line })
    };
    match message.message {
        Some(Message::Lines(batches)) => Piece::Lines(batches.batches.into_iter().flat_map(lines).collect()),
        Some(Message::Details(details)) => Piece::Aside(Said::Details(details)),
        Some(Message::Usage(usage)) => Piece::Aside(Said::Used(usage.readings)),
        Some(Message::Failure(failure)) => Piece::Aside(Said::Failed(failure)),
        // Not asked for on a stream of these, or of a newer version.
        Some(Message::Begun(_) | Message::Output(_) | Message::UsedInputs(_)) | None => Piece::Lines(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use events::Id;

    use super::*;

    /// A message of about so many bytes.
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
        let [Piece::Aside(Said::Failed(_)), Piece::Aside(Said::Failed(_)), Piece::Aside(Said::Over(_, Some(why)))] =
            &pieces[..]
        else {
            panic!("two messages and why there is no third: {pieces:?}")
        };
        assert_eq!(why, "it sends more than it may");
    }

    #[tokio::test]
    async fn what_is_taken_is_paid_back_and_the_stream_goes_on() {
        let (sender, inbound) = mpsc::unbounded_channel();
        let inbound = tokio_stream::wrappers::UnboundedReceiverStream::new(inbound);
        let (stream, mut told) = NodeStream::begin(inbound, 1_000);
        let mut pieces = stream.pieces(NodeId::from_bits(1));
        for _ in 0..10 {
            sender.send(Ok(message(800))).expect("it reads");
            assert!(matches!(pieces.next().await, Some(Piece::Aside(Said::Failed(_)))));
            let paid = told.recv().await.and_then(Result::ok).and_then(|told| told.message);
            assert_eq!(paid, Some(ToMessage::Credit(Credit::cost(&message(800), 1_000))));
        }
        drop(sender);
        assert!(matches!(pieces.next().await, Some(Piece::Aside(Said::Over(_, None)))));
        assert!(pieces.next().await.is_none() && told.recv().await.is_none(), "the agent hears that it is over");
    }
}
