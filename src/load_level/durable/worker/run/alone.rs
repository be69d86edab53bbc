//! Calls of suspects, the messages that may have killed a worker: one at a time, and at first beside no other call.
//!
//! The takeover script counts a death against a message only if Redis knew that its call had begun. To tell Redis costs
//! a round trip before the call, so the worker does it only for suspects. A death must point to one message, so a
//! suspect waits until no other call is in flight, except long calls of other suspects. The worker tells Redis of the
//! call before the call begins. It tells Redis of the end of the call before another call begins. A call that takes
//! longer than [`ALONE_FOR`] has had its chance to kill the worker, and no longer delays other calls.
//!
//! | state | what happens | next state |
//! |---|---|---|
//! | `Off` | a suspect waits, and no call is in flight except long calls of suspects | `Marking` |
//! | `Marking` | Redis has recorded the call | `Marked` |
//! | | Redis fails, another worker has the message, or this worker stops | `Off` |
//! | `Marked` | the call begins | `Calling` |
//! | `Calling` | the call ends | `Ending` |
//! | | the call takes longer than `ALONE_FOR`, and the worker may ask Redis | `Releasing` |
//! | `Releasing` | Redis has recorded that the call takes long, or another worker has the message | `Off`: the call is one of the long calls |
//! | | the call ends | `Ending` |
//! | | Redis fails | `Calling`, for another `ALONE_FOR` |
//! | `Ending` | Redis has recorded its end | `Off` |

use super::{Asking, Phase, Run, starting::Admitted, waiting::Ready};
use crate::{
    load_level::durable::{entry::Entry, worker::requests::Mark},
    redis::Fault,
};
use std::{
    collections::HashSet,
    mem,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// No other call begins in this first part of a suspect's call. Most messages that kill a process do so at once.
const ALONE_FOR: Duration = Duration::from_secs(1);

type Answer = Result<bool, Fault>;

/// The suspect whose call comes next or runs alone, and the suspects whose long calls are in progress.
#[derive(Default)]
pub(super) struct Alone {
    phase: AlonePhase,
    /// The suspects whose long calls are in progress.
    long: HashSet<Entry>,
}

/// See the transition table of this file.
#[derive(Default)]
enum AlonePhase {
    #[default]
    Off,
    Marking(Ready, Asking<Answer>),
    Marked(Ready),
    /// The call began at this instant, or Redis failed then to record that it takes long.
    Calling(Entry, Instant),
    Releasing(Entry, Asking<Answer>),
    Ending(Entry),
}

impl Alone {
    pub(super) fn is_off(&self) -> bool {
        matches!(self.phase, AlonePhase::Off)
    }

    /// Returns whether a suspect has left the waiting messages, and its call has not begun.
    pub(super) fn is_marking(&self) -> bool {
        matches!(self.phase, AlonePhase::Marking(..) | AlonePhase::Marked(_))
    }

    /// Returns when to tell Redis that a suspect's call takes long.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.phase {
            AlonePhase::Calling(_, since) => Some(*since + ALONE_FOR),
            _ => None,
        }
    }

    /// Returns the suspect whose call begins now.
    pub(super) fn take_marked(&mut self, now: Instant) -> Option<Ready> {
        match mem::take(&mut self.phase) {
            // Marked => Calling
            AlonePhase::Marked(ready) => {
                self.phase = AlonePhase::Calling(ready.ticket.entry, now);
                Some(ready)
            }
            phase => {
                self.phase = phase;
                None
            }
        }
    }

    /// Notes that a call has ended.
    pub(super) fn ended(&mut self, ended: Entry) {
        self.long.remove(&ended);
        match self.phase {
            // Calling, Releasing => Ending
            AlonePhase::Calling(entry, _) | AlonePhase::Releasing(entry, _) if entry == ended => {
                self.phase = AlonePhase::Ending(entry)
            }
            _ => {}
        }
    }
}

