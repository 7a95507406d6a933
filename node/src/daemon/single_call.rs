//! A server on the control socket that serves a single call: that of a locked manager, and that of a worker.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};
use wire::v1::Refusal;

/// Refuses all calls but one.
#[derive(Clone)]
pub struct SingleCallLayer {
    /// The path of the call.
    pub path: &'static str,
    /// Returns the response to every other call, from the current state.
    pub refusal: Arc<dyn Fn() -> Refusal + Send + Sync>,
}

impl<S> Layer<S> for SingleCallLayer {
    type Service = SingleCallService<S>;

    fn layer(&self, inner: S) -> SingleCallService<S> {
        SingleCallService { inner, layer: self.clone() }
    }
}

/// See [`SingleCallLayer`].
#[derive(Clone)]
pub struct SingleCallService<S> {
    inner: S,
    layer: SingleCallLayer,
}

impl<S> Service<Request<Body>> for SingleCallService<S>
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
        if request.uri().path() == self.layer.path {
            return Box::pin(self.inner.call(request));
        }
        let refused = tonic::Status::from((self.layer.refusal)());
        Box::pin(async { Ok(refused.into_http()) })
    }
}
