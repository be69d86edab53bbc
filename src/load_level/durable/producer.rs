use super::{
    batch::{Answered, Handed, Weight, hand_over},
    core::Core,
    error::{AppendError, BoxError},
    message::{Message, Receipt},
};
use crate::error::{QueueFull, QueueFullCause, Rejection};
use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{runtime::Handle, sync::oneshot};
use tower::Service;

/// A tower service that appends requests to a queue, and answers with a [`Receipt`] once Redis has the message.
///
/// Made by [`DurableQueue::producer`](super::DurableQueue::producer). It is always ready. Clones share the queue.
///
/// `call` runs `encode` and hands the message over to a task, which sends it together with the messages of other
/// callers. The task runs in the runtime of the caller that found no such task, until nothing is left to send. If that
/// runtime ends, the unsent messages move to the runtimes of their callers, and the messages on their way are
/// [unknown](AppendError::Unknown). If `call` finds neither a task nor a runtime, the first poll hands the message
/// over.
///
/// Dropping the response future withdraws its message if it has not been sent; otherwise Redis may or may not append
/// it. A call allocates its message and one channel for the answer, and the task if there is none.
#[derive(Clone)]
pub struct Producer<Encode> {
    core: Arc<Core>,
    encode: Encode,
}

impl<Encode> Producer<Encode> {
    pub(super) fn new(core: Arc<Core>, encode: Encode) -> Self {
        Self { core, encode }
    }

    fn append(&self, message: Message) -> AppendingState {
        let (limits, size) = (&self.core.limits, message.size());
        if size > limits.message_bytes {
            return AppendingState::Refused(full(QueueFullCause::TooHeavy, limits.message_bytes));
        }
        match Weight::add(&self.core, size) {
            None => AppendingState::Refused(full(QueueFullCause::OnTheWay, limits.bytes_on_the_way)),
            Some(weight) => hand_it_over(&self.core, message, weight),
        }
    }
}

fn hand_it_over(core: &Arc<Core>, message: Message, weight: Weight) -> AppendingState {
    match hand_over(core, message, weight) {
        Handed::Over(answer) => AppendingState::Waiting(core.clone(), answer),
        Handed::Full => AppendingState::Refused(full(QueueFullCause::OnTheWay, core.limits.on_the_way)),
        Handed::NoRuntime(message, weight) => AppendingState::Held(core.clone(), message, weight),
    }
}

fn full(cause: QueueFullCause, bound: usize) -> AppendError {
    Rejection::from(QueueFull::new(cause, bound as u64, None)).into()
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
        Appending(match message {
            Ok(message) => self.append(message.into()),
            Err(error) => AppendingState::Refused(error),
        })
    }
}

impl<Encode> fmt::Debug for Producer<Encode> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("stream", &self.core.keys.stream).finish_non_exhaustive()
    }
}

/// The response future of a [`Producer`].
#[must_use = "futures do nothing unless polled"]
pub struct Appending(AppendingState);

enum AppendingState {
    /// Handed over. The producer waits for the answer.
    Waiting(Arc<Core>, oneshot::Receiver<Answered>),
    /// Not handed over: there was no runtime, or the runtime of the sending task has ended.
    Held(Arc<Core>, Message, Weight),
    Refused(AppendError),
    Ended,
}

impl Future for Appending {
    type Output = Result<Receipt, AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut was_handed_over = false;
        loop {
            if let AppendingState::Waiting(core, answer) = &mut self.0 {
                let Poll::Ready(answer) = Pin::new(answer).poll(cx) else { return Poll::Pending };
                match answer {
                    // Waiting => Held
                    Ok(Answered::Back(message, weight)) => self.0 = AppendingState::Held(core.clone(), message, weight),
                    // Waiting => Ended
                    Ok(Answered::Appended(answer)) => {
                        self.0 = AppendingState::Ended;
                        return Poll::Ready(answer);
                    }
                    // Waiting => Ended: the sending task was dropped with its runtime while the batch was in flight.
                    Err(_) => {
                        self.0 = AppendingState::Ended;
                        let reason = "the tokio runtime that sent the message has ended".to_owned();
                        return Poll::Ready(Err(AppendError::Unknown { reason }));
                    }
                }
            }
            match mem::replace(&mut self.0, AppendingState::Ended) {
                // Held => Ended: this runtime is ending as well, or there is none.
                AppendingState::Held(..) if was_handed_over || Handle::try_current().is_err() => {
                    let reason = "there is no tokio runtime to send the message".to_owned();
                    return Poll::Ready(Err(AppendError::Refused { reason }));
                }
                // Held => Waiting | Refused
                AppendingState::Held(core, message, weight) => {
                    was_handed_over = true;
                    self.0 = hand_it_over(&core, message, weight);
                }
                // Refused => Ended
                AppendingState::Refused(error) => return Poll::Ready(Err(error)),
                AppendingState::Waiting(..) | AppendingState::Ended => crate::shell::polled_after_end(),
            }
        }
    }
}

impl fmt::Debug for Appending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appending").finish_non_exhaustive()
    }
}
