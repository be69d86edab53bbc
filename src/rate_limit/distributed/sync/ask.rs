use crate::{
    panics::caught,
    rate_limit::distributed::store::{Answering, StoreError, StoreErrorKind},
};
use std::{future::poll_fn, task::Poll, time::Duration};
use tokio::time::timeout;

/// Calls a store and waits for its answers, at most for `patience`. A panic counts as an error, and so does another
/// number of answers than requests.
pub(crate) async fn ask<'a, Answer>(
    call: impl FnOnce() -> Answering<'a, Answer>,
    requests: usize,
    patience: Duration,
) -> Result<Vec<Answer>, StoreError> {
    let panicked = || StoreError::new(StoreErrorKind::Incomprehensible, "the store panicked");
    // It is safe to catch the panic: the limit does not poll this future again, and the store's own locks guard its
    // state.
    let mut answering = caught(call).ok_or_else(panicked)?;
    let answer = poll_fn(|cx| caught(|| answering.as_mut().poll(cx)).unwrap_or_else(|| Poll::Ready(Err(panicked()))));
    match timeout(patience, answer).await {
        Ok(Ok(answers)) if answers.len() != requests => {
            let detail = format_args!("{} answers to {requests} requests", answers.len());
            Err(StoreError::new(StoreErrorKind::Incomprehensible, detail))
        }
        Ok(answer) => answer,
        Err(_) => Err(StoreError::new(StoreErrorKind::Unreachable, format_args!("no answer within {patience:?}"))),
    }
}
