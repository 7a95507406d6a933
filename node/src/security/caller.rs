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
    /// For callers without a certificate.
    one_call: Option<Arc<OneCall>>,
}

/// The one call that a connection without a certificate is for.
#[derive(Debug)]
struct OneCall {
    made: AtomicBool,
    /// Ends the connection.
    end: CancellationToken,
}

impl Caller {
    /// A caller that may call as often as it likes.
    pub(super) fn free(peer: Peer) -> Self {
        Self { peer, one_call: None }
    }

    /// A caller that may call once; `end` ends its connection.
    pub(super) fn once(peer: Peer, end: CancellationToken) -> Self {
        Self { peer, one_call: Some(Arc::new(OneCall { made: AtomicBool::new(false), end })) }
    }
}

impl OneCall {
    /// Whether this is the first call.
    fn make(&self) -> bool {
        !self.made.swap(true, Ordering::Relaxed)
    }

    /// The call was answered.
    fn answered(self: Arc<Self>) {
        tokio::spawn(async move {
            tokio::time::sleep(AFTER_ANSWER).await;
            self.end.cancel();
        });
    }
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
        let one_call = request.extensions().get::<Caller>().and_then(|caller| caller.one_call.clone());
        match one_call {
            Some(one_call) if one_call.make() => {
                let answer = self.inner.call(request);
                Box::pin(async move {
                    let answer = answer.await;
                    one_call.answered();
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
