use super::{
    batch::Pending,
    core::Core,
    error::{AppendError, BoxError},
    message::{Message, Receipt},
};
use crate::{
    Rejection,
    error::{QueueFull, QueueFullCause},
};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};
use tower::Service;

/// Appends requests to a queue: a tower service that answers with a [`Receipt`] once Redis has the message.
///
/// Made by [`DurableQueue::producer`](super::DurableQueue::producer). Always ready. Clones share the queue.
///
/// `encode` runs in `call`, where the message is handed over; it is sent by a task of the queue's runtime together with those of other
/// callers. A response future that is dropped takes its message back if that has not been sent; otherwise it may or may
/// not be appended. A call allocates its message and one channel for the answer.
#[derive(Clone)]
pub struct Producer<Encode> {
    core: Arc<Core>,
    pending: mpsc::Sender<Pending>,
    encode: Encode,
}

impl<Encode> Producer<Encode> {
    pub(super) fn new(core: Arc<Core>, pending: mpsc::Sender<Pending>, encode: Encode) -> Self {
        Self { core, pending, encode }
    }

    fn append(&self, message: Message) -> Result<Answer, AppendError> {
        let (core, size) = (&self.core, message.size());
        let limits = &core.limits;
        let full = |cause, bound| Rejection::from(QueueFull::new(cause, bound, None)).into();
        if size > limits.message_bytes {
            return Err(full(QueueFullCause::TooHeavy, limits.message_bytes as u64));
        }
        let before = core.bytes_on_the_way.fetch_add(size, Ordering::Relaxed);
        // One alone may be longer: else it could never be sent.
        if before > 0 && before.saturating_add(size) > limits.bytes_on_the_way {
            core.bytes_on_the_way.fetch_sub(size, Ordering::Relaxed);
            return Err(full(QueueFullCause::OnTheWay, limits.bytes_on_the_way as u64));
        }
        let (answer, receiver) = oneshot::channel();
        self.pending.try_send(Pending { message, answer }).map_err(|error| {
            core.bytes_on_the_way.fetch_sub(size, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => full(QueueFullCause::OnTheWay, limits.on_the_way as u64),
                TrySendError::Closed(_) => {
                    AppendError::Refused { reason: "the runtime of the queue has ended".to_owned() }
                }
            }
        })?;
        Ok(receiver)
    }
}

impl<Request, Encode, Encoded, E> Service<Request> for Producer<Encode>
where
    Encode: Fn(Request) -> Result<Encoded, E>,
    Encoded: Into<Message>,
    E: Into<BoxError>,
{
    type Response = Receipt;
    type Error = AppendError;
    type Future = Appending;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), AppendError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Appending {
        let message = (self.encode)(request).map_err(|error| AppendError::Encode(error.into().into()));
        Appending(match message.and_then(|message| self.append(message.into())) {
            Ok(answer) => State::Waiting(answer),
            Err(error) => State::Refused(error),
        })
    }
}

impl<Encode> fmt::Debug for Producer<Encode> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("stream", &self.core.keys.stream).finish_non_exhaustive()
    }
}

type Answer = oneshot::Receiver<Result<Receipt, AppendError>>;

/// The response of a [`Producer`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Appending(State);

#[derive(Debug)]
enum State {
    Waiting(Answer),
    Refused(AppendError),
    Ended,
}

impl Future for Appending {
    type Output = Result<Receipt, AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::Waiting(answer) = &mut self.0 {
            let Poll::Ready(answer) = Pin::new(answer).poll(cx) else { return Poll::Pending };
            self.0 = State::Ended;
            let gone = |_| AppendError::Unknown { reason: "the runtime of the queue has ended".to_owned() };
            return Poll::Ready(answer.map_err(gone).and_then(|answer| answer));
        }
        match std::mem::replace(&mut self.0, State::Ended) {
            State::Refused(error) => Poll::Ready(Err(error)),
            State::Waiting(_) | State::Ended => crate::shell::polled_after_end(),
        }
    }
}
