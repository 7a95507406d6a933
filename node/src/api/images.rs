//! Resolves image tags to digests at registries, when a service is created or updated.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use wire::v1::ResolvedImage;

use crate::agent::executor::{Executor, ImageFacts, RegistryAuth};

/// Maximum concurrent queries: each holds a connection to the engine and one to a registry.
const QUESTIONS_MAX: usize = 16;
/// Deadline of a query: the client that creates a service waits for it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Queries registries through the engine of this manager's node.
#[derive(Clone)]
pub struct Images {
    executor: Arc<dyn Executor>,
    questions: Arc<Semaphore>,
}

impl Images {
    /// Queries registries through this node's executor.
    pub fn new(executor: Arc<dyn Executor>) -> Self {
        Self { executor, questions: Arc::new(Semaphore::new(QUESTIONS_MAX)) }
    }

    /// The image with the current digest of its tag, or why it is unknown. Empty if the executor has no images.
    pub(super) async fn resolve(&self, image: &str, auth: Option<RegistryAuth>) -> ResolvedImage {
        let asked = async {
            let _permit = self.questions.acquire().await;
            self.executor.image(image, auth.as_ref()).await
        };
        match tokio::time::timeout(TIMEOUT, asked).await {
            Ok(Ok(None)) => ResolvedImage::default(),
            Ok(Ok(Some(ImageFacts { digest, platforms }))) => {
                ResolvedImage { image: Some(format!("{image}@{digest}")), problem: None, platforms }
            }
            Ok(Err(error)) => unknown(error.to_string()),
            Err(_) => unknown(format!("the registry did not answer within {} seconds", TIMEOUT.as_secs())),
        }
    }
}

fn unknown(problem: String) -> ResolvedImage {
    ResolvedImage { problem: Some(problem), ..ResolvedImage::default() }
}
