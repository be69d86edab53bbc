//! The queue closes. It cannot be opened again.
//!
//! | from | to | when |
//! |---|---|---|
//! | open | closed | [`Queue::close`](crate::load_level::Queue::close) |

use super::{QueueRefusal, QueueState};
use crate::{clock::Nanos, load_level::places::ServicePlaces};

impl QueueState {
    pub(in crate::load_level) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Refuses all later calls, and all waiters except those whose turn has come. An answer that a waiter got before
    /// remains valid, whether or not the waiter's task has fetched it.
    // Open => Closed
    pub(in crate::load_level) fn close(&mut self, places: &mut ServicePlaces, now: Nanos) {
        // Waiting => Admitted | Refused
        self.admit(places, now);
        self.is_closed = true;
        // Waiting => Refused
        while let Some(place) = self.next(now) {
            self.refuse(place, QueueRefusal::Closed, now);
        }
    }
}
