//! The loop of a worker. One task has all its state; calls run in tasks of their own, so that a call which blocks its
//! thread keeps no message from being kept alive.

mod alone;
mod asking;
mod ends;
mod lanes;

use super::{
    Memory, Settings, Worker, WorkerReport,
    call::Verdict,
    clock::{ServerClock, Starts},
    report::Shared,
    requests::{Outcome, Requests, Tended, WAIT},
};
use crate::{
    Random,
    load_level::durable::{core::Core, entry::Entry, error::BoxError, message::Delivery, scripts::Fields},
    redis::{Connection, Fault},
    sync::Mutex,
};
use alone::Alone;
use futures_util::stream::{FuturesOrdered, FuturesUnordered, StreamExt};
use lanes::{Job, Lanes};
use rand::RngExt;
use std::{
    collections::{HashMap, VecDeque},
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};
use tower::Service;

type Asking<Answer> = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What a worker has, from the start of its run to the end.
struct Run<Decode, S> {
    core: Arc<Core>,
    settings: Settings,
    decode: Arc<Decode>,
    service: Arc<Mutex<S>>,
    shared: Arc<Shared>,
    requests: Requests,
    report: WorkerReport,

    /// Messages that wait for their call.
    ready: VecDeque<Ready>,
    /// And those of them that may have killed a worker.
    suspects: VecDeque<Ready>,
    alone: Alone,
    lanes: Lanes,
    /// Empty: where the ends of calls are put.
    ended: Vec<(Ticket, Verdict)>,
    /// Ends that Redis has not been told of.
    outcomes: VecDeque<Outcome>,
    /// All entries of the stream that this worker has, until Redis has confirmed their end, and when it was last told
    /// that they are worked on.
    held: HashMap<Entry, Instant>,

    taking: FuturesOrdered<Asking<(usize, Result<Vec<(Entry, Fields)>, Fault>)>>,
    /// The most that these may bring.
    being_taken: usize,
    /// The last one brought as many as it might: there are more.
    is_backlogged: bool,
    settling: FuturesUnordered<Asking<(Vec<Outcome>, Result<(), Fault>)>>,
    tending: Option<Asking<Result<Tended, Fault>>>,
    keeping: Option<(Instant, Asking<(Vec<Entry>, Result<Vec<Entry>, Fault>)>)>,

    clock: Option<ServerClock>,
    starts: Option<Starts>,
    /// The service said that it has enough: no call begins before.
    hold_until: Instant,
    make_group: bool,
    tend_at: Instant,
    take_over_at: Instant,
    keep_at: Instant,
    /// After a failure nothing is asked of Redis before.
    ask_at: Instant,
    failures_in_a_row: u32,
    /// Redis has answered everything since then. One that has just come back has heard from nobody for a while, also
    /// not from workers that live: these first get the time to say so.
    well_since: Option<Instant>,
    /// Nothing is taken any more, since then.
    stopping: Option<Instant>,
    /// And no call is in progress any more, since then.
    waiting_since: Option<Instant>,
}

/// A message and its place in the stream.
#[derive(Clone, Copy, Debug)]
struct Ticket {
    entry: Entry,
    memory: Memory,
}

struct Ready {
    ticket: Ticket,
    payload: Vec<u8>,
}

impl<Decode, S> Worker<Decode, S> {
    /// Works until `shutdown` ends; then takes no more, lets the calls in progress end, tells Redis, gives back what it
    /// has not begun, and says what it has done.
    ///
    /// Nothing that Redis does ends it before. At the end it waits for Redis for as long as others wait before they
    /// [take over](super::WorkerBuilder::takeover_after), counted from the end of the last call.
    ///
    /// Dropped, it stops at once, and its calls with it; its messages are taken over by others after that time. It must
    /// be polled, best in a task of its own, for its messages to be kept alive.
    pub async fn run<T, E>(self, shutdown: impl Future<Output = ()>) -> WorkerReport
    where
        Decode: Fn(Delivery) -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Into<BoxError> + 'static,
        S: Service<T> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        let mut run = Run::new(self, Instant::now());
        let mut shutdown = pin!(shutdown);
        let mut timer = pin!(sleep_until(Instant::now()));
        loop {
            let now = Instant::now();
            run.begin_calls(now);
            run.ask(now);
            run.publish();
            if run.is_over(now) {
                break;
            }
            timer.as_mut().reset(run.next_tick(now));
            poll_fn(|cx| run.poll(shutdown.as_mut(), timer.as_mut(), cx)).await;
        }
        run.report.unconfirmed = run.held.len() as u64;
        run.requests.clone().leave().await;
        run.publish();
        run.report
    }
}

impl<Decode, S> Run<Decode, S> {
    fn new(worker: Worker<Decode, S>, now: Instant) -> Self {
        let Worker { core, settings, decode, service, shared } = worker;
        // Not the queue's generator: with the same seed in two processes they would be one consumer.
        let (high, low): (u64, u64) = Random::new().with(|random| (random.random(), random.random()));
        // Of those that take at the same time one waits at most.
        let server = core.server.with_answer_timeout(core.limits.answer_timeout.saturating_add(WAIT));
        let waiting = Connection::open_lazily(server, core.random.clone());
        let consumer = format!("{high:016x}{low:016x}").into();
        Self {
            requests: Requests { core: core.clone(), waiting, consumer },
            report: WorkerReport::default(),
            ready: VecDeque::new(),
            suspects: VecDeque::new(),
            alone: Alone::default(),
            lanes: Lanes::new(),
            ended: Vec::new(),
            outcomes: VecDeque::new(),
            held: HashMap::new(),
            taking: FuturesOrdered::new(),
            being_taken: 0,
            is_backlogged: false,
            settling: FuturesUnordered::new(),
            tending: None,
            keeping: None,
            clock: None,
            starts: settings.pace.map(|pace| Starts::new(pace, now)),
            hold_until: now,
            make_group: true,
            tend_at: now,
            take_over_at: now,
            keep_at: now,
            ask_at: now,
            failures_in_a_row: 0,
            well_since: Some(now),
            stopping: None,
            waiting_since: None,
            core,
            settings,
            decode,
            service,
            shared,
        }
    }

