//! The caller of a connection, attached to every request on it, and the single call of clients without a certificate.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use events::Duration;
use http::{Request, Response};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};
use wire::v1::RefusalKind;

use super::peer::Peer;

/// How long a connection without a certificate stays open after the response to its call, so that the response is delivered.
const AFTER_ANSWER: Duration = Duration::from_secs(1);

/// The caller of a connection; each of its requests has it in its extensions.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The peer of the connection.
    pub peer: Peer,
    /// Closes the connection.
    end: CancellationToken,
    /// For callers without a certificate: whether their single call has been made.
    one_call: Option<Arc<AtomicBool>>,
}

impl Caller {
    /// A caller without a limit of calls; `end` closes its connection.
    pub(super) fn free(peer: Peer, end: CancellationToken) -> Self {
        Self { peer, end, one_call: None }
    }

    /// A caller with a single call.
    pub(super) fn once(peer: Peer, end: CancellationToken) -> Self {
        Self { peer, end, one_call: Some(Arc::default()) }
    }

    /// The token that closes the connection, with all data queued for it.
    pub fn end(&self) -> CancellationToken {
        self.end.clone()
    }
}

/// Closes the connection after its single call was answered.
fn answered(end: CancellationToken) {
    tokio::spawn(async move {
        tokio::time::sleep(AFTER_ANSWER).await;
        end.cancel();
    });
}

/// Limits callers without a certificate to one call per connection, and closes the connection after it.
#[derive(Debug, Clone, Copy)]
pub struct OneCallLayer;

impl<S> Layer<S> for OneCallLayer {
    type Service = OneCallService<S>;

    fn layer(&self, inner: S) -> OneCallService<S> {
        OneCallService { inner }
    }
}

/// See [`OneCallLayer`].
#[derive(Debug, Clone)]
pub struct OneCallService<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for OneCallService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let caller = request.extensions().get::<Caller>();
        let one_call = caller.and_then(|caller| Some((caller.one_call.clone()?, caller.end())));
        match one_call {
            Some((made, end)) if !made.swap(true, Ordering::Relaxed) => {
                let answer = self.inner.call(request);
                Box::pin(async move {
                    let answer = answer.await;
                    answered(end);
                    answer
                })
            }
            Some(_) => Box::pin(async { Ok(second_call().into_http()) }),
            None => Box::pin(self.inner.call(request)),
        }
    }
}

fn second_call() -> Status {
    let sentence = "a connection without a certificate is for one call".to_owned();
    let hint = Some("open another connection, or join the cluster first".to_owned());
    wire::v1::Refusal { kind: RefusalKind::Forbidden.into(), subject: "caller".to_owned(), sentence, hint }.into()
}
