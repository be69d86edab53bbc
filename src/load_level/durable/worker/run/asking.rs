//! What is asked of Redis, and when.

use super::{
    super::{
        Settings,
        requests::{Outcome, Tending},
    },
    Ready, Run, Ticket,
};
use std::time::Duration;
use tokio::time::Instant;

/// Calls of the script that ends deliveries: the most at a time, and the most ends in each.
const SETTLING: usize = 2;
const MOST_SETTLED: usize = 500;

/// While ends are on their way, no more than so many others wait for the answer, to go together.
const FEW_SETTLED: usize = 250;

/// Calls that take messages: the most at a time of a queue that has many.
const TAKING: usize = 4;

/// The most that are taken at a time: with few the server makes the next answer while this one is read.
const MOST_TAKEN: usize = 250;

/// The most that are taken over at a time, and the most that are kept alive with one call.
const MOST_TAKEN_OVER: usize = 1000;
const MOST_KEPT: usize = 500;

impl<Decode, S> Run<Decode, S> {
    /// Asks of Redis what is to be asked now.
    pub(super) fn ask(&mut self, now: Instant) {
        if self.stopping.is_some() && self.taking.is_empty() && self.tending.is_none() && !self.alone.is_marking() {
            self.report.given_back += (self.ready.len() + self.suspects.len()) as u64;
            let give_back = |Ready { ticket: Ticket { entry, memory }, .. }| Outcome::Again {
                entry,
                memory,
                delay: Duration::ZERO,
            };
            self.outcomes.extend(self.suspects.drain(..).chain(self.ready.drain(..)).map(give_back));
        }
        if now < self.ask_at {
            return;
        }
        self.keep(now);
        while self.settling.len() < SETTLING && self.outcomes.len() > self.settling.len() * FEW_SETTLED {
            let count = self.outcomes.len().min(MOST_SETTLED);
            let mut outcomes: Vec<Outcome> = self.outcomes.drain(..count).collect();
            outcomes.sort_unstable_by_key(Outcome::entry);
            self.settling.push(Box::pin(self.requests.clone().settle(outcomes)));
        }
        if self.stopping.is_some() {
            return;
        }
        self.tend(now);
        // While one answer is read the server makes the next, if it need not wait for messages.
        let most = if self.is_backlogged { TAKING } else { 1 };
        while self.taking.len() < most {
            let count = self.to_take();
            if count == 0 {
                return;
            }
            self.being_taken += count;
            // At most one waits for messages: the others would wait behind it.
            let waits = !self.is_backlogged;
            let take = self.requests.clone().take(count, waits);
            self.taking.push_back(Box::pin(async move { (count, take.await) }));
        }
    }

    pub(super) fn tend(&mut self, now: Instant) {
        if self.tending.is_some() || now < self.tend_at {
            return;
        }
        let idle = self.settings.takeover_after;
        let is_well = self.well_since.is_some_and(|since| now >= since + idle / 2);
        // A take that waits for messages has all the room there is: what is taken over may come on top of it, once.
        let room = (self.room() + self.being_taken).min(MOST_TAKEN_OVER);
        let take_over = (is_well && now >= self.take_over_at && room > 0).then_some((idle, room));
        if take_over.is_some() {
            self.take_over_at = now + idle / 4;
        }
        let tending = Tending { make_group: self.make_group, take_over };
        self.tending = Some(Box::pin(self.requests.clone().tend(tending)));
    }

    /// Says of what is held for long that it is worked on. What comes and goes needs none of that.
    pub(super) fn keep(&mut self, now: Instant) {
        if self.keeping.is_some() || now < self.keep_at {
            return;
        }
        let quarter = self.settings.takeover_after / 4;
        let old = |kept: &Instant| now >= *kept + quarter;
        let entries: Vec<_> =
            self.held.iter().filter(|(_, kept)| old(kept)).map(|(entry, _)| *entry).take(MOST_KEPT).collect();
        // Those that did not fit come at once after these.
        self.keep_at = if entries.len() == MOST_KEPT { now } else { now + quarter / 4 };
        if !entries.is_empty() {
            self.keeping = Some((now, Box::pin(self.requests.clone().keep(entries))));
        }
    }

    pub(super) fn room(&self) -> usize {
        (self.settings.concurrency + self.settings.prefetch).saturating_sub(self.held.len() + self.being_taken)
    }

    /// How many messages to take: none before the clock is known and the group made, none while suspects hold up others,
    /// and few only if there is nothing else.
    pub(super) fn to_take(&self) -> usize {
        let Settings { concurrency, prefetch, .. } = self.settings;
        let is_held_up = !self.suspects.is_empty() || !self.alone.is_off();
        if self.clock.is_none() || self.make_group || is_held_up {
            return 0;
        }
        if self.ready.len() + self.being_taken > (concurrency + prefetch) / 2 {
            return 0;
        }
        let wanted =
            (concurrency + prefetch).saturating_sub(self.lanes.in_flight() + self.ready.len() + self.being_taken);
        let count = wanted.min(self.room()).min(MOST_TAKEN);
        let few = count < ((concurrency + prefetch) / 8).min(MOST_TAKEN);
        if few && !(self.outcomes.is_empty() && self.settling.is_empty()) { 0 } else { count }
    }

    pub(super) fn next_tick(&self, now: Instant) -> Instant {
        let mut next = now + Duration::from_secs(1);
        let mut at = |is: bool, instant: Instant| {
            if is && instant < next {
                next = instant;
            }
        };
        at(now < self.ask_at, self.ask_at);
        at(now >= self.ask_at && self.stopping.is_none() && self.tending.is_none(), self.tend_at);
        at(now >= self.ask_at && self.keeping.is_none() && !self.held.is_empty(), self.keep_at);
        if let Some(until) = self.alone.until() {
            at(now >= self.ask_at, until);
        }
        if self.may_begin_one(now) && self.stopping.is_none() {
            at(now < self.hold_until, self.hold_until);
            if let Some(starts) = &self.starts {
                at(true, starts.next(now));
            }
        }
        next
    }
}
