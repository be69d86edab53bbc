use std::time::Duration;

/// A message for a queue: bytes, and optionally a deduplication key.
///
/// Any type that converts into bytes converts into a message without a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Message {
    pub(super) payload: Vec<u8>,
    pub(super) once: Option<Vec<u8>>,
}

impl Message {
    /// Returns a message of these bytes. The queue does not interpret them.
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        Self { payload: payload.into(), once: None }
    }

    /// Sets a deduplication key, so that the message is appended once. For the time
    /// [`dedup_for`](super::DurableQueueBuilder::dedup_for) after this append, Redis does not append another message
    /// with this key. The receipt of the other message has the identity of the first one. The payload of the other
    /// message does not matter. Nor does it matter whether the first message has been processed or is a dead letter.
    /// [Revive](super::DurableQueue::revive) a dead letter instead of sending its message again.
    pub fn once(self, key: impl Into<Vec<u8>>) -> Self {
        Self { once: Some(key.into()), ..self }
    }

    /// Returns the bytes.
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

/// The confirmation that Redis has the message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The message's identity, which stays the same in every delivery: milliseconds of the server's clock, and a
    /// number.
    pub id: String,
    /// Whether an earlier message with the same key was appended, and this one was not. Then the identity is that of
    /// the earlier message.
    pub is_duplicate: bool,
}

/// A message as a worker receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// The identity from the receipt.
    pub id: String,
    /// The bytes that were appended.
    pub payload: Vec<u8>,
    /// The number of this try, from 1. Each failed call of the message counts as an earlier try. So does each death of
    /// a worker that was calling the message [as a suspect](super#messages-that-kill-their-worker).
    pub attempt: u32,
    /// Whether a worker that died or was cut off may have begun a call of this message. `false` again once a later call
    /// of the message has ended. It stays `true` after a later call that was rejected without counting as a try. The
    /// call at the worker that died or was cut off may have done a part of the work. That call does not always count in
    /// [`attempt`](Self::attempt).
    pub may_have_begun: bool,
    /// The time since the message's first append, by the server's clock.
    pub age: Duration,
}

/// A dead letter: a message that is not tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The letter's own identity, for [`revive`](super::DurableQueue::revive).
    pub id: String,
    /// The identity from the message's receipt.
    pub message_id: String,
    /// The bytes that were appended.
    pub payload: Vec<u8>,
    /// The number of tries.
    pub attempts: u32,
    /// The error of the last try, with its sources, cut off after 1 KiB. If a worker died during the last try, the text
    /// says so. If the earlier tries were already as many as the worker that received the message allows, it did not
    /// call the message, and the text says that no try is left.
    pub reason: String,
}
