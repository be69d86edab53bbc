//! Queue disciplines from the literature, and the queue of this crate, in front of a server with few workers.

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

/// The depth of this crate's queue, where the depth is not the subject. Every other setting of [`level`] is the
/// default.
const DEPTH: usize = 1_000;

/// This crate's queue with its defaults.
pub fn level(concurrency: usize) -> Result<load_level::Queue, ConfigError> {
    load_level::Queue::builder(concurrency, DEPTH).build()
}

/// This crate's queue with an adaptive depth.
pub fn adaptive(concurrency: usize) -> Result<load_level::Queue, ConfigError> {
    load_level::Queue::adaptive(concurrency).build()
}

/// A server behind this crate's queue.
pub fn levelled(
    sim: &Sim,
    queue: load_level::Queue,
    server: BackendService,
) -> impl Service<Call, Response = Reply, Error = Error<Failure>> + Clone + use<> {
    watch_queue(sim, &queue);
    LoadLevelLayer::new(queue).typed_error().layer(server)
}

/// Gives each call a deadline, this long after it was made. The context carries it, as a header would between
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

/// Which call is served next, and which is dropped.
#[derive(Clone, Copy)]
pub enum Discipline {
    Fifo,
    /// First in, first out. Drops the calls that would miss their deadline even if they were served now, with a service
    /// time of `service`.
    FifoWithoutTheExpired {
        deadline: Duration,
        service: Duration,
    },
    Lifo,
    /// B. Maurer, "Fail at Scale", ACM Queue 13(8), 2015: drops a call that waited longer than 5 ms, or longer than 100
    /// ms if the queue was empty within the last 100 ms.
    FacebookCodel,
    /// folly's `Codel`: if the shortest wait of a 100 ms interval was above 5 ms, drops the calls of the next interval
    /// that waited longer than 10 ms.
    FollyCodel,
    /// "Fail at Scale" again: drops as above, and serves last in, first out while the queue was not recently empty.
    AdaptiveLifoWithCodel,
    /// An unfair lock: in one of two cases a new, running caller takes a released place before the longest waiter has
    /// woken up.
    Barging,
}

/// M and N in "Fail at Scale".
const SHORT: Duration = ms(5);
const LONG: Duration = ms(100);

/// A queue in front of a server.
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
    /// The longest wait of this call.
    patience: Duration,
    turn: oneshot::Sender<()>,
}

/// The state of folly's algorithm.
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

    /// A worker is free: serves the next call.
    fn next(&self) {
        let now = self.sim.elapsed();
        let mut state = self.state.borrow_mut();
        while let Some(waiting) = state.pop(now) {
            // A dropped waiter is notified when its sender is dropped.
            if !state.drops(&waiting, now) && waiting.turn.send(()).is_ok() {
                return;
            }
        }
        state.free += 1;
    }
}

impl State {
    /// Returns a place in the queue, or `None` if the queue is full.
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

    /// Returns whether the queue has not been empty for a while: a standing queue.
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
                // A turn that has already come.
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
