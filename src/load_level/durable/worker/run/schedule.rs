//! When the loop runs next if there is no event before.
//!
//! | instant | due then |
//! |---|---|
//! | [`Health::ask_at`](super::Health::ask_at) | all requests, after a failure of Redis |
//! | [`Tending::due`](super::Tending::due) | a request to tend the queue |
//! | [`Keeping::due`](super::Keeping::due) | a request to keep messages alive |
//! | [`Alone::due`](super::Alone::due) | a request that tells Redis that a suspect's call takes long |
//! | [`Starting::due`](super::Starting::due) | a call that waits for the pace, or for the end of a pause after a rejection |
//! | a second from now | an upper bound |

use super::{Phase, Run};
use std::time::Duration;
use tokio::time::Instant;

/// The upper bound of the table.
const LONGEST: Duration = Duration::from_secs(1);

impl<C> Run<C> {
    /// Returns the earliest instant of the table among those that apply in this phase and state.
    pub(super) fn next_tick(&self, now: Instant) -> Instant {
        let is_working = self.phase == Phase::Working;
        let requests = if self.health.may_ask(now) {
            let tending = if is_working { self.tending.due() } else { None };
            [tending, self.keeping.due(), self.alone.due()]
        } else {
            [Some(self.health.ask_at()), None, None]
        };
        let call = if is_working && self.may_begin_one(now) { self.starting.due(now) } else { None };
        requests.into_iter().chain([call]).flatten().fold(now + LONGEST, Instant::min)
    }
}
