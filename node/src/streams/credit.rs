//! Flow control: how much of a stream may be in flight.

use prost::Message;
use tokio::sync::Semaphore;
use wire::v1::FromTask;

/// The remaining credit of an agent for one stream.
#[derive(Debug)]
pub struct Credit {
    left: Semaphore,
    whole: u32,
}

impl Credit {
    /// The credit of an order, in bytes chosen by a manager.
    pub fn new(bytes: u64) -> Self {
        let whole = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, Self::MOST);
        Self { left: Semaphore::new(whole as usize), whole }
    }

    /// Maximum credit: far more than any manager grants.
    const MOST: u32 = 64 << 20;

    /// The cost of a message: its size, or the whole credit if it is larger.
    pub fn cost(message: &FromTask, whole: u64) -> u64 {
        (message.encoded_len() as u64).min(whole)
    }

    /// Waits until a message may be sent.
    pub async fn spend(&self, message: &FromTask) {
        let cost = Self::cost(message, self.whole.into());
        // It is never closed; a waiting caller is dropped with its stream.
        if let Ok(permit) = self.left.acquire_many(u32::try_from(cost).unwrap_or(self.whole)).await {
            permit.forget();
        }
    }

    /// Returns credit for what was read. Excess credit is ignored.
    pub fn earn(&self, bytes: u64) {
        let missing = (self.whole as usize).saturating_sub(self.left.available_permits());
        self.left.add_permits(usize::try_from(bytes).unwrap_or(usize::MAX).min(missing));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use wire::v1::{LogFailure, from_task::Message as Said};

    use super::*;

    fn message(bytes: usize) -> FromTask {
        let failure = LogFailure { sentence: "x".repeat(bytes), ..LogFailure::default() };
        FromTask { opens: None, message: Some(Said::Failure(failure)) }
    }

    #[test]
    fn what_was_not_read_holds_up_what_comes_next() {
        let (credit, small) = (Credit::new(1_000), message(400));
        let fits = |message: &FromTask| credit.spend(message).now_or_never().is_some();
        assert_eq!((0..10).take_while(|_| fits(&small)).count(), 2);
        credit.earn(Credit::cost(&small, 1_000));
        assert!(fits(&small) && !fits(&small));
        credit.earn(u64::MAX);
        assert!(fits(&message(100_000)), "one always fits");
        assert!(!fits(&message(0)));
    }
}
