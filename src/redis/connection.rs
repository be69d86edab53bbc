use super::{
    error::{Fault, FaultKind, Means, RedisError, means},
    server::Server,
};
use crate::{
    Random,
    sync::{Mutex, lock},
};
use ::redis::{Value, aio::MultiplexedConnection, cmd};
use rand::RngExt;
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

/// The one connection to a server, which all calls share. One that is lost or does not answer is replaced in the
/// background.
///
/// The library has a `ConnectionManager` for that. But its calls wait while it connects, and one that no longer answers
/// it keeps: calls here have milliseconds.
#[derive(Clone)]
pub(crate) struct Connection(Arc<Shared>);

struct Shared {
    server: Server,
    random: Random,
    handle: Handle,
    state: Mutex<State>,
    /// Numbers connections and attempts at one. Relaxed: it guards no other memory.
    numbers: AtomicU64,
    /// There has been a connection. Relaxed: it guards no other memory.
    was_up: AtomicBool,
}

enum State {
    Up(Arc<Live>),
    /// There is none, for this reason; a task is about to change that.
    Down(Fault),
}

/// A connection that was made.
struct Live {
    number: u64,
    connection: MultiplexedConnection,
    since: Instant,
    /// The calls that were given up since the last answer. Relaxed like the next: they guard no other memory.
    unanswered: AtomicU32,
    /// Somebody is finding out whether it answers at all.
    in_question: AtomicBool,
}

/// So many calls that were given up, with no answer in between, put a connection in question.
const UNANSWERED: u32 = 3;

/// So long a connection in question has to answer a `PING`. One that is slower than its callers' patience is no reason
/// to connect anew, which makes a busy server busier.
const TO_ANSWER_PING: Duration = Duration::from_millis(200);

/// The pause between two attempts to connect, which doubles up to the longest. Attempts go on when the next one begins:
/// one that is stuck holds up nobody.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A connection that did not last for so long is not replaced without a pause.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// Why a call got no answer.
pub(crate) enum Failure {
    /// There is no connection.
    Down(Fault),
    /// The server, or the connection to it.
    Said(::redis::RedisError),
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Down(fault) => fault,
            Failure::Said(error) => Fault::of(&error),
        }
    }
}

impl Connection {
    /// Connects, and checks the server.
    pub(crate) async fn open(server: Server, random: Random, handle: Handle) -> Result<Self, RedisError> {
        let connection = Self::new(server, random, handle);
        let live = connection.0.clone().attempt().await?;
        connection.0.set_up(live);
        Ok(connection)
    }

    /// Connects in the background.
    pub(crate) fn open_lazily(server: Server, random: Random, handle: Handle) -> Self {
        let connection = Self::new(server, random, handle);
        connection.0.reconnect(Duration::ZERO);
        connection
    }

    fn new(server: Server, random: Random, handle: Handle) -> Self {
        let detail = format_args!("the Redis server at {} has not been reached yet", server.address()).to_string();
        let state = Mutex::new(State::Down(Fault::new(FaultKind::Unreachable, detail)));
        Self(Arc::new(Shared {
            server,
            random,
            handle,
            state,
            numbers: AtomicU64::new(0),
            was_up: AtomicBool::new(false),
        }))
    }

    /// The server that it leads to.
    pub(crate) fn server(&self) -> &Server {
        &self.0.server
    }

