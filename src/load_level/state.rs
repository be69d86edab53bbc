//! What a queue decides, with its lock held. Times are in nanoseconds since the queue's origin.

mod arriving;
mod closing;
mod telling;

pub(super) use telling::Refusal;

use super::{
    discipline::{Discipline, Rule},
    pace::{Pace, Share},
    rates::{Rates, Totals},
    readings::Counts,
    waiters::{Answer, CLASSES, Place, Waiters, Wakers},
};
use crate::clock;
use std::{task::Waker, time::Duration};

/// The places in the service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) taken: u32,
    pub(super) limit: u32,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) depth: usize,
    /// More than all can weigh where there is no bound.
    pub(super) max_weight: u128,
    pub(super) max_wait: u64,
    discipline: Discipline,
    /// The discipline, in integers.
    rule: Rule,
    pub(super) by_criticality: bool,
    pub(super) pace: Option<Pace>,
    /// Nobody waits in a closed queue, and each call takes the lock to learn of it.
    is_closed: bool,
    pub(super) waiters: Waiters,
    /// When nobody waited last.
    last_empty: u64,
    /// The latest time that anybody came with. A clock of another thread may be behind.
    latest: u64,
    pub(super) totals: Totals,
    pub(super) rates: Rates,
    pub(super) counts: Counts,
    pub(super) wakers: Wakers,
}

/// Where a call is that was not refused when it came.
pub(super) enum Arrival {
    Admitted(Share),
    Waits(Place),
}

/// Where a place stands.
pub(super) enum Turn {
    Come(Share),
    Refused(Refusal),
    /// It is to be asked again at this time, if not woken before.
    NotBefore(u64),
}

/// A call that comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newcomer {
    pub(super) class: usize,
    pub(super) weight: u64,
    /// When its caller has gone; the end of time where it has no deadline.
    pub(super) deadline: u64,
}

/// It does not ask by itself.
const NEVER: u64 = u64::MAX;

impl State {
    pub(super) fn new(
        depth: usize,
        max_weight: u128,
        max_wait: Duration,
        discipline: Discipline,
        by_criticality: bool,
        pace: Option<Pace>,
    ) -> Self {
        Self {
            depth,
            max_weight,
            max_wait: clock::nanos(max_wait),
            discipline,
            rule: discipline.rule(),
            by_criticality,
            pace,
            is_closed: false,
            waiters: Waiters::new(),
            last_empty: 0,
            latest: 0,
            totals: Totals::default(),
            rates: Rates::new(),
            counts: Counts::default(),
            wakers: Wakers::default(),
        }
    }

    /// The time: never before one that was seen.
    pub(super) fn time_at(&self, now: u64) -> u64 {
        self.latest.max(now)
    }

    /// The same, of a call that comes or goes.
    pub(super) fn turn_to(&mut self, now: u64) -> u64 {
        self.latest = self.time_at(now);
        self.rates.note(self.latest, self.totals);
        self.latest
    }

    pub(super) fn discipline(&self) -> Discipline {
        self.discipline
    }

    pub(super) fn set_discipline(&mut self, discipline: Discipline) {
        self.discipline = discipline;
        self.rule = discipline.rule();
    }

    /// What it does with calls, in words, if so many are let into the service.
    pub(super) fn describe(&self, limit: u32) -> String {
        let Self { depth, discipline, .. } = self;
        let longest = Duration::from_nanos(self.max_wait);
        let mut text = format!("{limit} at once, {depth} waiting for up to {longest:?}, {discipline}");
        if self.by_criticality {
            text.push_str(", the most critical first");
        }
        if self.max_weight < u128::MAX {
            text.push_str(&format!(", of a weight of up to {}", self.max_weight));
        }
        if let Some(pace) = self.pace {
            text.push_str(&format!(", {pace}"));
        }
        if self.is_closed {
            text.push_str(", closed");
        }
        text
    }

    /// The service does more or less from now on.
    pub(super) fn capacity_changes(&mut self, now: u64) {
        self.rates.begin_anew(now, self.totals);
    }

    /// Whether each call has to take the lock.
    pub(super) fn needs_lock(&self) -> bool {
        self.waiters.waiting() > 0 || self.pace.is_some() || self.is_closed
    }

    /// A call comes that does not wait.
    pub(super) fn try_arrive(&mut self, places: &mut Places, now: u64) -> Option<Share> {
        self.totals.arrived = self.totals.arrived.wrapping_add(1);
        self.admit(places, None, now);
        let is_admitted = !self.is_closed && self.waiters.waiting() == 0 && self.has_room(places, now);
        is_admitted.then(|| self.take(places, now))
    }

    /// A call comes: it is admitted, or waits, or is refused.
    pub(super) fn arrive(&mut self, newcomer: Newcomer, places: &mut Places, now: u64) -> Result<Arrival, Refusal> {
        if let Some(share) = self.try_arrive(places, now) {
            return Ok(Arrival::Admitted(share));
        }
        let joined = if self.is_closed { Err(Refusal::Closed) } else { self.join(newcomer, places, now) };
        joined.map(Arrival::Waits).inspect_err(|refusal| self.count(refusal))
    }

    fn newest_first(&self, now: u64) -> bool {
        match self.rule {
            Rule::Lifo => true,
            Rule::Adaptive { interval, .. } => self.is_standing(interval, now),
            Rule::Deadline { .. } | Rule::Fifo => false,
        }
    }

    /// Whether somebody has waited at every moment for so long: the queue has come to stay.
    fn is_standing(&self, interval: u64, now: u64) -> bool {
        self.waiters.waiting() > 0 && now.saturating_sub(self.last_empty) > interval
    }