impl<C> Run<C> {
    /// Returns whether a message waits whose call may begin now, regardless of the pace and of a pause after a
    /// rejection.
    pub(super) fn may_begin_one(&self, now: Instant) -> bool {
        let may_begin_alone = !self.waiting.suspects.is_empty() && self.has_room_alone(now);
        may_begin_alone || (!self.waiting.ordinary.is_empty() && self.may_begin_beside(0))
    }

    /// Returns whether the call of an ordinary message may begin beside the calls in progress and `more` others.
    pub(super) fn may_begin_beside(&self, more: usize) -> bool {
        !self.holds_up_others() && self.calls.in_flight() + more < self.settings.concurrency
    }

    /// Returns whether ordinary messages must wait. They wait while a suspect waits. They also wait until Redis has
    /// recorded that the current suspect's call has ended or takes long.
    pub(super) fn holds_up_others(&self) -> bool {
        !self.waiting.suspects.is_empty() || !self.alone.is_off()
    }

    /// Returns whether the next suspect's call can be marked now. The worker may ask Redis, and the state is `Off`.
    /// Only long calls are in flight, and fewer than the concurrency.
    fn has_room_alone(&self, now: Instant) -> bool {
        let in_flight = self.calls.in_flight();
        self.health.may_ask(now)
            && self.alone.is_off()
            && in_flight == self.alone.long.len()
            && in_flight < self.settings.concurrency
    }

    /// Tells Redis of the next suspect's call, if one may begin.
    pub(super) fn begin_alone(&mut self, now: Instant) {
        while self.has_room_alone(now) {
            let Some(suspect) = self.waiting.suspects.pop_front() else { return };
            match self.admit(suspect, now) {
                // Off => Marking
                Admitted::Yes(suspect) => {
                    let asking = Box::pin(self.requests.clone().mark(suspect.ticket.entry, Mark::Alone));
                    self.alone.phase = AlonePhase::Marking(suspect, asking);
                }
                Admitted::TooOld => {}
                Admitted::NotYet(suspect) => return self.waiting.suspects.push_front(suspect),
            }
        }
    }

    /// Handles the events of the current suspect. Returns whether there were any.
    pub(super) fn poll_alone(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        match mem::take(&mut self.alone.phase) {
            AlonePhase::Off => false,
            AlonePhase::Marking(suspect, mut asking) => match asking.as_mut().poll(cx) {
                Poll::Pending => {
                    self.alone.phase = AlonePhase::Marking(suspect, asking);
                    false
                }
                Poll::Ready(answer) => {
                    self.marked(suspect, answer, now);
                    true
                }
            },
            AlonePhase::Calling(entry, since) if now >= since + ALONE_FOR && self.health.may_ask(now) => {
                // Calling => Releasing
                let asking = Box::pin(self.requests.clone().mark(entry, Mark::Beside));
                self.alone.phase = AlonePhase::Releasing(entry, asking);
                self.poll_alone(now, cx)
            }
            AlonePhase::Releasing(entry, mut asking) => match asking.as_mut().poll(cx) {
                Poll::Pending => {
                    self.alone.phase = AlonePhase::Releasing(entry, asking);
                    false
                }
                Poll::Ready(answer) => {
                    match self.answered(answer, now) {
                        // Releasing => Off. If another worker has the message, there is nothing more to mark.
                        Some(_) => drop(self.alone.long.insert(entry)),
                        // Releasing => Calling
                        None => self.alone.phase = AlonePhase::Calling(entry, now),
                    }
                    true
                }
            },
            // Ending => Off
            AlonePhase::Ending(entry) if !self.keeping.holds(entry) => true,
            phase => {
                self.alone.phase = phase;
                false
            }
        }
    }

    fn marked(&mut self, suspect: Ready, answer: Answer, now: Instant) {
        match self.answered(answer, now) {
            // Marking => Marked
            Some(true) if self.phase == Phase::Working => self.alone.phase = AlonePhase::Marked(suspect),
            // Marking => Off
            Some(true) | None => self.waiting.suspects.push_front(suspect),
            Some(false) => self.keeping.release(suspect.ticket.entry),
        }
    }
}