    /// Waits for the first connection, for at most so long.
    pub(crate) async fn until_it_was_up(&self, longest: Duration) {
        let until = Instant::now() + longest;
        while !self.0.was_up.load(Ordering::Relaxed) && Instant::now() < until {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Asks anything. Fails at once where there is no connection.
    pub(crate) async fn ask(
        &self,
        ask: impl AsyncFnOnce(&mut MultiplexedConnection) -> Result<Value, ::redis::RedisError>,
    ) -> Result<Value, Failure> {
        let live = match &*lock(&self.0.state) {
            State::Up(live) => live.clone(),
            State::Down(error) => return Err(Failure::Down(error.clone())),
        };
        let asked = Asked { shared: &self.0, live: &live, is_answered: false };
        let answer = ask(&mut live.connection.clone()).await;
        asked.ended(answer.as_ref().err());
        answer.map_err(Failure::Said)
    }
}

/// A call on its way. Dropped before the answer is there, it counts as unanswered.
struct Asked<'a> {
    shared: &'a Arc<Shared>,
    live: &'a Arc<Live>,
    is_answered: bool,
}

impl Asked<'_> {
    fn ended(mut self, error: Option<&::redis::RedisError>) {
        match error.map_or(Means::Alive, means) {
            Means::Silent => {}
            Means::Alive => {
                self.is_answered = true;
                self.live.unanswered.store(0, Ordering::Relaxed);
            }
            Means::Broken => {
                self.is_answered = true;
                self.shared.lose(self.live.number, error.map(Fault::of));
            }
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.is_answered || self.live.unanswered.fetch_add(1, Ordering::Relaxed) + 1 < UNANSWERED {
            return;
        }
        if !self.live.in_question.swap(true, Ordering::Relaxed) {
            let (shared, live) = (Arc::downgrade(self.shared), self.live.clone());
            self.shared.handle.spawn(find_out(shared, live));
        }
    }
}

/// Loses a connection that does not answer a `PING`.
async fn find_out(shared: Weak<Shared>, live: Arc<Live>) {
    let mut connection = live.connection.clone();
    // Whatever it is: it answers.
    let answer = timeout(TO_ANSWER_PING, cmd("PING").query_async::<Value>(&mut connection)).await;
    if answer.is_ok_and(|answer| answer.as_ref().err().map_or(Means::Alive, means) == Means::Alive) {
        live.unanswered.store(0, Ordering::Relaxed);
        live.in_question.store(false, Ordering::Relaxed);
    } else if let Some(shared) = shared.upgrade() {
        shared.lose(live.number, None);
    }
}

impl Shared {
    fn set_up(&self, live: Live) {
        self.was_up.store(true, Ordering::Relaxed);
        *lock(&self.state) = State::Up(Arc::new(live));
    }

    /// One attempt to connect. In a task of its own: what panics in it is an attempt that failed.
    async fn attempt(self: Arc<Self>) -> Result<Live, RedisError> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (server, shared) = (self.server.clone(), Arc::downgrade(&self));
        let lost = move || {
            if let Some(shared) = shared.upgrade() {
                shared.lose(number, None);
            }
        };
        let mut task = JoinSet::new();
        task.spawn_on(async move { server.connect(lost).await }, &self.handle);
        match task.join_next().await {
            Some(Ok(connection)) => Ok(Live {
                number,
                connection: connection?,
                since: Instant::now(),
                unanswered: AtomicU32::new(0),
                in_question: AtomicBool::new(false),
            }),
            Some(Err(error)) => Err(self.unreachable(&error.to_string())),
            None => Err(self.unreachable("there is no attempt")),
        }
    }

    fn unreachable(&self, reason: &str) -> RedisError {
        RedisError::Unreachable { address: self.server.address(), reason: reason.to_owned() }
    }

    /// Gives up the connection of this number, and connects anew. Another one is left alone.
    fn lose(self: &Arc<Self>, number: u64, error: Option<Fault>) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        let live = match &*state {
            State::Up(live) if live.number == number => live.clone(),
            _ => return,
        };
        *state = State::Down(error.unwrap_or_else(|| self.unreachable("the connection was lost").into()));
        drop(state);
        let lived = now.saturating_duration_since(live.since);
        self.reconnect(if lived < SHORT_LIFE { FIRST_PAUSE } else { Duration::ZERO });
    }

    fn reconnect(self: &Arc<Self>, pause: Duration) {
        self.handle.spawn(reconnect(Arc::downgrade(self), pause));
    }

    fn jittered(&self, pause: Duration) -> Duration {
        pause.mul_f64(self.random.with(|random| random.random_range(0.5..1.0)))
    }
}

/// Attempts to connect, until one succeeds or nobody has the connection any more.
async fn reconnect(shared: Weak<Shared>, first: Duration) {
    let mut attempts = JoinSet::new();
    let mut pause = FIRST_PAUSE;
    let wait = |pause: Duration| shared.upgrade().map(|shared| shared.jittered(pause));
    match wait(first) {
        Some(first) if !first.is_zero() => sleep(first).await,
        _ => {}
    }
    loop {
        let Some(strong) = shared.upgrade() else { return };
        attempts.spawn(strong.attempt());
        let Some(length) = wait(pause) else { return };
        let next = Instant::now() + length;
        while let Ok(Some(ended)) = timeout_at(next, attempts.join_next()).await {
            let Some(shared) = shared.upgrade() else { return };
            match ended {
                Ok(Ok(live)) => return shared.set_up(live),
                Ok(Err(error)) => *lock(&shared.state) = State::Down(error.into()),
                Err(_) => {}
            }
        }
        // All have failed, or none has ended yet.
        tokio::time::sleep_until(next).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}
