//! A queue and a naive model of it, under random sequences of steps.

mod model;
mod rate;

use crate::support::ByHand;
use model::{Call, MILLI, Model, Nanos, Outcome, Pace, Rule};
use proptest::prelude::*;
use rate::Rate;
use std::{task::Poll, time::Duration};
use steadfast::{
    CallContext, Criticality, Rejection,
    load_level::{Acquire, Counts, Discipline, Permit, Queue},
};
use tokio::{
    runtime,
    time::{Instant, advance},
};

/// One step of a sequence.
#[derive(Clone, Copy, Debug)]
enum Step {
    Arrive {
        class: usize,
        weight: u64,
        within: Option<Nanos>,
    },
    TryAcquire,
    /// Polls one of the waiters, woken or not.
    Poll(usize),
    Cancel(usize),
    End(usize),
    Pass(Nanos),
    /// Time passes until the next whole millisecond. Then woken waiters are polled until none is left, and the readings
    /// are compared.
    Settle,
    /// Repeats this number of times: a call arrives, this time passes, and a call ends.
    Work(usize, Nanos),
    SetConcurrency(usize),
    SetDepth(usize),
    SetMaxWeight(u64),
    SetMaxWait(Nanos),
    SetRule(Rule),
    SetPace(Option<Nanos>),
    Close,
}

const QUARTER: Nanos = MILLI / 4;
const CLASSES: [Criticality; 4] =
    [Criticality::Sheddable, Criticality::SheddablePlus, Criticality::Critical, Criticality::CriticalPlus];

fn any_rule() -> impl Strategy<Value = Rule> {
    prop_oneof![
        prop::sample::select(vec![1, 2, 4]).prop_map(Rule::Deadline),
        prop::sample::select(vec![1, 2, 4]).prop_map(Rule::Urgent),
        Just(Rule::Fifo),
        Just(Rule::Lifo),
        (1..5_u64).prop_map(|target| Rule::Adaptive { target: target * MILLI, interval: 10 * MILLI }),
    ]
}

/// The time between two calls.
fn any_pace() -> impl Strategy<Value = Option<Nanos>> {
    prop::option::of(prop::sample::select(vec![1, MILLI / 5, MILLI, 4 * MILLI, 30 * MILLI]))
}

fn any_step() -> impl Strategy<Value = Step> {
    let within = prop::option::weighted(0.7, (0..240_u64).prop_map(|quarters| quarters * QUARTER));
    let arrive =
        (0..4_usize, 0..6_u64, within).prop_map(|(class, weight, within)| Step::Arrive { class, weight, within });
    prop_oneof![
        12 => arrive,
        2 => Just(Step::TryAcquire),
        5 => any::<usize>().prop_map(Step::Poll),
        3 => any::<usize>().prop_map(Step::Cancel),
        6 => any::<usize>().prop_map(Step::End),
        6 => (0..24_u64).prop_map(|quarters| Step::Pass(quarters * QUARTER)),
        6 => Just(Step::Settle),
        1 => (1..40_usize, 0..40_u64).prop_map(|(calls, quarters)| Step::Work(calls, quarters * QUARTER)),
        1 => (1..5_usize).prop_map(Step::SetConcurrency),
        1 => (1..8_usize).prop_map(Step::SetDepth),
        1 => (1..20_u64).prop_map(Step::SetMaxWeight),
        1 => (1..100_u64).prop_map(|quarters| Step::SetMaxWait(quarters * QUARTER)),
        1 => any_rule().prop_map(Step::SetRule),
        1 => any_pace().prop_map(Step::SetPace),
    ]
}

fn discipline(rule: Rule) -> Discipline {
    match rule {
        Rule::Deadline(fourths) => Discipline::by_deadline(fourths as f64 / 4.0),
        Rule::Urgent(fourths) => Discipline::earliest_deadline_with(fourths as f64 / 4.0),
        Rule::Fifo => Discipline::fifo(),
        Rule::Lifo => Discipline::lifo(),
        Rule::Adaptive { target, interval } => {
            Discipline::adaptive_with(Duration::from_nanos(target), Duration::from_nanos(interval))
        }
    }
}

fn configured_pace(interval: Nanos) -> (u64, Duration) {
    (1, Duration::from_nanos(interval))
}

/// A call without an answer so far.
struct Waiting {
    id: usize,
    future: ByHand<Acquire>,
    /// The number of wake-ups that were followed by a poll.
    seen_wakes: usize,
}

/// Whether the queue is adaptive, and its concurrency.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Fixed(usize),
    Adaptive(usize),
}

