//! The shared connection to a server, and its calls. `state` has its states, and `keeper` the task that reconnects.

use super::{
    duty::OnDuty,
    error::{Fault, FaultKind, Means, RedisError, means},
    keeper::{FIRST_PAUSE, Keeping, Lost, reconnect},
    server::Server,
    state::{ConnectionState, Keeper, Live, Outlook},
};
use crate::{
    random::Random,
    sync::{Mutex, lock},
};
use ::redis::{Value, aio::MultiplexedConnection, cmd};
use rand::RngExt;
use std::{
    mem,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

/// The one connection to a server, which all calls share. If it breaks or does not answer, it is replaced in the
/// background.
///
/// It belongs to no runtime. Its tasks run in the runtime of the call or of the task that spawned them. If a runtime
/// ends and takes the connection with it, the next call reconnects in the runtime that this call runs in.
///
/// The `redis` crate has a `ConnectionManager`. Its calls wait while it connects, and it keeps a connection that no
/// longer answers. Some calls here, such as those of rate limits, have only milliseconds, so they must fail at once.
#[derive(Clone)]
pub(crate) struct Connection(Arc<ConnectionShared>);

pub(super) struct ConnectionShared {
    server: Server,
    random: Random,
    pub(super) state: Mutex<ConnectionState>,
    /// Wakes the calls that wait for another state.
    changed: Notify,
    /// The next number. Each attempt to connect and each keeper takes one. A connection has the number of its attempt.
    /// Relaxed: it guards no other memory.
    next_number: AtomicU64,
    /// There has been a connection. Relaxed: it guards no other memory.
    was_up: AtomicBool,
}

fn unreachable(address: String, reason: &str) -> RedisError {
    RedisError::Unreachable { address, reason: reason.to_owned() }
}

/// After this many consecutive calls without an answer, the connection gets a `PING`.
const MAX_UNANSWERED: u32 = 3;

/// The time limit for the answer to a `PING`. A connection that answers it, but answers calls too late for their
/// callers, is kept: reconnecting would make a busy server busier.
const PING_TIMEOUT: Duration = Duration::from_millis(200);

/// A connection that lived for less than this is replaced after a pause.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// Why a call has no result. Unlike this error, a [`Fault`] contains the reason in a form that can be stored, and this
/// crate's [`RedisError`] is the error of an attempt to connect.
pub(crate) enum Failure {
    /// There is no connection.
    Down(Fault),
    /// An error from the server, or from the connection to it.
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
    /// Connects and checks the server.
    pub(crate) async fn open(server: Server, random: Random) -> Result<Self, RedisError> {
        let connection = Self::new(server, random);
        let live = connection.0.attempt().await?;
        connection.0.change(|_| Some(ConnectionState::Up(Arc::new(live))));
        Ok(connection)
    }

    /// Connects in the background. Outside of a tokio runtime the first call connects.
    pub(crate) fn open_lazily(server: Server, random: Random) -> Self {
        let connection = Self::new(server, random);
        if Handle::try_current().is_ok() {
            let number = connection.0.take_number();
            let keeper = Keeper::new(number, Instant::now());
            connection.0.change(|_| Some(ConnectionState::Down(unreached(connection.server()), keeper)));
            connection.0.keep(number, Duration::ZERO);
        }
        connection
    }

    fn new(server: Server, random: Random) -> Self {
        let state = Mutex::new(ConnectionState::Left(unreached(&server)));
        let (changed, next_number, was_up) = Default::default();
        Self(Arc::new(ConnectionShared { server, random, state, changed, next_number, was_up }))
    }

    /// Returns the server of this connection.
    pub(crate) fn server(&self) -> &Server {
        &self.0.server
    }

    /// Waits for the first connection, at most for `longest`.
    pub(crate) async fn until_it_was_up(&self, longest: Duration) {
        let until = Instant::now() + longest;
        while !self.0.was_up.load(Ordering::Relaxed) && Instant::now() < until {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends a request. Without a connection, a call outside of a runtime fails at once. So does a call in the state
    /// `Down`, while a keeper reconnects.
    ///
    /// No keeper works if there was no runtime yet, or if the keeper's runtime has ended or stalled. Then the call
    /// spawns a new keeper, and the state becomes `Moving`. In `Moving`, this call and later calls wait for the first
    /// attempt of that keeper, at most for the connect timeout.
    pub(crate) async fn ask(
        &self,
        ask: impl AsyncFnOnce(&mut MultiplexedConnection) -> Result<Value, ::redis::RedisError>,
    ) -> Result<Value, Failure> {
        let up = match &*lock(&self.0.state) {
            ConnectionState::Up(live) => Some(live.clone()),
            _ => None,
        };
        let live = match up {
            Some(live) => live,
            None => self.0.wait_for_connection().await.map_err(Failure::Down)?,
        };
        let call = CallInFlight { shared: &self.0, live: &live, is_answered: false };
        let answer = ask(&mut live.connection.clone()).await;
        call.finish(answer.as_ref().err());
        answer.map_err(Failure::Said)
    }
}

fn unreached(server: &Server) -> Fault {
    let detail = format_args!("the Redis server at {} has not been reached yet", server.address()).to_string();
    Fault::new(FaultKind::Unreachable, detail)
}

/// A call in flight. It counts as unanswered if it is dropped before the answer, or ends with a timeout.
struct CallInFlight<'a> {
    shared: &'a Arc<ConnectionShared>,
    live: &'a Arc<Live>,
    is_answered: bool,
}

impl CallInFlight<'_> {
    fn finish(mut self, error: Option<&::redis::RedisError>) {
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

impl Drop for CallInFlight<'_> {
    fn drop(&mut self) {
        if self.is_answered || self.live.unanswered.fetch_add(1, Ordering::Relaxed) + 1 < MAX_UNANSWERED {
            return;
        }
        // Without a runtime, leaves the `PING` to the next call that gets no answer, if that call has a runtime.
        let Ok(handle) = Handle::try_current() else { return };
        if let Some(duty) = self.live.in_question.begin(2 * PING_TIMEOUT, Instant::now()) {
            handle.spawn(ping_or_lose(Arc::downgrade(self.shared), self.live.clone(), duty));
        }
    }
}

/// Drops a connection that does not answer a `PING`.
async fn ping_or_lose(shared: Weak<ConnectionShared>, live: Arc<Live>, duty: OnDuty) {
    let mut connection = live.connection.clone();
    // An error from the server is also an answer, unless it means that the connection must be replaced.
    let answer = timeout(PING_TIMEOUT, cmd("PING").query_async::<Value>(&mut connection)).await;
    if answer.is_ok_and(|answer| answer.as_ref().err().map_or(Means::Alive, means) == Means::Alive) {
        live.unanswered.store(0, Ordering::Relaxed);
    } else if let Some(shared) = shared.upgrade() {
        shared.lose(live.number, None);
    }
    drop(duty);
}

impl ConnectionShared {
    fn take_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Changes to the state that `to` returns, if any, and wakes the calls that wait. Returns whether the state has
    /// changed. The old state is dropped after the lock is released, and `to` must drop no connection: dropping a
    /// connection may take the lock again.
    pub(super) fn change(&self, to: impl FnOnce(&ConnectionState) -> Option<ConnectionState>) -> bool {
        let mut state = lock(&self.state);
        let Some(new) = to(&state) else { return false };
        if matches!(new, ConnectionState::Up(_)) {
            self.was_up.store(true, Ordering::Relaxed);
        }
        let old = mem::replace(&mut *state, new);
        drop(state);
        drop(old);
        self.changed.notify_waiters();
        true
    }

    /// Returns the connection, if there is one. Fails at once in the state `Down`, while a keeper reconnects. If no
    /// keeper works, spawns one, and the state becomes `Moving`. In `Moving`, waits for the first attempt of the
    /// keeper.
    #[cold]
    async fn wait_for_connection(self: &Arc<Self>) -> Result<Arc<Live>, Fault> {
        let until = Instant::now() + self.server.connect_timeout();
        let mut has_begun = false;
        loop {
            // Registered before the state is read, so that no later change is missed.
            let changed = self.changed.notified();
            let now = Instant::now();
            let outlook = lock(&self.state).outlook(now);
            match outlook {
                Outlook::Up(live) => return Ok(live),
                Outlook::Down(fault) => return Err(fault),
                Outlook::Moving(fault) => {
                    if Handle::try_current().is_err() || timeout_at(until, changed).await.is_err() {
                        return Err(fault);
                    }
                }
                // There is no runtime, or this call has spawned a keeper that has already ended, because its runtime is
                // ending.
                Outlook::Left(fault) if has_begun || Handle::try_current().is_err() => return Err(fault),
                Outlook::Left(_) => {
                    let number = self.take_number();
                    if self.change(|state| state.moves(Keeper::new(number, now))) {
                        has_begun = true;
                        self.keep(number, Duration::ZERO);
                    }
                }
            }
        }
    }

    /// Makes one attempt to connect, in its own task. A panic in the task is a failed attempt.
    ///
    /// The attempt holds no handle of the connection. A keeper whose attempts hang therefore notices when the last
    /// handle is gone.
    pub(super) fn attempt(self: &Arc<Self>) -> impl Future<Output = Result<Live, RedisError>> + Send + use<> {
        let number = self.take_number();
        let (server, lost) = (self.server.clone(), Lost { shared: Arc::downgrade(self), number });
        async move {
            Handle::try_current().map_err(|_| RedisError::NoRuntime)?;
            let address = server.address();
            let mut task = JoinSet::new();
            task.spawn(async move { server.connect(move || lost.report()).await });
            match task.join_next().await {
                Some(Ok(connection)) => Ok(Live {
                    number,
                    connection: connection?,
                    since: Instant::now(),
                    unanswered: AtomicU32::new(0),
                    in_question: Arc::default(),
                }),
                Some(Err(error)) => Err(unreachable(address, &error.to_string())),
                None => Err(unreachable(address, "the task that connects has ended without a result")),
            }
        }
    }

    /// Gives up the connection of this number, and reconnects. Does nothing if that connection was already given up.
    pub(super) fn lose(self: &Arc<Self>, number: u64, error: Option<Fault>) {
        let (keeper, now) = (self.take_number(), Instant::now());
        let mut lived = Duration::ZERO;
        let is_lost = self.change(|state| {
            let ConnectionState::Up(live) = state else { return None };
            lived = now.saturating_duration_since(live.since);
            let error = error.unwrap_or_else(|| unreachable(self.server.address(), "the connection was lost").into());
            state.lost(number, error, Keeper::new(keeper, now))
        });
        if is_lost {
            self.keep(keeper, if lived < SHORT_LIFE { FIRST_PAUSE } else { Duration::ZERO });
        }
    }

    /// Spawns the keeper of this number. Without a runtime, or in one that is ending, `keeping` is dropped at once, and
    /// the state becomes `Left`.
    fn keep(self: &Arc<Self>, number: u64, pause: Duration) {
        let keeping = Keeping { shared: Arc::downgrade(self), number };
        if let Ok(handle) = Handle::try_current() {
            handle.spawn(reconnect(keeping, pause));
        }
    }

    /// Returns a random duration from half of the pause to the whole pause.
    pub(super) fn jittered(&self, pause: Duration) -> Duration {
        pause.mul_f64(self.random.with(|random| random.random_range(0.5..1.0)))
    }
}
