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

/// A queue in Redis, which many processes append to and work on. Clones are one queue.
///
/// See the [module](super).
#[derive(Clone)]
pub struct DurableQueue {
    pub(super) core: Arc<Core>,
}

impl DurableQueue {
    /// The queue of this name on the server of this URL: `redis://user:password@host:6379/0`, where all but the host
    /// may be left out, or `redis+unix:///path`.
    pub fn builder(url: impl AsRef<str>, name: impl AsRef<str>) -> DurableQueueBuilder {
        DurableQueueBuilder::new(url.as_ref(), name.as_ref())
    }

    /// A service that appends requests. `encode` makes a [`Message`](super::Message), or anything that becomes bytes,
    /// of each.
    pub fn producer<Encode>(&self, encode: Encode) -> Producer<Encode> {
        Producer::new(self.core.clone(), encode)
    }

    /// A worker that calls `service` with what `decode` makes of each [`Delivery`](super::Delivery).
    ///
    /// `decode` runs in the task of the call. A message that it refuses becomes a dead letter at once.
    pub fn worker<Decode, S>(&self, decode: Decode, service: S) -> WorkerBuilder<Decode, S> {
        WorkerBuilder::new(self.core.clone(), decode, service)
    }

    /// Appends a dead letter as a new message, with a new identity, a new age, and all tries again, and removes the
    /// letter. Work that is made idempotent by the identity does not recognize it. `None`: there is no such letter, or
    /// not any more.
    ///
    /// # Errors
    ///
    /// [`AppendError::NoIdentity`] where the text is none that a letter can have, and those of an append. After one
    /// that is [unknown](AppendError::Unknown) the letter is gone if the message was appended. The same holds if the
    /// future is dropped.
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