    fn has_room(&self, places: &Places, now: u64) -> bool {
        places.taken < places.limit && self.pace.is_none_or(|pace| pace.due() <= now)
    }

    fn take(&mut self, places: &mut Places, now: u64) -> Share {
        places.taken += 1;
        self.totals.served = self.totals.served.wrapping_add(1);
        self.pace.as_mut().and_then(|pace| pace.take(now)).unwrap_or(Share::NONE)
    }

    /// Admits those whose turn it is. `asking` is being polled and need not be woken.
    pub(super) fn admit(&mut self, places: &mut Places, asking: Option<Place>, now: u64) {
        while self.has_room(places, now) {
            let Some(place) = self.next(now) else { return };
            if self.is_late(place, now) || self.is_stale(place, now) {
                let refusal = self.too_long_of(place, now);
                self.refuse(place, refusal, asking, now);
            } else {
                let share = self.take(places, now);
                self.answer(place, Answer::Admitted(share), asking, now);
            }
        }
    }

    /// Whose turn it would be.
    fn next(&self, now: u64) -> Option<Place> {
        let newest_first = self.newest_first(now);
        (0..CLASSES)
            .rev()
            .find_map(|class| if newest_first { self.waiters.newest(class) } else { self.waiters.oldest(class) })
    }

    /// Whether one has waited for as long as it may.
    fn is_late(&self, place: Place, now: u64) -> bool {
        self.waiters.get(place).is_some_and(|waiter| now >= waiter.gives_up_at)
    }

    /// Whether one has waited for longer than it may in a queue that has come to stay.
    fn is_stale(&self, place: Place, now: u64) -> bool {
        match self.rule {
            Rule::Adaptive { target, interval } if self.is_standing(interval, now) => {
                self.waiters.get(place).is_some_and(|waiter| now.saturating_sub(waiter.since) > target)
            }
            _ => false,
        }
    }

    fn refuse(&mut self, place: Place, refusal: Refusal, asking: Option<Place>, now: u64) {
        self.count(&refusal);
        self.answer(place, Answer::Refused(refusal), asking, now);
    }

    fn answer(&mut self, place: Place, answer: Answer, asking: Option<Place>, now: u64) {
        let waker = self.waiters.answer(place, answer);
        if asking == Some(place) {
            self.wakers.drop_later(waker);
        } else {
            self.wakers.wake_later(waker);
        }
        self.one_left(now);
    }

    fn one_left(&mut self, now: u64) {
        self.totals.left = self.totals.left.wrapping_add(1);
        if self.waiters.waiting() == 0 {
            self.last_empty = now;
            self.rates.end(now, self.totals);
        }
    }

    /// Asks for a place. The waker is remembered while it waits, in exchange for the one before.
    pub(super) fn poll(&mut self, place: Place, waker: &mut Option<Waker>, places: &mut Places, now: u64) -> Turn {
        self.admit(places, Some(place), now);
        if let Some((answer, waiter)) = self.waiters.take_answer(place) {
            return match answer {
                // It was let in, and polled when nobody waited for it any more.
                Answer::Admitted(share) if now >= waiter.deadline => {
                    let refusal = self.too_long(now.saturating_sub(waiter.since), now);
                    self.count(&refusal);
                    self.end(share, places, now);
                    Turn::Refused(refusal)
                }
                Answer::Admitted(share) => Turn::Come(share),
                Answer::Refused(refusal) => Turn::Refused(refusal),
            };
        }
        let Some(waiter) = self.waiters.get(place) else { crate::shell::polled_after_end() };
        if now >= waiter.gives_up_at {
            let refusal = self.too_long_of(place, now);
            self.count(&refusal);
            let known = self.waiters.leave(place);
            self.wakers.drop_later(known);
            self.one_left(now);
            return Turn::Refused(refusal);
        }
        self.waiters.remember(place, waker);
        let asks_at = match &self.pace {
            // The next one sees to it that it asks when it may begin. The others are woken when they are the next one.
            Some(pace) if places.taken < places.limit && self.next(now) == Some(place) => pace.due(),
            _ if waiter.asks_at > now => waiter.asks_at,
            _ => NEVER,
        };
        self.waiters.asks_at(place, asks_at);
        Turn::NotBefore(waiter.gives_up_at.min(asks_at))
    }

    /// Wakes the next one, if the pace will allow it before it asks by itself.
    pub(super) fn arm(&mut self, places: &Places, now: u64) {
        let Some(pace) = &self.pace else { return };
        if places.taken >= places.limit {
            return;
        }
        let due = pace.due();
        let Some(next) = self.next(now) else { return };
        if self.waiters.get(next).is_some_and(|waiter| waiter.asks_at > due) {
            // One that has not been polled since it was woken will see to it then.
            self.waiters.asks_at(next, due);
            let waker = self.waiters.take_waker(next);
            self.wakers.wake_later(waker);
        }
    }

    /// Gives up a place, and what was granted to it meanwhile.
    pub(super) fn leave(&mut self, place: Place, places: &mut Places, now: u64) {
        match self.waiters.take_answer(place) {
            Some((Answer::Admitted(share), _)) => self.end(share, places, now),
            Some((Answer::Refused(_), _)) => {}
            None => {
                let waker = self.waiters.leave(place);
                self.wakers.drop_later(waker);
                self.counts.cancelled += 1;
                self.one_left(now);
            }
        }
    }

    /// A call has ended. One that the service never saw gives back its share of the pace.
    pub(super) fn end(&mut self, unused: Share, places: &mut Places, now: u64) {
        places.taken = places.taken.saturating_sub(1);
        if let Some(pace) = &mut self.pace {
            pace.give_back(unused);
        }
        self.admit(places, None, now);
    }
}
