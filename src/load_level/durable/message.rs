use std::time::Duration;

/// A message for a queue: bytes, and optionally a key that recognizes a message which is sent again.
///
/// Anything that becomes bytes becomes one without such a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Message {
    pub(super) payload: Vec<u8>,
    pub(super) once: Option<Vec<u8>>,
}

impl Message {
    /// A message of these bytes. The queue does not interpret them.
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        Self { payload: payload.into(), once: None }
    }

    /// Appended once only: another message with the same key, sent within
    /// [`dedup_for`](super::DurableQueueBuilder::dedup_for), is not appended, and gets the receipt of the first. What
    /// it says does not matter, nor whether the first has been worked on already, or is a dead letter: that is
    /// [revived](super::DurableQueue::revive), not sent again.
    pub fn once(self, key: impl Into<Vec<u8>>) -> Self {
        Self { once: Some(key.into()), ..self }
    }

    /// The bytes.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(super) fn size(&self) -> usize {
        self.payload.len() + self.once.as_ref().map_or(0, Vec::len)
    }
}

impl<B: Into<Vec<u8>>> From<B> for Message {
    fn from(payload: B) -> Self {
        Self::new(payload)
    }
}

/// Redis has the message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The message's identity, which it keeps when it is delivered again: milliseconds of the server's clock, and a
    /// number.
    pub id: String,
    /// An earlier message with the same key was appended, and this one was not: the identity is the earlier one's.
    pub is_duplicate: bool,
}

/// A message as a worker gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// The identity that the receipt had.
    pub id: String,
    /// The bytes that were appended.
    pub payload: Vec<u8>,
    /// Which try this is, from 1: one more than the calls that failed and the workers that died during a call of this
    /// message [alone](super#messages-that-kill-their-worker).
    pub attempt: u32,
    /// A worker that had it before died, or was cut off. Its call may have begun there, and done a part of the work.
    /// That may be no try.
    pub may_have_begun: bool,
    /// The time since it was appended first, by the server's clock.
    pub age: Duration,
}

/// A message that is not tried any more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The letter's own identity, for [`revive`](super::DurableQueue::revive).
    pub id: String,
    /// The identity that the message's receipt had.
    pub message_id: String,
    /// The bytes that were appended.
    pub payload: Vec<u8>,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last try failed: the text of the error and of its sources, cut off after 1 KiB.
    pub reason: String,
}
