use super::{
    DurableQueueBuilder, Producer, WorkerBuilder,
    batch::call_and_read,
    core::Core,
    entry::Entry,
    error::AppendError,
    message::Receipt,
    scripts::{REVIVE, nonsense},
};
use std::{fmt, sync::Arc};

/// A durable queue in Redis, which many processes append to and many workers process. Clones are handles of one queue.
///
/// See the [module](super).
#[doc(alias("outbox", "work queue", "consumer group", "dead letter"))]
#[derive(Clone)]
pub struct DurableQueue {
    pub(super) core: Arc<Core>,
}

impl DurableQueue {
    /// Configures the queue of this name on the server of this URL: `redis://user:password@host:6379/0`, in which
    /// everything but the host is optional, or `redis+unix:///path`.
    pub fn builder(url: impl AsRef<str>, name: impl AsRef<str>) -> DurableQueueBuilder {
        DurableQueueBuilder::new(url.as_ref(), name.as_ref())
    }

    /// Returns a service that appends requests. `encode` turns each request into a [`Message`](super::Message), or into
    /// any type that converts into bytes.
    pub fn producer<Encode>(&self, encode: Encode) -> Producer<Encode> {
        Producer::new(self.core.clone(), encode)
    }

    /// Configures a worker, which decodes each [`Delivery`](super::Delivery) with `decode` and calls `service` with the
    /// result.
    ///
    /// `decode` runs in the task that then calls the service, not in the task that reads from Redis. A message that it
    /// cannot decode becomes a dead letter at once.
    pub fn worker<Decode, S>(&self, decode: Decode, service: S) -> WorkerBuilder<Decode, S> {
        WorkerBuilder::new(self.core.clone(), decode, service)
    }

    /// Appends a dead letter as a new message, and removes the letter. The new message has a new identity, a new age,
    /// and all tries again. A service that detects duplicates by the identity does not recognize the new message as a
    /// repetition of the old one. Returns `None` if the letter does not exist, or no longer exists.
    ///
    /// # Errors
    ///
    /// [`AppendError::NoIdentity`] if the text is not an identity, and the errors of an append. After an
    /// [unknown](AppendError::Unknown) result, and if the future is dropped, the letter is gone exactly if the message
    /// was appended.
    pub async fn revive(&self, id: &str) -> Result<Option<Receipt>, AppendError> {
        let Some(entry) = Entry::parse(id.as_bytes()) else {
            return Err(AppendError::NoIdentity { id: id.chars().take(200).collect() });
        };
        let core = &*self.core;
        let write = |command: &mut ::redis::Cmd| {
            command.arg(4).arg(&core.keys.of_all()).arg(core.limits.depth).arg(entry);
        };
        let answers = call_and_read(core, &core.connection, &REVIVE, write).await?;
        match answers.into_iter().next() {
            // The answer of the script if there is no such letter.
            Some(Ok(receipt)) if receipt.id == "?" => Ok(None),
            Some(answer) => answer.map(Some),
            None => Err(AppendError::unknown(&nonsense())),
        }
    }
}

impl fmt::Debug for DurableQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableQueue")
            .field("server", &self.core.server.address())
            .field("stream", &self.core.keys.stream)
            .field("limits", &self.core.limits)
            .finish_non_exhaustive()
    }
}