/// A queue and its model. Each step runs on both, and their results must be equal.
struct Both {
    queue: Queue,
    model: Model,
    begin: Instant,
    waiting: Vec<Waiting>,
    permits: Vec<Permit>,
    arrived: u64,
    served: u64,
    /// The number of calls that were cancelled after their turn had come.
    spared: u64,
}

impl Both {
    fn new(kind: Kind, depth: usize, rule: Rule, by_criticality: bool, interval: Option<Nanos>) -> Self {
        let (concurrency, builder) = match kind {
            Kind::Fixed(concurrency) => (concurrency, Queue::builder(concurrency, depth)),
            Kind::Adaptive(concurrency) => (concurrency, Queue::adaptive(concurrency).depth(depth)),
        };
        let mut builder = builder.discipline(discipline(rule));
        if by_criticality {
            builder = builder.by_criticality();
        }
        if let Some((calls, period)) = interval.map(configured_pace) {
            builder = builder.pace(calls, period);
        }
        let pace = interval.map(|interval| Pace { due: 0, interval });
        let mut model = Model::new(concurrency, depth, rule, by_criticality, pace);
        model.rate = matches!(kind, Kind::Adaptive(_)).then(Rate::default);
        Self {
            queue: builder.build().unwrap(),
            model,
            begin: Instant::now(),
            waiting: Vec::new(),
            permits: Vec::new(),
            arrived: 0,
            served: 0,
            spared: 0,
        }
    }

    async fn step(&mut self, step: Step) {
        let in_service = self.queue.in_service();
        match step {
            Step::Arrive { class, weight, within } => self.arrive(class, weight, within),
            Step::TryAcquire => {
                let permit = self.queue.try_acquire();
                assert_eq!(permit.is_some(), self.model.try_arrive());
                self.permits.extend(permit);
            }
            Step::Poll(any) if !self.waiting.is_empty() => self.poll(any % self.waiting.len()),
            Step::Cancel(any) if !self.waiting.is_empty() => {
                let Waiting { id, future, .. } = self.waiting.remove(any % self.waiting.len());
                drop(future);
                self.spared += u64::from(self.model.cancel(id));
            }
            Step::End(any) if !self.permits.is_empty() => {
                let permit = self.permits.swap_remove(any % self.permits.len());
                drop(permit);
                self.model.end();
            }
            Step::Poll(_) | Step::Cancel(_) | Step::End(_) => {}
            Step::Pass(nanos) => self.pass(nanos).await,
            Step::Settle => self.settle().await,
            Step::Work(calls, each) => {
                for _ in 0..calls {
                    self.arrive(2, 1, None);
                    self.pass(each).await;
                    if !self.permits.is_empty() {
                        drop(self.permits.swap_remove(0));
                        self.model.end();
                    }
                    self.poll_the_woken();
                }
            }
            Step::SetConcurrency(concurrency) => {
                self.queue.set_concurrency(concurrency).unwrap();
                self.model.concurrency = concurrency;
                self.model.admit();
            }
            Step::SetDepth(depth) => {
                self.queue.set_depth(depth).unwrap();
                self.model.depth = depth;
            }
            Step::SetMaxWeight(weight) => {
                self.queue.set_max_weight(weight).unwrap();
                self.model.max_weight = weight;
            }
            Step::SetMaxWait(nanos) => {
                self.queue.set_max_wait(Duration::from_nanos(nanos)).unwrap();
                self.model.max_wait = nanos;
            }
            Step::SetRule(rule) => {
                self.queue.set_discipline(discipline(rule)).unwrap();
                self.model.rule = rule;
            }
            Step::SetPace(interval) => {
                self.queue.set_pace(interval.map(configured_pace)).unwrap();
                self.model.set_pace(interval);
                self.model.admit();
            }
            Step::Close => {
                self.queue.close();
                self.model.close();
            }
        }
        assert_eq!(self.queue.in_service(), self.model.taken);
        assert_eq!(self.queue.is_closed(), self.model.is_closed);
        let most = self.queue.concurrency().max(in_service);
        assert!(self.queue.in_service() <= most, "more calls in the service than the limit");
    }

    fn arrive(&mut self, class: usize, weight: u64, within: Option<Nanos>) {
        let id = self.arrived as usize;
        self.arrived += 1;
        let mut context = CallContext::new().with_criticality(CLASSES[class]);
        if let Some(within) = within {
            context = context.with_deadline(Instant::now() + Duration::from_nanos(within));
        }
        let mut future = ByHand::new(self.queue.acquire_weighing(weight));
        let answer = context.sync_scope(|| future.poll());
        let deadline = within.map(|within| self.model.now + within);
        let expected = self.model.arrive(Call { id, class, weight, deadline });
        if self.compare(answer, expected) {
            self.waiting.push(Waiting { id, future, seen_wakes: 0 });
        }
    }

