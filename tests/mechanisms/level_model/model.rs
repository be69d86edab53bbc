//! A naive model of a queue: a list of waiters in the order of their arrival. Each operation searches the whole list.

use super::rate::Rate;
use std::collections::BTreeMap;
use steadfast::error::QueueFullCause;

/// Nanoseconds since the queue was built.
pub type Nanos = u64;

pub const MILLI: Nanos = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A call waits for at most this number of quarters of the time until its deadline.
    Deadline(u64),
    /// As `Deadline`, and the waiter whose time to wait ends first is served first.
    Urgent(u64),
    Fifo,
    Lifo,
    Adaptive {
        target: Nanos,
        interval: Nanos,
    },
}

#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub due: Nanos,
    pub interval: Nanos,
}

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Waits,
    Served,
    Full { cause: QueueFullCause, bound: u64 },
    TooLong { waited: Nanos },
    Closed,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: usize,
    class: usize,
    weight: u64,
    since: Nanos,
    gives_up_at: Nanos,
    deadline: Nanos,
    /// The slot of the pace that an admitted call took: the instant at which the call after it may begin.
    slot: Nanos,
}

/// A call that arrives.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub id: usize,
    pub class: usize,
    pub weight: u64,
    pub deadline: Option<Nanos>,
}

#[derive(Debug)]
pub struct Model {
    pub now: Nanos,
    pub taken: usize,
    pub concurrency: usize,
    pub depth: usize,
    pub max_weight: u64,
    pub max_wait: Nanos,
    pub rule: Rule,
    pub by_criticality: bool,
    pub pace: Option<Pace>,
    pub is_closed: bool,
    /// The service rate of an adaptive queue.
    pub rate: Option<Rate>,
    /// The counts of calls refused by a full queue, displaced, refused after too long a wait, cancelled, and refused by
    /// a closed queue.
    pub counts: [u64; 5],
    waiters: Vec<Waiting>,
    /// The outcomes that the futures of the calls have not returned yet, by the number of the call.
    answered: BTreeMap<usize, (Outcome, Waiting)>,
    /// When the list of waiters was empty last.
    last_empty: Nanos,
}

impl Model {
    pub fn new(concurrency: usize, depth: usize, rule: Rule, by_criticality: bool, pace: Option<Pace>) -> Self {
        Self {
            now: 0,
            taken: 0,
            concurrency,
            depth,
            max_weight: u64::MAX,
            max_wait: 1000 * MILLI,
            rule,
            by_criticality,
            pace,
            is_closed: false,
            rate: None,
            counts: [0; 5],
            waiters: Vec::new(),
            answered: BTreeMap::new(),
            last_empty: 0,
        }
    }

    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    pub fn weight(&self) -> u64 {
        self.waiters.iter().map(|waiting| waiting.weight).sum()
    }

    pub fn oldest_age(&self) -> Nanos {
        self.waiters.iter().map(|waiting| self.now - waiting.since).max().unwrap_or(0)
    }

    /// Returns whether a waiter could be admitted, or a waiter's time to wait has ended.
    pub fn owes_an_answer(&self) -> bool {
        !self.waiters.is_empty() && self.has_room()
            || self.waiters.iter().any(|waiting| self.now >= waiting.gives_up_at)
    }

    fn has_room(&self) -> bool {
        self.taken < self.concurrency && self.pace.is_none_or(|pace| pace.due <= self.now)
    }

    fn take(&mut self) -> Nanos {
        self.taken += 1;
        self.pace.as_mut().map_or(0, |pace| {
            pace.due = pace.due.max(self.now.saturating_sub(5 * MILLI)) + pace.interval;
            pace.due
        })
    }

    /// Returns the depth limit for a newcomer that may wait for this time.
    pub fn depth_for(&self, patience: Nanos) -> usize {
        let backlog_since = if self.waiters.is_empty() { self.now } else { self.last_empty };
        let known = self.rate.as_ref().and_then(|rate| rate.known(backlog_since));
        known.map_or(self.depth, |(served, time)| {
            let calls = u128::from(patience) * u128::from(served) / u128::from(time);
            (calls + 1).min(self.depth as u128) as usize
        })
    }

    /// Returns the depth limit for a newcomer without a deadline.
    pub fn depth_in_force(&self) -> usize {
        if self.newest_first() { self.depth } else { self.depth_for(self.patience(u64::MAX)) }
    }

    /// Returns how long a newcomer with the time `left` until its deadline may wait.
    fn patience(&self, left: Nanos) -> Nanos {
        let patience = match self.rule {
            Rule::Deadline(fourths) | Rule::Urgent(fourths) if left < u64::MAX => left * fourths / 4,
            Rule::Adaptive { target, interval } if self.has_standing_queue(interval) => left.min(target),
            Rule::Adaptive { interval, .. } => left.min(interval),
            _ => left,
        };
        patience.min(self.max_wait)
    }

