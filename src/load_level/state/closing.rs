//! The end of a queue.

use super::{Places, Refusal, State};

impl State {
    pub(in crate::load_level) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Admits the waiters whose turn has come, and refuses the others and all later calls. An answer that was given before
    /// stands, whether or not its task has seen it.
    pub(in crate::load_level) fn close(&mut self, places: &mut Places, now: u64) {
        self.admit(places, None, now);
        self.is_closed = true;
        while let Some(place) = self.next(now) {
            self.refuse(place, Refusal::Closed, None, now);
        }
    }
}
