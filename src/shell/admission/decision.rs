use crate::error::Rejection;
use std::convert::Infallible;

/// The decision about a call at an [`Admission`](super::Admission).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<Permit, Place, Refusal = Rejection> {
    /// The call is admitted with this permit.
    Admitted(Permit),
    /// The call is refused.
    Refused(Refusal),
    /// The call waits for its turn and has this place among the waiters.
    Waits(Place),
}

impl<Permit, Refusal> Decision<Permit, Infallible, Refusal> {
    /// Returns the decision of an admission at which no call waits, as a `Result`.
    #[inline]
    pub(crate) fn at_once(self) -> Result<Permit, Refusal> {
        match self {
            Self::Admitted(permit) => Ok(permit),
            Self::Refused(refusal) => Err(refusal),
            Self::Waits(place) => match place {},
        }
    }
}

impl<Permit, Refusal> From<Result<Permit, Refusal>> for Decision<Permit, Infallible, Refusal> {
    #[inline]
    fn from(verdict: Result<Permit, Refusal>) -> Self {
        match verdict {
            Ok(permit) => Self::Admitted(permit),
            Err(refusal) => Self::Refused(refusal),
        }
    }
}
