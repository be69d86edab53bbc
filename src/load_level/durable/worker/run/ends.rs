//! What has happened, and what that means for the messages.

use super::{
    super::{
        Memory,
        call::Verdict,
        clock::ServerClock,
        requests::{MOST_MOVED, Outcome, Taken, Tended},
    },
    Ready, Run, Ticket,
};
use crate::{
    backoff::{Backoff, Jitter},
    load_level::durable::{entry::Entry, scripts::Fields},
    redis::{Fault, Said},
};
use std::time::Duration;
use tokio::time::Instant;

/// What is due is looked for so often.
const BETWEEN_TENDS: Duration = Duration::from_millis(100);

/// The pauses after failures of Redis.
const PAUSES: Backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(1)).jitter(Jitter::Equal);

/// So long nothing begins after the service said that it has enough and not for how long, and so long at most.
const HOLD: Duration = Duration::from_millis(100);
const LONGEST_HOLD: Duration = Duration::from_secs(1);

/// The longest reason of a dead letter.
const LONGEST_REASON: usize = 1024;

impl<Decode, S> Run<Decode, S> {
    pub(super) fn taken(&mut self, count: usize, result: Result<Vec<(Entry, Fields)>, Fault>, now: Instant) {
        self.being_taken -= count;
        self.is_backlogged = result.as_ref().is_ok_and(|messages| messages.len() >= count);
        for (entry, fields) in self.answered(result, now).unwrap_or_default() {
            self.receive(entry, fields, 0, false, now);
        }
    }

    pub(super) fn settled(&mut self, outcomes: Vec<Outcome>, result: Result<(), Fault>, now: Instant) {
        if self.answered(result, now).is_none() {
            return self.outcomes.extend(outcomes);
        }
        for outcome in &outcomes {
            self.held.remove(&outcome.entry());
        }
    }

    pub(super) fn kept(
        &mut self,
        since: Instant,
        entries: Vec<Entry>,
        result: Result<Vec<Entry>, Fault>,
        now: Instant,
    ) {
        let Some(mut lost) = self.answered(result, now) else { return };
        for entry in entries {
            self.held.entry(entry).and_modify(|kept| *kept = since);
        }
        if lost.is_empty() {
            return;
        }
        lost.sort_unstable();
        // Others have taken these over. A call that has begun goes on, and its end is told all the same.
        let mut is_kept = |Ready { ticket: Ticket { entry, .. }, .. }: &Ready| {
            let is_lost = lost.binary_search(entry).is_ok();
            if is_lost {
                self.held.remove(entry);
            }
            !is_lost
        };
        self.ready.retain(&mut is_kept);
        self.suspects.retain(&mut is_kept);
    }

    /// What Redis answered, if it did; else it is left alone for a while.
    pub(super) fn answered<Answer>(&mut self, result: Result<Answer, Fault>, now: Instant) -> Option<Answer> {
        match result {
            Ok(answer) => {
                if self.well_since.is_none() {
                    self.well_since = Some(now);
                    self.failures_in_a_row = 0;
                    self.shared.update(|readings| readings.redis_error = None);
                }
                Some(answer)
            }
            Err(fault) => {
                self.well_since = None;
                // The group is gone with the data, or on a replica that had not heard of it.
                if matches!(fault.said, Some(Said::NoGroup | Said::Unblocked)) {
                    self.make_group = true;
                    self.tend_at = now;
                }
                self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
                let pause = PAUSES.draw(self.failures_in_a_row, &self.core.random);
                // It must be back before others take over, and at its end it waits no longer than that.
                self.ask_at = now + pause.min(self.settings.takeover_after / 8);
                self.shared.update(|readings| {
                    readings.redis_failures += 1;
                    readings.redis_error = Some(fault.to_string());
                });
                None
            }
        }
    }

    pub(super) fn tended(&mut self, result: Result<Tended, Fault>, now: Instant) {
        let Some(tended) = self.answered(result, now) else { return };
        self.clock = Some(ServerClock::new(tended.millis, now));
        self.make_group = false;
        let more = tended.moved >= MOST_MOVED;
        let pause = tended.next_due.unwrap_or(BETWEEN_TENDS).clamp(Duration::from_millis(1), BETWEEN_TENDS);
        self.tend_at = now + if more { Duration::ZERO } else { pause };
        for Taken { entry, deaths, is_suspect, fields } in tended.taken {
            if let Some(kept) = self.held.get_mut(&entry) {
                // Its own, which it could not keep alive in time: nobody else has it now.
                *kept = now;
            } else {
                self.report.taken_over += 1;
                self.receive(entry, fields, deaths, is_suspect, now);
            }
        }
    }

    /// Has a message. These workers died during its call.
    pub(super) fn receive(&mut self, entry: Entry, fields: Fields, deaths: u32, is_suspect: bool, now: Instant) {
        let mut memory = Memory::of(entry, fields.memory.as_deref());
        memory.failed = memory.failed.saturating_add(deaths);
        memory.is_suspect |= is_suspect;
        self.held.insert(entry, now);
        let ticket = Ticket { entry, memory };
        if memory.failed >= self.settings.max_tries {
            return self.bury(ticket, "the worker that called the service with it died".to_owned());
        }
        let queue = if memory.is_suspect { &mut self.suspects } else { &mut self.ready };
        queue.push_back(Ready { ticket, payload: fields.payload });
    }

    pub(super) fn bury(&mut self, ticket: Ticket, mut reason: String) {
        let cut = (0..=LONGEST_REASON.min(reason.len())).rev().find(|length| reason.is_char_boundary(*length));
        reason.truncate(cut.unwrap_or(0));
        self.report.dead += 1;
        let Ticket { entry, memory } = ticket;
        self.outcomes.push_back(Outcome::Dead { entry, memory, reason });
    }

    pub(super) fn ended(&mut self, ticket: Ticket, verdict: Verdict, now: Instant) {
        self.alone.ended(ticket.entry);
        match verdict {
            Verdict::Succeeded => {
                self.report.succeeded += 1;
                self.outcomes.push_back(Outcome::Done { entry: ticket.entry });
            }
            Verdict::Failed { reason } => self.failed(ticket, reason),
            Verdict::Undecodable { reason } => {
                self.report.failed += 1;
                self.bury(ticket.after_a_failure(), reason);
            }
            Verdict::Rejected { retry_after, holds_up } => {
                self.report.rejected += 1;
                if holds_up {
                    let hold = retry_after.unwrap_or(HOLD).min(LONGEST_HOLD);
                    self.hold_until = self.hold_until.max(now + hold);
                }
                let spread = self.settings.backoff.draw(1, &self.core.random);
                let delay = retry_after.unwrap_or_default().saturating_add(spread);
                let Ticket { entry, memory } = ticket;
                self.outcomes.push_back(Outcome::Again { entry, memory, delay });
            }
        }
    }

    pub(super) fn failed(&mut self, ticket: Ticket, reason: String) {
        self.report.failed += 1;
        let ticket = ticket.after_a_failure();
        if ticket.memory.failed >= self.settings.max_tries {
            return self.bury(ticket, reason);
        }
        let Ticket { entry, mut memory } = ticket;
        memory.delay = self.settings.backoff.draw_after(memory.delay, memory.failed, &self.core.random);
        let delay = memory.delay;
        self.outcomes.push_back(Outcome::Again { entry, memory, delay });
    }
}

impl Ticket {
    fn after_a_failure(mut self) -> Self {
        self.memory.failed = self.memory.failed.saturating_add(1);
        // Its call has ended, and the worker has not.
        self.memory.is_suspect = false;
        self
    }
}
