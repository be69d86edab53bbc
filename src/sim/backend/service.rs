//! The service of a backend.
//!
//! | a call is | becomes | when |
//! |---|---|---|
//! | new | answered | its key is dead, or there is an outage: it fails at once |
//! | new | refused | all servers are busy and the queue is full |
//! | new | working | a server is free |
//! | new | waiting | all servers are busy, and the queue has room |
//! | waiting | working | a server becomes free for it |
//! | waiting | abandoned | its caller goes, and the backend notices |
//! | working | answered | its time ends, and its caller still waits |
//! | working | wasted | its time ends, and its caller has gone |
//! | working | abandoned | its caller goes, and the backend notices |
//!
//! In this table, a call is working from the moment at which it gets a server. If the backend hangs at that moment, the
//! call begins only when the hang ends, and `Averages::working` counts it only from then on.

use super::{Backend, BackendCounts, counts::Averages};
use crate::sim::{
    Call, Failure, Reply, Sim,
    kernel::{Draws, Stream},
};
use rand::RngExt;
use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
};
use tokio::sync::oneshot;
use tower::Service;

/// The tower service of a backend. Clones share one backend.
#[derive(Clone)]
pub struct BackendService {
    sim: Sim,
    random: Stream,
    spec: Rc<Backend>,
    state: Rc<RefCell<BackendState>>,
}

#[derive(Default)]
struct BackendState {
    /// Servers that have a call. While the backend hangs, they may not have begun it.
    busy: usize,
    /// The waiting calls, in the order of their arrival. A message through a call's sender hands a server to that call.
    waiting: VecDeque<oneshot::Sender<()>>,
    /// The calls in the backend, including those that arrived in the warm-up. `counts.in_flight` leaves the latter out.
    in_flight: u64,
    averages: Averages,
    counts: BackendCounts,
}

/// When a call gets a server.
enum Turn {
    Now,
    Later(oneshot::Receiver<()>),
}

impl BackendService {
    pub(in crate::sim) fn new(sim: Sim, spec: Backend) -> Self {
        let counts = BackendCounts { name: spec.name.clone(), ..BackendCounts::default() };
        let state = BackendState { counts, ..BackendState::default() };
        let random = sim.stream(Draws::Backend);
        Self { sim, random, spec: Rc::new(spec), state: Rc::new(RefCell::new(state)) }
    }

    /// Returns the counts up to now.
    pub fn counts(&self) -> BackendCounts {
        let mut state = self.state.borrow_mut();
        self.look(&mut state);
        let averages = &state.averages;
        let bounded = self.spec.servers != usize::MAX;
        BackendCounts {
            mean_busy: averages.busy(),
            mean_waiting: averages.waiting(),
            utilization: bounded.then(|| averages.busy() / self.spec.servers as f64),
            ..state.counts.clone()
        }
    }

    /// Returns whether calls that arrive now count.
    fn counts_now(&self) -> bool {
        self.sim.elapsed() >= self.sim.counted().start
    }

    /// Adds the present numbers to the averages. Must be called before any of them changes.
    fn look(&self, state: &mut BackendState) {
        let counted = self.sim.counted();
        let now = self.sim.elapsed();
        // At the end of the warm-up, the maximum starts again, from the number of calls in flight.
        if now >= counted.start && state.averages.until < counted.start {
            state.counts.most_in_flight = state.in_flight;
        }
        let waiting = state.waiting.len();
        state.averages.look(now, &counted, waiting);
    }

    pub(in crate::sim) fn spec(&self) -> &Backend {
        &self.spec
    }

    /// Processes one call. Returns `None` if the backend abandons it.
    async fn work(
        self,
        turn: Turn,
        answer: &mut oneshot::Sender<Result<Reply, Failure>>,
    ) -> Option<Result<Reply, Failure>> {
        let _server = self.server(turn, answer).await?;
        // Hangs may overlap, and one may begin when another ends.
        while let Some(rest) = self.spec.rest_of_hang(self.sim.elapsed()) {
            self.sim.sleep(rest).await;
        }
        if self.spec.notices_cancellation && answer.is_closed() {
            return None;
        }
        let in_flight = self.state.borrow().in_flight;
        let latency = self.random.draw(|random| self.spec.latency.draw(in_flight, random));
        let latency = self.spec.slowed(latency, self.sim.elapsed());
        let mut done = pin!(self.sim.sleep(latency));
        let gone = poll_fn(|cx| {
            if self.spec.notices_cancellation && answer.poll_closed(cx).is_ready() {
                return Poll::Ready(true);
            }
            done.as_mut().poll(cx).map(|()| false)
        });
        self.works(true);
        let gone = gone.await;
        self.works(false);
        if gone {
            return None;
        }
        let failing = self.spec.failing;
        let failed = failing > 0.0 && self.random.draw(|random| random.random_bool(failing));
        Some(if failed { Err(Failure::Failed) } else { Ok(Reply) })
    }

