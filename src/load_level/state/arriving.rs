//! Who has a place in the queue, and who loses it.

use super::{NEVER, Newcomer, Places, Refusal, State};
use crate::{
    error::QueueFullCause,
    load_level::waiters::{CLASSES, Place, Waiter},
};

impl State {
    pub(super) fn join(&mut self, newcomer: Newcomer, places: &Places, now: u64) -> Result<Place, Refusal> {
        let patience = self.patience(newcomer.deadline, now);
        if patience == 0 {
            return Err(self.too_long(0, now));
        }
        self.make_room(newcomer, now)?;
        let before = self.waiters.waiting();
        let asks_at = match &self.pace {
            Some(pace) if places.taken < places.limit => pace.due_after(before),
            _ => NEVER,
        };
        let Newcomer { class, weight, deadline } = newcomer;
        let waiter = Waiter { class, weight, since: now, gives_up_at: now.saturating_add(patience), deadline, asks_at };
        let Some(place) = self.waiters.join(waiter) else {
            return Err(self.full(QueueFullCause::Depth, now));
        };
        if before == 0 {
            self.last_empty = now;
            self.rates.begin(now, self.totals);
        }
        self.totals.joined = self.totals.joined.wrapping_add(1);
        Ok(place)
    }

    /// Whether there is no place for a call that weighs 1.
    pub(in crate::load_level) fn is_full(&self, now: u64) -> bool {
        let is_full = self.waiters.waiting() >= self.depth || self.waiters.weight() >= self.max_weight;
        is_full && self.late(now).is_none()
    }

    /// A waiter whose time is up, and who has no place to lose.
    fn late(&self, now: u64) -> Option<Place> {
        (0..CLASSES).find_map(|class| self.waiters.oldest(class).filter(|place| self.is_late(*place, now)))
    }

    /// Sees to it that there is a place for one more, by taking those of the least worthy if they are worth less than
    /// the newcomer. Nobody loses a place where that would not be enough.
    fn make_room(&mut self, newcomer: Newcomer, now: u64) -> Result<(), Refusal> {
        let Newcomer { class, weight, .. } = newcomer;
        if u128::from(weight) > self.max_weight {
            return Err(self.full(QueueFullCause::TooHeavy, now));
        }
        let fits = |waiting: usize, waiting_weight: u128, this: &Self| {
            waiting < this.depth && waiting_weight + u128::from(weight) <= this.max_weight
        };
        if fits(self.waiters.waiting(), self.waiters.weight(), self) {
            return Ok(());
        }
        // Of its own class a newcomer is worth more than the others where the newest come first.
        let below = if self.newest_first(now) { class + 1 } else { class };
        let is_hopeless = |this: &Self| {
            let (waiting, waiting_weight) = (below..CLASSES)
                .map(|class| this.waiters.of_class(class))
                .fold((0_usize, 0_u128), |(count, weight), (more, heavier)| (count + more, weight + heavier));
            !fits(waiting, waiting_weight, this)
        };
        while !fits(self.waiters.waiting(), self.waiters.weight(), self) {
            let refused = match self.late(now) {
                Some(late) => (late, self.too_long_of(late, now)),
                None if is_hopeless(self) => {
                    let is_deep = self.waiters.waiting() >= self.depth;
                    let cause = if is_deep { QueueFullCause::Depth } else { QueueFullCause::Weight };
                    return Err(self.full(cause, now));
                }
                None => match (0..below).find_map(|class| self.least_worthy(class, now)) {
                    Some(place) => (place, self.full(QueueFullCause::Displaced, now)),
                    None => return Err(self.full(QueueFullCause::Depth, now)),
                },
            };
            self.refuse(refused.0, refused.1, None, now);
        }
        Ok(())
    }

    /// Who of a class would be served last.
    fn least_worthy(&self, class: usize, now: u64) -> Option<Place> {
        if self.newest_first(now) { self.waiters.oldest(class) } else { self.waiters.newest(class) }
    }

    /// How long a call may wait that comes now.
    fn patience(&self, deadline: u64, now: u64) -> u64 {
        let left = if deadline == u64::MAX { u64::MAX } else { deadline.saturating_sub(now) };
        self.rule.patience(left, self.newest_first(now)).min(self.max_wait)
    }
}