    pub fn set_pace(&mut self, interval: Option<Nanos>) {
        self.rate = self.rate.as_ref().map(|_| Rate::default());
        let before = self.pace;
        self.pace = interval.map(|interval| match before {
            None => Pace { due: self.now, interval },
            Some(before) if before.due <= self.now => Pace { due: before.due, interval },
            Some(before) => Pace { due: before.due - before.interval + interval, interval },
        });
    }

    /// Returns whether calls have been waiting without a break for longer than the interval.
    fn has_standing_queue(&self, interval: Nanos) -> bool {
        !self.waiters.is_empty() && self.now - self.last_empty > interval
    }

    fn newest_first(&self) -> bool {
        match self.rule {
            Rule::Lifo => true,
            Rule::Adaptive { interval, .. } => self.has_standing_queue(interval),
            Rule::Deadline(_) | Rule::Urgent(_) | Rule::Fifo => false,
        }
    }

    /// Returns the first or the last waiter of a class, in the order of arrival. Under `Urgent`, returns the waiter
    /// whose time to wait ends first or last.
    fn at_the_end(&self, class: usize, newest: bool) -> Option<Waiting> {
        let mut of_class = self.waiters.iter().filter(|waiting| waiting.class == class);
        if let Rule::Urgent(_) = self.rule {
            // Of equal ones `min_by_key` finds the first and `max_by_key` the last.
            let at = |waiting: &&Waiting| waiting.gives_up_at;
            return if newest { of_class.max_by_key(at) } else { of_class.min_by_key(at) }.copied();
        }
        if newest { of_class.next_back() } else { of_class.next() }.copied()
    }

    fn next(&self) -> Option<Waiting> {
        (0..4).rev().find_map(|class| self.at_the_end(class, self.newest_first()))
    }

    fn leave(&mut self, id: usize) -> Waiting {
        let at = self.waiters.iter().position(|waiting| waiting.id == id).unwrap();
        let waiting = self.waiters.remove(at);
        if self.waiters.is_empty() {
            self.last_empty = self.now;
        }
        waiting
    }