    /// Records that a server begins or ends a call.
    fn works(&self, begins: bool) {
        let mut state = self.state.borrow_mut();
        self.look(&mut state);
        let working = &mut state.averages.working;
        *working = if begins { *working + 1 } else { *working - 1 };
    }

    /// Waits for a server. Returns `None` if the caller goes before a server is free, and the backend notices.
    async fn server(&self, turn: Turn, answer: &mut oneshot::Sender<Result<Reply, Failure>>) -> Option<Server<'_>> {
        let Turn::Later(mut turn) = turn else { return Some(Server(self)) };
        // Polls the turn first: a server that was handed over must not be lost.
        let gone = poll_fn(|cx| match Pin::new(&mut turn).poll(cx) {
            Poll::Ready(_) => Poll::Ready(false),
            Poll::Pending if self.spec.notices_cancellation => answer.poll_closed(cx).map(|()| true),
            Poll::Pending => Poll::Pending,
        });
        if gone.await {
            // Waiting => Abandoned. After this drop, no message can hand a server to this call.
            drop(turn);
            let mut state = self.state.borrow_mut();
            self.look(&mut state);
            state.waiting.retain(|waiting| !waiting.is_closed());
            return None;
        }
        Some(Server(self))
    }
}

impl BackendState {
    /// Takes a free server, or a place in the queue.
    fn enter(&mut self, servers: usize) -> Turn {
        self.in_flight += 1;
        self.counts.most_in_flight = self.counts.most_in_flight.max(self.in_flight);
        if self.busy < servers {
            self.busy += 1;
            return Turn::Now;
        }
        let (sender, receiver) = oneshot::channel();
        self.waiting.push_back(sender);
        Turn::Later(receiver)
    }
}

/// A busy server. When dropped, it goes to the next waiting call, or becomes free if no call waits.
struct Server<'a>(&'a BackendService);

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.borrow_mut();
        self.0.look(&mut state);
        loop {
            let next =
                if self.0.spec.queue.newest_first { state.waiting.pop_back() } else { state.waiting.pop_front() };
            let Some(waiting) = next else {
                state.busy -= 1;
                return;
            };
            // Waiting => Working
            if waiting.send(()).is_ok() {
                return;
            }
        }
    }
}

impl Service<Call> for BackendService {
    type Response = Reply;
    type Error = Failure;
    type Future = Answer;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Answer {
        let (mut sender, receiver) = oneshot::channel();
        let counts = u64::from(self.counts_now());
        let mut state = self.state.borrow_mut();
        self.look(&mut state);
        state.counts.received += counts;
        // New => Answered
        if self.spec.fails_at_once(call.key, self.sim.elapsed()) {
            state.counts.answered += counts;
            return Answer(Err(Failure::Failed));
        }
        // New => Refused
        if state.busy >= self.spec.servers && state.waiting.len() >= self.spec.queue.bound {
            state.counts.refused += counts;
            return Answer(Err(Failure::Overloaded));
        }
        // New => Working | Waiting
        state.counts.in_flight += counts;
        let turn = state.enter(self.spec.servers);
        drop(state);

        let backend = self.clone();
        self.sim.spawn_untimed(async move {
            let result = backend.clone().work(turn, &mut sender).await;
            let mut state = backend.state.borrow_mut();
            state.in_flight -= 1;
            state.counts.in_flight -= counts;
            // Working => Answered | Wasted | Abandoned. Also counts the calls that went from Waiting to Abandoned.
            let fate = match result.map(|result| sender.send(result)) {
                Some(Ok(())) => &mut state.counts.answered,
                Some(Err(_)) => &mut state.counts.wasted,
                None => &mut state.counts.abandoned,
            };
            *fate += counts;
        });
        Answer(Ok(receiver))
    }
}

/// The future of a backend's answer.
pub struct Answer(Result<oneshot::Receiver<Result<Reply, Failure>>, Failure>);

impl Future for Answer {
    type Output = Result<Reply, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Err(failure) => Poll::Ready(Err(*failure)),
            // While the caller waits, the sender is dropped without an answer only when the run ends.
            Ok(receiver) => Pin::new(receiver).poll(cx).map(|result| result.unwrap_or(Err(Failure::Failed))),
        }
    }
}
