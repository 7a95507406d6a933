//! Digests of images, asked of registries for whoever creates or changes a service.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use wire::v1::ResolvedImage;

use crate::agent::executor::{Executor, ImageFacts, RegistryAuth};

/// Questions to registries at a time: each holds a connection to the engine and one to a registry.
const QUESTIONS_MAX: usize = 16;
/// Longest wait for a registry: whoever creates a service waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Registries, as the engine of this manager's node reaches them.
#[derive(Clone)]
pub struct Images {
    executor: Arc<dyn Executor>,
    questions: Arc<Semaphore>,
}

impl Images {
    /// Registries, as this node's executor reaches them.
    pub fn new(executor: Arc<dyn Executor>) -> Self {
        Self { executor, questions: Arc::new(Semaphore::new(QUESTIONS_MAX)) }
    }

    /// The image with the digest that its tag has now, or why that is not known. Nothing if the executor has no images.
    pub(super) async fn resolve(&self, image: &str, auth: Option<RegistryAuth>) -> ResolvedImage {
        let asked = async {
            let _permit = self.questions.acquire().await;
            self.executor.image(image, auth.as_ref()).await
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(None)) => ResolvedImage::default(),
            Ok(Ok(Some(ImageFacts { digest, platforms }))) => {
                ResolvedImage { image: Some(format!("{image}@{digest}")), problem: None, platforms }
            }
            Ok(Err(error)) => unknown(error.to_string()),
            Err(_) => unknown(format!("the registry did not answer within {} seconds", PATIENCE.as_secs())),
        }
    }
}

fn unknown(problem: String) -> ResolvedImage {
    ResolvedImage { problem: Some(problem), ..ResolvedImage::default() }
}
