//! Tends the queue: creates the consumer group, moves due messages, and takes over the messages of dead workers.

use super::{
    super::{
        clock::ServerClock,
        memory::Ticket,
        requests::{Duties, MOST_MOVED, Tended},
    },
    Asking, Run,
};
use crate::redis::Fault;
use std::{
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// The time between two requests, unless a message is due earlier or more due messages are left to move.
const PAUSE: Duration = Duration::from_millis(100);

/// The most messages to take over at a time.
const MOST_TAKEN_OVER: usize = 1000;

type Answer = Result<Tended, Fault>;

pub(super) struct Tending {
    phase: TendingPhase,
    group: Group,
    /// Unknown until the first answer.
    clock: Option<ServerClock>,
    /// No takeover is due before this instant.
    take_over_at: Instant,
}

enum TendingPhase {
    Idle { until: Instant },
    Asking(Asking<Answer>),
}

/// The consumer group, without which no message can be taken. `Unknown`: it may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Unknown,
    Made,
}

impl Tending {
    pub(super) fn new(now: Instant) -> Self {
        Self { phase: TendingPhase::Idle { until: now }, group: Group::Unknown, clock: None, take_over_at: now }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.phase, TendingPhase::Idle { .. })
    }

    /// Returns when the next request is due, if none is in flight.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.phase {
            TendingPhase::Idle { until } => Some(until),
            TendingPhase::Asking(_) => None,
        }
    }
}

impl Tending {
    /// Makes the next request create the group. If no request is in flight, that request is due at once.
    pub(super) fn make_group(&mut self, now: Instant) {
        self.group = Group::Unknown;
        if let TendingPhase::Idle { until } = &mut self.phase {
            *until = now;
        }
    }

    /// Returns whether messages can be taken: the group exists, and the server's clock is known.
    pub(super) fn is_known(&self) -> bool {
        self.group == Group::Made && self.clock.is_some()
    }

    /// Returns the age of a message by the server's clock.
    pub(super) fn age_of(&self, ticket: &Ticket, now: Instant) -> Duration {
        self.clock.map_or(Duration::ZERO, |clock| clock.since(ticket.memory.appended_at(), now))
    }

    pub(super) fn poll(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<Answer> {
        let TendingPhase::Asking(request) = &mut self.phase else { return Poll::Pending };
        let answer = request.as_mut().poll(cx);
        if answer.is_ready() {
            // Asking => Idle. After a successful answer `tended` delays the next request; after a failure `Health`
            // delays it.
            self.phase = TendingPhase::Idle { until: now };
        }
        answer
    }
}

impl<C> Run<C> {
    pub(super) fn tend(&mut self, now: Instant) {
        if self.tending.due().is_none_or(|due| now < due) {
            return;
        }
        let idle = self.settings.takeover_after;
        // A server that was unreachable has not heard from any worker for a while. Live workers first get the time to
        // keep their messages alive.
        let is_well = self.health.is_well_for(idle / 2, now);
        // A request that waits for messages has reserved the room for all that it may bring. A takeover may use that
        // room a second time. Otherwise a takeover would find no room while such a request waits.
        let room = (self.room() + self.taking.expected()).min(MOST_TAKEN_OVER);
        let take_over = (is_well && now >= self.tending.take_over_at && room > 0).then_some((idle, room));
        if take_over.is_some() {
            self.tending.take_over_at = now + idle / 4;
        }
        let duties = Duties { make_group: self.tending.group == Group::Unknown, take_over };
        // Idle => Asking
        self.tending.phase = TendingPhase::Asking(Box::pin(self.requests.clone().tend(duties)));
    }

    pub(super) fn tended(&mut self, answer: Answer, now: Instant) {
        let Some(tended) = self.answered(answer, now) else { return };
        self.tending.clock = Some(ServerClock::new(tended.millis, now));
        self.tending.group = Group::Made;
        let pause = match tended.moved {
            MOST_MOVED.. => Duration::ZERO,
            _ => tended.next_due.unwrap_or(PAUSE).clamp(Duration::from_millis(1), PAUSE),
        };
        self.tending.phase = TendingPhase::Idle { until: now + pause };
        for taken in tended.taken {
            // The message may be one that this worker already has and could not keep alive in time. No other worker has
            // it now.
            if !self.keeping.renew(taken.entry, now) {
                self.report.taken_over += 1;
                self.receive(taken, now);
            }
        }
    }
}
