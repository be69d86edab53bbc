//! Compares the table of a `PerKey` with a simple model: a list of entries, and the documented rule for removing one.

use super::{Breakers, breakers, fragile};
use crate::support::{ms, secs};
use proptest::prelude::*;
use std::time::Duration;
use steadfast::circuit_breaker::{Breaker, BreakerState};
use tokio::{
    runtime,
    time::{Instant, advance},
};

const KEYS: u64 = 12;
const OPEN_FOR: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
enum Step {
    Succeed(u64),
    Fail(u64),
    /// Keeps a handle of this key.
    Hold(u64),
    /// Drops all kept handles.
    Release,
    /// Advances the clock by this number of milliseconds.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS;
    prop_oneof![
        6 => key.clone().prop_map(Step::Succeed),
        3 => key.clone().prop_map(Step::Fail),
        1 => key.prop_map(Step::Hold),
        1 => Just(Step::Release),
        2 => (1..4_000_u64).prop_map(Step::Wait),
        1 => (20_000..50_000_u64).prop_map(Step::Wait),
    ]
}

struct Known {
    key: u64,
    used: Instant,
    /// The last use, or the last search that could not remove the entry. The entry with the earliest turn is the next
    /// candidate for removal.
    turn: Instant,
    /// When the open time of the circuit ends. `None` if the circuit is closed. It opens at the first failure.
    open_until: Option<Instant>,
    held: bool,
}

struct Model {
    known: Vec<Known>,
    max_keys: usize,
    idle_after: Duration,
    overflowed: u64,
    overflow_is_open: bool,
}

impl Model {
    fn find(&mut self, key: u64) -> Option<&mut Known> {
        self.known.iter_mut().find(|known| known.key == key)
    }

    /// Whether the entry can be removed to make room for a new key.
    fn may_go(&self, known: &Known, now: Instant) -> bool {
        let unused = now.saturating_duration_since(known.used) >= self.idle_after;
        !known.held && known.open_until.is_none_or(|until| until <= now && unused)
    }

    fn first(&self) -> Option<usize> {
        (0..self.known.len()).min_by_key(|index| self.known[*index].turn)
    }

    /// Gives the key a place, if there is one.
    fn arrive(&mut self, key: u64, now: Instant) {
        if let Some(known) = self.find(key) {
            known.used = now;
            known.turn = now;
            return;
        }
        // Before it makes a mechanism for the key, the table searches for an entry that can be removed. It removes none
        // yet.
        if self.known.len() == self.max_keys && self.look(now).is_none() {
            self.overflowed += 1;
            return;
        }
        // Each new key visits up to two entries whose turn is `idle_after` ago or earlier, even if there is room.
        for _ in 0..2 {
            let Some(index) = self.first() else { break };
            let known = &self.known[index];
            if now.saturating_duration_since(known.turn) < self.idle_after {
                break;
            }
            let old = now.saturating_duration_since(known.used) >= self.idle_after;
            if old && self.may_go(known, now) {
                self.known.remove(index);
            } else {
                self.known[index].turn = now;
                let last = self.known.remove(index);
                self.known.push(last);
            }
        }
        if self.known.len() == self.max_keys {
            match self.look(now) {
                Some(index) => drop(self.known.remove(index)),
                None => {
                    self.overflowed += 1;
                    return;
                }
            }
        }
        self.known.push(Known { key, used: now, turn: now, open_until: None, held: false });
    }

    /// Finds the first entry that can be removed. Moves the entries before it to the end, with a turn that is now.
    fn look(&mut self, now: Instant) -> Option<usize> {
        self.known.sort_by_key(|known| known.turn);
        let found = self.known.iter().position(|known| self.may_go(known, now));
        let in_use = found.unwrap_or(self.known.len());
        let mut waiting: Vec<Known> = self.known.drain(..in_use).collect();
        waiting.iter_mut().for_each(|known| known.turn = known.turn.max(now));
        self.known.append(&mut waiting);
        found.map(|_| 0)
    }
}

/// Uses a key in the table and in the model.
fn arrive(breakers: &Breakers, model: &mut Model, key: u64) -> Breaker {
    model.arrive(key, Instant::now());
    breakers.handle(key)
}

async fn compare(max_keys: usize, idle_after: Duration, steps: Vec<Step>) {
    let builder = fragile().open_for(OPEN_FOR).max_open_for(OPEN_FOR).probes(1);
    let breakers = breakers(builder).max_keys(max_keys).idle_after(idle_after);
    let mut model = Model { known: Vec::new(), max_keys, idle_after, overflowed: 0, overflow_is_open: false };
    let mut held = Vec::new();
    for step in steps {
        // After 2 ms, two uses have different instants. The pause after a search that found no entry has ended, too: it
        // lasts for 10 us per entry.
        advance(ms(2)).await;
        match step {
            Step::Succeed(key) => {
                let breaker = arrive(&breakers, &mut model, key);
                let admitted = breaker.try_acquire().map(|permit| permit.success()).is_ok();
                let now = Instant::now();
                match model.find(key) {
                    Some(known) => {
                        assert_eq!(admitted, known.open_until.is_none_or(|until| until <= now), "{key}");
                        if admitted {
                            known.open_until = None;
                        }
                    }
                    None => model.overflow_is_open &= !admitted,
                }
            }
            Step::Fail(key) => {
                let breaker = arrive(&breakers, &mut model, key);
                let admitted = breaker.try_acquire().map(|permit| permit.failure()).is_ok();
                let now = Instant::now();
                match model.find(key) {
                    Some(known) => {
                        assert_eq!(admitted, known.open_until.is_none_or(|until| until <= now), "{key}");
                        if admitted {
                            known.open_until = Some(now + OPEN_FOR);
                        }
                    }
                    None => model.overflow_is_open |= admitted,
                }
            }
            Step::Hold(key) => {
                held.push(arrive(&breakers, &mut model, key));
                model.find(key).into_iter().for_each(|known| known.held = true);
            }
            Step::Release => {
                held.clear();
                model.known.iter_mut().for_each(|known| known.held = false);
            }
            Step::Wait(millis) => advance(ms(millis)).await,
        }
        for key in 0..KEYS {
            let expected = model.find(key).map(|known| known.open_until.is_some());
            let found = breakers.get(&key).map(|breaker| breaker.state() == BreakerState::Open);
            assert_eq!(found, expected, "{key} after {step:?}");
        }
        assert_eq!((breakers.len(), breakers.overflowed()), (model.known.len(), model.overflowed), "after {step:?}");
        let shared = breakers.overflow().unwrap().state() == BreakerState::Open;
        assert_eq!(shared, model.overflow_is_open, "after {step:?}");
    }
}

proptest! {
    #[test]
    fn the_table_keeps_and_forgets_the_same_keys_as_a_list(
        max_keys in 1..6_usize,
        idle_after in 1..30_u64,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(compare(max_keys, secs(idle_after), steps));
    }
}
