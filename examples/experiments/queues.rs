//! Queue disciplines as the literature has them, and the queue of this crate, in front of a server of few hands.

use crate::{
    lab::{Client, ms, watch_queue},
    textbook::{self, Promise},
};
use rand::{RngExt, rngs::Xoshiro256PlusPlus};
use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use steadfast::{
    CallContext, ConfigError, Error,
    load_level::{self, LoadLevelLayer},
    sim::{BackendService, Call, Failure, Reply, Sim},
};
use tokio::{sync::oneshot, time::Instant};
use tower::{Layer, Service, ServiceExt};

/// The deadline of every call of E6, counted from its arrival.
pub const DEADLINE: Duration = ms(100);

/// How many may wait in the queue of this crate, wherever it is not the depth that is looked at. Everything else is as
/// it is by default, in every experiment.
const DEPTH: usize = 1_000;

/// The queue of this crate as it is by default.
pub fn level(concurrency: usize) -> Result<load_level::Queue, ConfigError> {
    load_level::Queue::builder(concurrency, DEPTH).build()
}

/// The queue of this crate that finds its depth by itself.
pub fn adaptive(concurrency: usize) -> Result<load_level::Queue, ConfigError> {
    load_level::Queue::adaptive(concurrency).build()
}

/// A server behind the queue of this crate.
pub fn levelled(
    sim: &Sim,
    queue: load_level::Queue,
    server: BackendService,
) -> impl Service<Call, Response = Reply, Error = Error<Failure>> + Clone + use<> {
    watch_queue(sim, &queue);
    LoadLevelLayer::new(queue).typed_error().layer(server)
}

/// Sends each call with a deadline, this long after it was made. The context carries it, as a header would between
/// processes.
#[derive(Clone)]
pub struct WithDeadline<S>(pub Duration, pub S);

impl<S: Client> Service<Call> for WithDeadline<S> {
    type Response = Reply;
    type Error = S::Error;
    type Future = Promise<Reply, S::Error>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Self(deadline, service) = self.clone();
        let context = CallContext::current().with_deadline(Instant::now() + deadline);
        Box::pin(context.scope(service.oneshot(call)))
    }
}

/// Who is served next, and who not at all.
#[derive(Clone, Copy)]
pub enum Discipline {
    Fifo,
    /// First in, first out, without the calls that would miss their deadline even if they were served now, in the time
    /// of `service`.
    FifoWithoutTheExpired {
        deadline: Duration,
        service: Duration,
    },
    Lifo,
    /// B. Maurer, "Fail at Scale", ACM Queue 13(8), 2015: who waits longer than 5 ms is dropped, or longer than 100 ms
    /// if the queue was empty within the last 100 ms.
    FacebookCodel,
    /// folly's `Codel`: if the shortest wait of an interval of 100 ms was above 5 ms, a call that waits longer than
    /// 10 ms is dropped in the next one.
    FollyCodel,
    /// "Fail at Scale" again: the same drops, and last in, first out while the queue was not empty of late.
    AdaptiveLifoWithCodel,
    /// A lock that is not fair: who has just come and is awake takes what is given back before the one that has waited
    /// for longest has woken up, one time of two.
    Barging,
}

/// "Fail at Scale": M and N.
const SHORT: Duration = ms(5);
const LONG: Duration = ms(100);

/// A queue before a server.
#[derive(Clone)]
pub struct Queued {
    sim: Sim,
    server: BackendService,
    state: Rc<RefCell<State>>,
}

struct State {
    discipline: Discipline,
    waiting: VecDeque<Waiting>,
    bound: usize,
    free: usize,
    /// When the queue was last empty.
    last_empty: Duration,
    folly: Folly,
    random: Xoshiro256PlusPlus,
}

struct Waiting {
    since: Duration,
    /// How long it may wait.
    patience: Duration,
    turn: oneshot::Sender<()>,
}

/// What folly's algorithm remembers.
#[derive(Default)]
struct Folly {
    interval_end: Duration,
    shortest_wait: Duration,
    overloaded: bool,
    reset: bool,
}