    fn poll(&mut self, at: usize) {
        let waiting = &mut self.waiting[at];
        waiting.seen_wakes = waiting.future.wakes();
        let (id, answer) = (waiting.id, waiting.future.poll());
        let expected = self.model.poll(id);
        if !self.compare(answer, expected) {
            self.waiting.remove(at);
        }
    }

    /// Returns whether the call still waits.
    fn compare(&mut self, answer: Poll<Result<Permit, Rejection>>, expected: Outcome) -> bool {
        let outcome = match answer {
            Poll::Pending => Outcome::Waits,
            Poll::Ready(Ok(permit)) => {
                self.served += 1;
                self.permits.push(permit);
                Outcome::Served
            }
            Poll::Ready(Err(Rejection::QueueFull(full))) => Outcome::Full { cause: full.cause(), bound: full.bound() },
            Poll::Ready(Err(Rejection::WaitedTooLong(late))) => {
                Outcome::TooLong { waited: late.waited().as_nanos() as u64 }
            }
            Poll::Ready(Err(Rejection::Closed(_))) => Outcome::Closed,
            Poll::Ready(Err(other)) => panic!("{other:?}"),
        };
        assert_eq!(outcome, expected);
        outcome == Outcome::Waits
    }

    async fn pass(&mut self, nanos: Nanos) {
        advance(Duration::from_nanos(nanos)).await;
        tokio::task::yield_now().await;
        self.model.now += nanos;
        assert_eq!(Instant::now().saturating_duration_since(self.begin).as_nanos() as u64, self.model.now);
    }

    async fn settle(&mut self) {
        self.pass(self.model.now.next_multiple_of(MILLI) - self.model.now).await;
        self.poll_the_woken();
        assert!(!self.model.owes_an_answer(), "a waiter was not woken: {:?}", self.model);
        let readings = self.queue.readings();
        let Counts { full, displaced, waited_too_long, cancelled, closed, .. } = readings.not_served;
        assert_eq!([full, displaced, waited_too_long, cancelled, closed], self.model.counts);
        assert_eq!((readings.waiting, readings.weight), (self.model.waiting(), self.model.weight()));
        assert_eq!(readings.waiting, self.waiting.len(), "all others have their answer");
        assert_eq!(readings.depth, self.model.depth_in_force());
        assert_eq!(readings.oldest_age.as_nanos() as u64, self.model.oldest_age());
        let ended = self.served + self.spared + self.model.counts.iter().sum::<u64>();
        assert_eq!(ended + self.waiting.len() as u64, self.arrived, "each has one outcome");
    }

    fn poll_the_woken(&mut self) {
        while let Some(at) = self.waiting.iter().position(|waiting| waiting.future.wakes() > waiting.seen_wakes) {
            self.poll(at);
        }
    }

    /// Drops all calls, and checks that every place is free.
    async fn end(mut self) {
        self.settle().await;
        for Waiting { id, future, .. } in self.waiting.drain(..) {
            drop(future);
            self.model.cancel(id);
        }
        self.permits.clear();
        assert_eq!((self.queue.in_service(), self.queue.readings().waiting), (0, 0));
        self.queue.set_pace(None).unwrap();
        let permits: Vec<_> = std::iter::from_fn(|| self.queue.try_acquire()).collect();
        assert_eq!(permits.len(), if self.model.is_closed { 0 } else { self.queue.concurrency() });
    }
}

proptest! {
    #![proptest_config(crate::support::cases(1000))]

    #[test]
    fn a_queue_behaves_like_its_model(
        kind in prop_oneof![(1..4_usize).prop_map(Kind::Fixed), (1..4_usize).prop_map(Kind::Adaptive)],
        depth in 1..7_usize,
        rule in any_rule(),
        by_criticality in any::<bool>(),
        pace in any_pace(),
        steps in prop::collection::vec(any_step(), 1..120),
        after_the_close in prop::option::of(prop::collection::vec(any_step(), 1..30)),
    ) {
        let clock = runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        clock.block_on(async {
            let mut both = Both::new(kind, depth, rule, by_criticality, pace);
            let close = after_the_close.map(|steps| [Step::Close].into_iter().chain(steps));
            for step in steps.into_iter().chain(close.into_iter().flatten()) {
                both.step(step).await;
            }
            both.end().await;
        });
    }
}
