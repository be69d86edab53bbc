//! Receives messages, and turns the verdict on a call into the outcome of its message.

use super::{
    super::{
        call::Verdict,
        memory::{Memory, Ticket},
        requests::{Outcome, Taken},
    },
    Run,
    waiting::Ready,
};
use tokio::time::Instant;

/// The most bytes of a dead letter's reason.
const LONGEST_REASON: usize = 1024;

impl<C> Run<C> {
    /// Receives a message and lets it wait for its call. A message that has no try left becomes a dead letter.
    pub(super) fn receive(&mut self, taken: Taken, now: Instant) {
        let Taken { entry, deaths, is_suspect, fields } = taken;
        let mut memory = Memory::of(entry, fields.memory.as_deref());
        memory.failed = memory.failed.saturating_add(deaths);
        memory.is_suspect |= is_suspect;
        self.keeping.hold(entry, now);
        let ticket = Ticket { entry, memory };
        if memory.failed >= self.settings.max_tries {
            // Without a death, an earlier worker allowed more tries.
            let reason = if deaths > 0 { "the worker died during the call" } else { "no try is left" };
            return self.bury(ticket, reason.to_owned());
        }
        self.waiting.add(Ready { ticket, payload: fields.payload });
    }

    /// Handles the end of a call.
    pub(super) fn ended(&mut self, ticket: Ticket, verdict: Verdict, now: Instant) {
        self.alone.ended(ticket.entry);
        match verdict {
            Verdict::Succeeded => {
                self.report.succeeded += 1;
                self.settling.add([Outcome::done(ticket)]);
            }
            Verdict::Failed { reason } => self.failed(ticket, reason),
            Verdict::Undecodable { reason } => {
                self.report.failed += 1;
                self.bury(ticket.after_a_failure(), reason);
            }
            Verdict::Rejected { retry_after, pauses_worker } => {
                self.report.rejected += 1;
                if pauses_worker {
                    self.starting.hold(retry_after, now);
                }
                let spread = self.settings.backoff.draw(1, &self.core.random);
                let delay = retry_after.unwrap_or_default().saturating_add(spread);
                self.settling.add([Outcome::again(ticket, delay)]);
            }
        }
    }

    fn failed(&mut self, ticket: Ticket, reason: String) {
        self.report.failed += 1;
        let mut ticket = ticket.after_a_failure();
        let memory = &mut ticket.memory;
        if memory.failed >= self.settings.max_tries {
            return self.bury(ticket, reason);
        }
        memory.delay = self.settings.backoff.draw_after(memory.delay, memory.failed, &self.core.random);
        let delay = memory.delay;
        self.settling.add([Outcome::again(ticket, delay)]);
    }

    /// Turns the message into a dead letter.
    fn bury(&mut self, ticket: Ticket, mut reason: String) {
        let cut = (0..=LONGEST_REASON.min(reason.len())).rev().find(|length| reason.is_char_boundary(*length));
        reason.truncate(cut.unwrap_or(0));
        self.report.dead += 1;
        self.settling.add([Outcome::dead(ticket, reason)]);
    }
}
