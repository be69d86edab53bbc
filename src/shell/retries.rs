use crate::clock::Nanos;
use std::{fmt, time::Duration};

/// What the retry of a stack did for one call.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Retries {
    /// One word: the number of attempts in the upper half, the number of the denial in the lower half.
    attempts_and_denial: u64,
    waited: Nanos,
}

/// Why a call that could have been retried was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u32)]
pub enum Denied {
    /// The call had made its maximum number of attempts.
    Exhausted = 1,
    /// The retry budget was empty.
    Budget,
    /// The wait before the next attempt would have ended, or did end, at or after the deadline.
    Deadline,
    /// The service was overloaded, or a layer refused, without a hint when to retry.
    NoHint,
    /// The service, or the layer that refused, asked for a wait that is longer than
    /// [`max_hint`](crate::retry::Retry::max_hint).
    HintTooLong,
    /// An inner layer would have refused the attempt.
    RefusedFurtherIn,
    /// The request must not be sent again.
    NotRepeatable,
    /// The service forbade a retry, or an inner retry has given up. See
    /// [`CallContext::forbid_retry`](crate::CallContext::forbid_retry).
    Marked,
}

impl Retries {
    #[inline]
    pub(crate) fn of(attempts: u32, waited: Nanos, denied: Option<Denied>) -> Self {
        let denial = denied.map_or(0, |denied| denied as u32);
        Self { attempts_and_denial: u64::from(attempts) << 32 | u64::from(denial), waited }
    }

    /// Returns the number of attempts, at least 1. A refused attempt counts, although it is not observed.
    #[inline]
    pub fn attempts(&self) -> u32 {
        ((self.attempts_and_denial >> 32) as u32).max(1)
    }

    /// Returns the sum of the waits between attempts: backoff and hints. The end of the call may have cut the last wait
    /// short.
    #[inline]
    pub fn waited(&self) -> Duration {
        self.waited.duration()
    }

    /// Returns why there was no further attempt, if the call could have been retried. `None` if the answer to the last
    /// attempt was no reason for a retry, or if a timeout or the caller ended the call. Also `None` if a layer refused
    /// the last attempt, unless the retry [waits for refusals](crate::retry::Retry::wait_for_refusals).
    #[inline]
    pub fn denied(&self) -> Option<Denied> {
        Some(match self.attempts_and_denial as u32 {
            1 => Denied::Exhausted,
            2 => Denied::Budget,
            3 => Denied::Deadline,
            4 => Denied::NoHint,
            5 => Denied::HintTooLong,
            6 => Denied::RefusedFurtherIn,
            7 => Denied::NotRepeatable,
            8 => Denied::Marked,
            _ => return None,
        })
    }
}

impl fmt::Debug for Retries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retries")
            .field("attempts", &self.attempts())
            .field("waited", &self.waited())
            .field("denied", &self.denied())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_denial_is_read_as_it_was_noted() {
        use Denied::{Budget, Deadline, Exhausted, HintTooLong, Marked, NoHint, NotRepeatable, RefusedFurtherIn};
        let all = [Exhausted, Budget, Deadline, NoHint, HintTooLong, RefusedFurtherIn, NotRepeatable, Marked].map(Some);
        for denied in all.into_iter().chain([None]) {
            let retries = Retries::of(u32::MAX, Nanos(5), denied);
            assert_eq!(
                (retries.attempts(), retries.waited(), retries.denied()),
                (u32::MAX, Duration::from_nanos(5), denied)
            );
        }
        assert_eq!((Retries::default().attempts(), Retries::default().denied()), (1, None));
    }
}
