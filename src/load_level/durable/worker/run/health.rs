//! Whether Redis answers, and when the worker may ask it. In this file an answer is one without an error: a request
//! fails if its answer is an error, and if there is no answer.
//!
//! | state | what happens | next state |
//! |---|---|---|
//! | `Well` | a request fails | `Failing` |
//! | `Failing` | a request fails | `Failing`; the pauses grow, up to a maximum |
//! | | a request is answered | `Well` |

use super::Run;
use crate::{
    backoff::{Backoff, Jitter},
    redis::{Fault, Said},
};
use std::time::Duration;
use tokio::time::Instant;

/// The backoff after failures of Redis.
const PAUSES: Backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(1)).jitter(Jitter::Equal);

pub(super) struct Health {
    state: HealthState,
    /// The end of the backoff after the last failure. A late answer to an earlier request does not shorten it.
    ask_at: Instant,
}

enum HealthState {
    /// Redis has answered every request since this instant.
    Well {
        since: Instant,
    },
    Failing {
        in_a_row: u32,
    },
}

impl Health {
    pub(super) fn new(now: Instant) -> Self {
        Self { state: HealthState::Well { since: now }, ask_at: now }
    }

    pub(super) fn may_ask(&self, now: Instant) -> bool {
        now >= self.ask_at
    }

    pub(super) fn ask_at(&self) -> Instant {
        self.ask_at
    }

    /// Returns whether Redis has answered every request for this time.
    pub(super) fn is_well_for(&self, time: Duration, now: Instant) -> bool {
        matches!(self.state, HealthState::Well { since } if now >= since + time)
    }
}

impl<C> Run<C> {
    /// Returns the answer of Redis. A failure begins a pause, in which the worker sends no request.
    pub(super) fn answered<Answer>(&mut self, result: Result<Answer, Fault>, now: Instant) -> Option<Answer> {
        match result {
            Ok(answer) => {
                // Failing => Well
                if let HealthState::Failing { .. } = self.health.state {
                    self.health.state = HealthState::Well { since: now };
                    self.shared.update(|readings| readings.redis_error = None);
                }
                Some(answer)
            }
            Err(fault) => {
                self.failed_to_answer(&fault, now);
                None
            }
        }
    }

    fn failed_to_answer(&mut self, fault: &Fault, now: Instant) {
        // The consumer group may be missing: Redis lost its data, or the server is a replica that had not received the
        // group.
        if matches!(fault.said, Some(Said::NoGroup | Said::Unblocked)) {
            self.tending.make_group(now);
        }
        // Well, Failing => Failing
        let in_a_row = match self.health.state {
            HealthState::Well { .. } => 1,
            HealthState::Failing { in_a_row } => in_a_row.saturating_add(1),
        };
        self.health.state = HealthState::Failing { in_a_row };
        let pause = PAUSES.draw(in_a_row, &self.core.random);
        // A pause is much shorter than the takeover time. The worker therefore asks again before others take over its
        // messages. A worker that shuts down waits for Redis for the takeover time, and so asks several times before it
        // gives up.
        self.health.ask_at = now + pause.min(self.settings.takeover_after / 8);
        self.shared.update(|readings| {
            readings.redis_failures += 1;
            readings.redis_error = Some(fault.to_string());
        });
    }
}