    fn answer(&mut self, id: usize, outcome: Outcome) {
        self.count(outcome);
        let waiting = self.leave(id);
        self.answered.insert(id, (outcome, waiting));
    }

    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Full { cause: QueueFullCause::Displaced, .. } => self.counts[1] += 1,
            Outcome::Full { .. } => self.counts[0] += 1,
            Outcome::TooLong { .. } => self.counts[2] += 1,
            Outcome::Closed => self.counts[4] += 1,
            Outcome::Waits | Outcome::Served => {}
        }
    }

    fn too_long(&self, waiting: Waiting) -> Outcome {
        Outcome::TooLong { waited: self.now - waiting.since }
    }

    pub fn admit(&mut self) {
        while self.has_room() {
            let Some(next) = self.next() else { return };
            let stale = match self.rule {
                Rule::Adaptive { target, interval } => {
                    self.has_standing_queue(interval) && self.now - next.since > target
                }
                _ => false,
            };
            if stale || self.now >= next.gives_up_at {
                self.answer(next.id, self.too_long(next));
            } else {
                let slot = self.take();
                if let Some(rate) = &mut self.rate {
                    rate.note(self.last_empty, self.now, self.concurrency as u64);
                }
                self.answer(next.id, Outcome::Served);
                self.answered.get_mut(&next.id).unwrap().1.slot = slot;
            }
        }
    }

    /// A call arrives that does not wait.
    pub fn try_arrive(&mut self) -> bool {
        self.admit();
        let is_served = !self.is_closed && self.waiters.is_empty() && self.has_room();
        if is_served {
            self.take();
        }
        is_served
    }

    /// A call arrives, and its future is polled.
    pub fn arrive(&mut self, call: Call) -> Outcome {
        if self.try_arrive() {
            return Outcome::Served;
        }
        let class = if self.by_criticality { call.class } else { 0 };
        let left = call.deadline.map_or(u64::MAX, |deadline| deadline.saturating_sub(self.now));
        let patience = self.patience(left);
        let refused = if self.is_closed {
            Some(Outcome::Closed)
        } else if patience == 0 {
            Some(Outcome::TooLong { waited: 0 })
        } else if call.weight > self.max_weight {
            Some(Outcome::Full { cause: QueueFullCause::TooHeavy, bound: self.max_weight })
        } else {
            self.refuse_early(class, self.now + patience).or_else(|| {
                let gives_up_at = self.now + patience;
                self.make_room(class, call.weight, gives_up_at)
            })
        };
        if let Some(refused) = refused {
            self.count(refused);
            return refused;
        }
        if self.waiters.is_empty() {
            self.last_empty = self.now;
        }
        self.waiters.push(Waiting {
            id: call.id,
            class,
            weight: call.weight,
            since: self.now,
            gives_up_at: self.now + patience,
            deadline: call.deadline.unwrap_or(u64::MAX),
            slot: 0,
        });
        self.poll(call.id)
    }

    /// Returns whether a waiter would be served before a newcomer.
    fn is_before(&self, waiting: &Waiting, class: usize, gives_up_at: Nanos) -> bool {
        let is_before_its_equals = match self.rule {
            Rule::Urgent(_) => waiting.gives_up_at <= gives_up_at,
            _ => !self.newest_first(),
        };
        waiting.class > class || waiting.class == class && is_before_its_equals
    }

    fn late(&self) -> Option<Waiting> {
        (0..4).find_map(|class| self.at_the_end(class, false).filter(|waiting| self.now >= waiting.gives_up_at))
    }

    fn refuse_early(&mut self, class: usize, gives_up_at: Nanos) -> Option<Outcome> {
        let depth = self.depth_for(gives_up_at - self.now);
        while depth < self.depth
            && self.waiters.iter().filter(|waiting| self.is_before(waiting, class, gives_up_at)).count() >= depth
        {
            let Some(late) = self.late() else {
                return Some(Outcome::Full { cause: QueueFullCause::Deadline, bound: depth as u64 });
            };
            self.answer(late.id, self.too_long(late));
        }
        None
    }

    fn make_room(&mut self, class: usize, weight: u64, gives_up_at: Nanos) -> Option<Outcome> {
        loop {
            if self.fits(weight, |_| true) {
                return None;
            }
            if let Some(late) = self.late() {
                self.answer(late.id, self.too_long(late));
            } else if !self.fits(weight, |waiting| self.is_before(waiting, class, gives_up_at)) {
                let is_deep = self.waiters.len() >= self.depth;
                return Some(if is_deep {
                    Outcome::Full { cause: QueueFullCause::Depth, bound: self.depth as u64 }
                } else {
                    Outcome::Full { cause: QueueFullCause::Weight, bound: self.max_weight }
                });
            } else {
                let goes = (0..4).find_map(|class| self.at_the_end(class, !self.newest_first())).unwrap();
                self.answer(goes.id, Outcome::Full { cause: QueueFullCause::Displaced, bound: self.depth as u64 });
            }
        }
    }

    /// Returns whether a call of this weight fits into the queue beside the waiters for which `stays` is true.
    fn fits(&self, weight: u64, stays: impl Fn(&Waiting) -> bool) -> bool {
        let others: Vec<_> = self.waiters.iter().filter(|waiting| stays(waiting)).collect();
        others.len() < self.depth && others.iter().map(|other| other.weight).sum::<u64>() + weight <= self.max_weight
    }

    pub fn close(&mut self) {
        self.admit();
        self.is_closed = true;
        while let Some(first) = self.waiters.first() {
            self.answer(first.id, Outcome::Closed);
        }
    }

    /// The future of a call is polled.
    pub fn poll(&mut self, id: usize) -> Outcome {
        self.admit();
        if let Some((outcome, waiting)) = self.answered.remove(&id) {
            if outcome == Outcome::Served && self.now >= waiting.deadline {
                self.count(self.too_long(waiting));
                self.give_back(waiting.slot);
                return self.too_long(waiting);
            }
            return outcome;
        }
        let waiting = *self.waiters.iter().find(|waiting| waiting.id == id).unwrap();
        if self.now < waiting.gives_up_at {
            return Outcome::Waits;
        }
        self.leave(id);
        self.count(self.too_long(waiting));
        self.too_long(waiting)
    }

    /// The future of a call is dropped. Returns whether its turn had come.
    pub fn cancel(&mut self, id: usize) -> bool {
        match self.answered.remove(&id) {
            Some((Outcome::Served, waiting)) => {
                self.give_back(waiting.slot);
                true
            }
            Some(_) => false,
            None => {
                self.leave(id);
                self.counts[3] += 1;
                false
            }
        }
    }

    /// An admitted call did not begin. It gives back its slot of the pace, unless another call has taken a slot since.
    fn give_back(&mut self, slot: Nanos) {
        if let Some(pace) = self.pace.as_mut().filter(|pace| pace.due == slot) {
            pace.due = pace.due.saturating_sub(pace.interval);
        }
        self.end();
    }

    /// A call ends.
    pub fn end(&mut self) {
        self.taken -= 1;
        self.admit();
    }
}
