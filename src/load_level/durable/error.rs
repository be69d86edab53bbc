use crate::{
    classify::{Classify, Layered, Outcome},
    error::Rejection,
    redis::{Failure, Fault, words},
};
use std::{error::Error, sync::Arc};
use thiserror::Error as ThisError;

/// An error of any type.
pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// The reason why there is no [`Receipt`](super::Receipt), and whether Redis may have the message in spite of the
/// error.
#[derive(Clone, Debug, ThisError)]
#[non_exhaustive]
pub enum AppendError {
    /// This process refused the message, or the script in Redis did because the queue is full. In both cases the
    /// message is not appended. Layers around a producer reject with this variant too. If the rejected call had
    /// [reached](Rejection::reached_service) the producer, as with a timeout, Redis may have the message in spite of
    /// the rejection.
    #[error("{}", rejected(.0))]
    Rejected(#[from] Rejection),
    /// The message could not be encoded: not appended.
    #[error("the message could not be encoded, and was not appended")]
    Encode(#[source] Arc<dyn Error + Send + Sync>),
    /// There is no connection or no tokio runtime, or the server refuses: its memory is full, it is read-only, or it is
    /// loading. Not appended.
    #[error("Redis did not append the message: {reason}")]
    Refused {
        /// The answer of the server, the error of the connection, or the lack of a runtime.
        reason: String,
    },
    /// [`revive`](super::DurableQueue::revive) got a text that is not an identity. Redis was not asked.
    #[error("{id:?} is not the identity of a dead letter: it must be one from dead_letters(), such as 1700000000123-0")]
    NoIdentity {
        /// The text, cut off after 200 characters.
        id: String,
    },
    /// The answer did not come, came too late, or could not be read. Redis may have appended the message, or may still
    /// do so. Send it again with the same [key](super::Message::once) to append it once.
    #[error("Redis may or may not have appended the message: {reason}")]
    Unknown {
        /// Why there is no usable answer, such as a lost connection.
        reason: String,
    },
}

impl AppendError {
    /// Returns whether Redis may have the message, now or later. `false` means that the last attempt did not append the
    /// message, and will not.
    ///
    /// This is about the last attempt. If a retry around the producer has sent the message before, an earlier attempt
    /// may have appended it in spite of `false`. With a [key](super::Message::once), sending it again does no harm.
    pub fn may_be_appended(&self) -> bool {
        match self {
            Self::Unknown { .. } => true,
            Self::Rejected(rejection) => rejection.reached_service(),
            Self::Encode(_) | Self::Refused { .. } | Self::NoIdentity { .. } => false,
        }
    }

    /// Returns the rejection, if the queue or a layer refused the message.
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }

    /// Returns the error for the failure of an append script.
    pub(super) fn of(failure: Failure) -> Self {
        match failure {
            Failure::Down(fault) => Self::Refused { reason: fault.to_string() },
            Failure::Said(error) => match words(&error) {
                // The server refused. An append script fails only before its first write, so nothing was appended.
                Some(reason) => Self::Refused { reason },
                None => Self::Unknown { reason: error.to_string() },
            },
        }
    }

    pub(super) fn unknown(fault: &Fault) -> Self {
        Self::Unknown { reason: fault.to_string() }
    }
}

fn rejected(rejection: &Rejection) -> &'static str {
    match rejection.reached_service() {
        true => "Redis may or may not have appended the message",
        false => "the message was not appended",
    }
}

/// Ignores rejections, by the queue and by layers around the producer: they say nothing about Redis. A message that
/// cannot be encoded is a permanent failure, and so is a text that is not the identity of a dead letter.
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

/// Redis did not answer a request about a queue, or refused it.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::TimedOut;
    use std::time::Duration;

    #[test]
    fn a_message_may_be_appended_if_a_timeout_cut_it_off_after_it_reached_the_producer() {
        for (reached, text) in
            [(true, "Redis may or may not have appended the message"), (false, "the message was not appended")]
        {
            let error = AppendError::from(Rejection::from(TimedOut::new(Some(Duration::from_secs(1)), reached)));
            assert_eq!((error.may_be_appended(), error.to_string().as_str()), (reached, text));
        }
    }
}
