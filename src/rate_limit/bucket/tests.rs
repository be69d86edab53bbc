use super::TokenBucket;
use crate::rate_limit::tokens::Tokens;
use std::{future::Future, pin::pin, task::Context, time::Duration};

#[tokio::test(start_paused = true)]
async fn a_refund_takes_the_lock_only_while_a_call_waits() {
    let bucket = TokenBucket::builder(2, Duration::from_secs(1)).build().unwrap();
    let takes_the_lock = || bucket.shared.give_back(Tokens(1));
    bucket.try_acquire(2).unwrap();
    assert!(!takes_the_lock());
    {
        let mut acquire = pin!(bucket.acquire(2));
        assert!(acquire.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
        assert!(takes_the_lock());
    }
    assert!(!takes_the_lock());
}