    /// Handles all that has happened, and is ready if anything has.
    fn poll<Shutdown>(&mut self, shutdown: Pin<&mut Shutdown>, timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()>
    where
        Shutdown: Future<Output = ()>,
    {
        let now = Instant::now();
        let mut has_happened = false;
        if self.stopping.is_none() && shutdown.poll(cx).is_ready() {
            self.stopping = Some(now);
            has_happened = true;
        }
        if self.lanes.poll_ended(&mut self.ended, cx) {
            has_happened = true;
            let mut ended = mem::take(&mut self.ended);
            for (ticket, verdict) in ended.drain(..) {
                self.ended(ticket, verdict, now);
            }
            self.ended = ended;
        }
        while let Poll::Ready(Some((outcomes, result))) = self.settling.poll_next_unpin(cx) {
            has_happened = true;
            self.settled(outcomes, result, now);
        }
        while let Poll::Ready(Some((count, result))) = self.taking.poll_next_unpin(cx) {
            has_happened = true;
            self.taken(count, result, now);
        }
        if let Some(Poll::Ready(result)) = self.tending.as_mut().map(|tending| tending.as_mut().poll(cx)) {
            has_happened = true;
            self.tending = None;
            self.tended(result, now);
        }
        if let Some((since, keeping)) = &mut self.keeping {
            let since = *since;
            if let Poll::Ready((held, result)) = keeping.as_mut().poll(cx) {
                has_happened = true;
                self.keeping = None;
                self.kept(since, held, result, now);
            }
        }
        if self.poll_alone(now, cx) {
            has_happened = true;
        }
        if has_happened { Poll::Ready(()) } else { timer.poll(cx) }
    }

    fn is_over(&mut self, now: Instant) -> bool {
        if self.stopping.is_none() || self.lanes.in_flight() > 0 {
            return false;
        }
        let since = *self.waiting_since.get_or_insert(now);
        let has_none = self.ready.is_empty() && self.suspects.is_empty();
        let is_settled = has_none && self.outcomes.is_empty() && self.settling.is_empty();
        let is_quiet = self.taking.is_empty() && self.tending.is_none() && !self.alone.is_marking();
        (is_settled && is_quiet) || now >= since + self.settings.takeover_after
    }

    fn publish(&self) {
        self.shared.update(|readings| {
            readings.in_flight = self.lanes.in_flight();
            readings.held = self.held.len();
            readings.so_far = self.report;
        });
    }

    /// Begins the calls that may begin.
    fn begin_calls<T, E>(&mut self, now: Instant)
    where
        Decode: Fn(Delivery) -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Into<BoxError> + 'static,
        S: Service<T> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        let mut jobs = Vec::new();
        if let Some(Ready { ticket, payload }) = self.alone.take_marked(now) {
            jobs.push(self.job(ticket, payload, now));
        }
        if self.stopping.is_none() && now >= self.hold_until {
            self.begin_alone(now);
            while self.may_begin_beside(jobs.len()) {
                let Some(ready) = self.ready.pop_front() else { break };
                match self.admit(ready, now) {
                    Admitted::Yes(Ready { ticket, payload }) => jobs.push(self.job(ticket, payload, now)),
                    Admitted::TooOld => {}
                    Admitted::NotYet(ready) => {
                        self.ready.push_front(ready);
                        break;
                    }
                }
            }
        }
        self.lanes.begin(jobs, &self.decode, &self.service);
    }

    /// Whether the call of a message may begin now: by its age, and by the pace.
    fn admit(&mut self, ready: Ready, now: Instant) -> Admitted {
        let age = self.age_of(&ready.ticket, now);
        if self.settings.max_age.is_some_and(|longest| age > longest) {
            self.report.dropped_for_age += 1;
            self.outcomes.push_back(Outcome::Dropped { entry: ready.ticket.entry });
            return Admitted::TooOld;
        }
        if self.starts.as_mut().is_some_and(|starts| !starts.begin(now)) {
            return Admitted::NotYet(ready);
        }
        Admitted::Yes(ready)
    }

    fn age_of(&self, ticket: &Ticket, now: Instant) -> Duration {
        self.clock.map_or(Duration::ZERO, |clock| clock.since(ticket.memory.appended_at(), now))
    }

    fn job(&self, ticket: Ticket, payload: Vec<u8>, now: Instant) -> Job {
        let Ticket { memory, .. } = ticket;
        let age = self.age_of(&ticket, now);
        let attempt = memory.failed.saturating_add(1);
        let delivery = Delivery { id: memory.id.to_string(), payload, attempt, may_have_begun: memory.is_suspect, age };
        Job { ticket, delivery }
    }
}

/// Whether a call begins.
enum Admitted {
    Yes(Ready),
    TooOld,
    NotYet(Ready),
}