impl Queued {
    /// Makes a queue of at most `bound` calls in front of a server that serves `hands` calls at a time.
    pub fn new(sim: &Sim, discipline: Discipline, bound: usize, hands: usize, server: BackendService) -> Self {
        let state = State {
            discipline,
            waiting: VecDeque::new(),
            bound,
            free: hands,
            last_empty: Duration::ZERO,
            folly: Folly::default(),
            random: textbook::random(0),
        };
        Self { sim: sim.clone(), server, state: Rc::new(RefCell::new(state)) }
    }

    /// The server has a hand free: whose turn is it?
    fn next(&self) {
        let now = self.sim.elapsed();
        let mut state = self.state.borrow_mut();
        while let Some(waiting) = state.pop(now) {
            // A dropped waiter learns of it, because its sender is dropped.
            if !state.drops(&waiting, now) && waiting.turn.send(()).is_ok() {
                return;
            }
        }
        state.free += 1;
    }
}

impl State {
    /// A place in the queue, or `None` if that is full.
    fn push(&mut self, now: Duration) -> Option<oneshot::Receiver<()>> {
        self.note_if_empty(now);
        if self.waiting.len() >= self.bound {
            return None;
        }
        let patience = if self.standing(now) { SHORT } else { LONG };
        let (turn, receiver) = oneshot::channel();
        self.waiting.push_back(Waiting { since: now, patience, turn });
        Some(receiver)
    }

    fn pop(&mut self, now: Duration) -> Option<Waiting> {
        self.note_if_empty(now);
        match self.discipline {
            Discipline::Lifo => self.waiting.pop_back(),
            Discipline::AdaptiveLifoWithCodel if self.standing(now) => self.waiting.pop_back(),
            Discipline::Barging if self.random.random_bool(0.5) => self.waiting.pop_back(),
            _ => self.waiting.pop_front(),
        }
    }

    fn drops(&mut self, waiting: &Waiting, now: Duration) -> bool {
        let wait = now - waiting.since;
        match self.discipline {
            Discipline::Fifo | Discipline::Lifo | Discipline::Barging => false,
            Discipline::FifoWithoutTheExpired { deadline, service } => wait + service > deadline,
            Discipline::FacebookCodel | Discipline::AdaptiveLifoWithCodel => wait > waiting.patience,
            Discipline::FollyCodel => self.folly.drops(wait, now),
        }
    }

    fn note_if_empty(&mut self, now: Duration) {
        if self.waiting.is_empty() {
            self.last_empty = now;
        }
    }

    /// A queue that was not empty for a while has come to stay.
    fn standing(&self, now: Duration) -> bool {
        self.last_empty + LONG < now
    }
}

impl Folly {
    fn drops(&mut self, wait: Duration, now: Duration) -> bool {
        if now > self.interval_end && !self.reset {
            self.reset = true;
            self.interval_end = now + LONG;
            self.overloaded = self.shortest_wait > SHORT;
        }
        if self.reset {
            self.reset = false;
            self.shortest_wait = wait;
            return false;
        }
        self.shortest_wait = self.shortest_wait.min(wait);
        self.overloaded && wait > 2 * SHORT
    }
}

impl Service<Call> for Queued {
    type Response = Reply;
    type Error = Failure;
    type Future = Promise<Reply, Failure>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let queued = self.clone();
        let turn = {
            let mut state = queued.state.borrow_mut();
            if state.free == 0 {
                state.push(queued.sim.elapsed())
            } else {
                state.free -= 1;
                // A turn that has come already.
                let (turn, receiver) = oneshot::channel();
                let _ = turn.send(());
                Some(receiver)
            }
        };
        Box::pin(async move {
            let Some(turn) = turn else { return Err(Failure::Overloaded) };
            turn.await.map_err(|_| Failure::Overloaded)?;
            let result = queued.server.clone().oneshot(call).await;
            queued.next();
            result
        })
    }
}
