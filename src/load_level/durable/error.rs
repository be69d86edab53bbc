use crate::{
    classify::{Classify, Layered, Outcome},
    error::Rejection,
    redis::{Failure, Fault, words},
};
use std::{error::Error, sync::Arc};
use thiserror::Error as ThisError;

/// An error of any type.
pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// Why there is no [`Receipt`](super::Receipt), and whether Redis may have the message all the same.
#[derive(Clone, Debug, ThisError)]
#[non_exhaustive]
pub enum AppendError {
    /// Refused here or, where the queue is full, by the script: not appended. Layers in front of a producer refuse with
    /// this too.
    #[error("the message was not appended")]
    Rejected(#[from] Rejection),
    /// The message could not be made into bytes: not appended.
    #[error("the message could not be encoded, and was not appended")]
    Encode(#[source] Arc<dyn Error + Send + Sync>),
    /// There is no connection, or the server refuses: it is full, may only be read, is loading. Not appended.
    #[error("Redis did not append the message: {reason}")]
    Refused {
        /// The answer of the server, or the fault of the connection.
        reason: String,
    },
    /// The identity is none of a dead letter: nothing was asked of Redis.
    #[error("{id:?} is no identity of a dead letter: it must be one that dead_letters() has, as 1700000000123-0")]
    NoIdentity {
        /// The identity, cut off after 200 characters.
        id: String,
    },
    /// The answer did not come, or not in time: Redis may have appended the message, or may still do so. Send it again
    /// with the same [key](super::Message::once) to have it there once.
    #[error("Redis may or may not have appended the message: {reason}")]
    Unknown {
        /// The event in place of an answer.
        reason: String,
    },
}

impl AppendError {
    /// Whether Redis may have the message, now or later. `false`: for certain it has not, and will not.
    pub fn may_be_appended(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    /// The rejection, if it was refused by the queue or a layer.
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }

    /// By what a call of a script that appends ended in.
    pub(super) fn of(failure: Failure) -> Self {
        match failure {
            Failure::Down(fault) => Self::Refused { reason: fault.to_string() },
            Failure::Said(error) => match words(&error) {
                // A script fails as a whole, before it writes anything.
                Some(reason) => Self::Refused { reason },
                None => Self::Unknown { reason: error.to_string() },
            },
        }
    }

    pub(super) fn unknown(fault: &Fault) -> Self {
        Self::Unknown { reason: fault.to_string() }
    }
}

/// Rejections of the queue, and of layers in front of the producer, are those of a layer. A message that cannot be
/// encoded never can.
impl<Inner, Response> Classify<Response, AppendError> for Layered<Inner>
where
    Inner: Classify<Response, AppendError>,
{
    fn classify(&self, result: Result<&Response, &AppendError>) -> Outcome {
        match result {
            Err(AppendError::Encode(_) | AppendError::NoIdentity { .. }) => Outcome::Permanent,
            Err(AppendError::Rejected(_)) => Outcome::Ignored,
            _ => self.0.classify(result),
        }
    }

    fn rejection<'error>(&self, error: &'error AppendError) -> Option<&'error Rejection> {
        error.rejection()
    }
}

/// Redis did not answer a question about a queue, or refused to.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("the queue in Redis cannot be read: {reason}")]
pub struct QueueError {
    reason: String,
}

impl From<Failure> for QueueError {
    fn from(failure: Failure) -> Self {
        Fault::from(failure).into()
    }
}

impl From<Fault> for QueueError {
    fn from(fault: Fault) -> Self {
        Self { reason: fault.to_string() }
    }
}
