//! The caller of a connection, as every request on it carries it, and the one call of those without a certificate.

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

/// How long after the answer to its one call a connection without a certificate stays, so that the answer gets there.
const AFTER_ANSWER: Duration = Duration::from_secs(1);

/// Who calls over a connection; each of its requests has it in its extensions.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The other end of the connection.
    pub peer: Peer,
    /// Ends the connection.
    end: CancellationToken,
    /// For callers without a certificate: whether the one call was made that the connection is for.
    one_call: Option<Arc<AtomicBool>>,
}

impl Caller {
    /// A caller that may call as often as it likes; `end` ends its connection.
    pub(super) fn free(peer: Peer, end: CancellationToken) -> Self {
        Self { peer, end, one_call: None }
    }

    /// A caller that may call once.
    pub(super) fn once(peer: Peer, end: CancellationToken) -> Self {
        Self { peer, end, one_call: Some(Arc::default()) }
    }

    /// What ends the connection, with all that waits to be sent over it.
    pub fn end(&self) -> CancellationToken {
        self.end.clone()
    }
}

/// The one call was answered.
fn answered(end: CancellationToken) {
    tokio::spawn(async move {
        tokio::time::sleep(AFTER_ANSWER).await;
        end.cancel();
    });
}

/// Holds callers without a certificate to one call a connection, and ends the connection after it.
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
