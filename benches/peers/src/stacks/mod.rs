//! Whole stacks: all mechanisms around one service.
//!
//! Our stack is the client's: timeout, retry, circuit breaker, rate limit, load shed and attempt timeout. Tower has no
//! circuit breaker, and its rate limit is not `Clone`, so it needs a `Buffer` below a retry. Tower's closest stack
//! without those two is measured beside our stack without them.

mod ours;
mod tower;
mod tower_resilience;

use crate::{
    breaker,
    by_hand::ByHand,
    harness::{Contestant, Role, Row},
    services::{AtOnce, Boxed, CloneEach, Fault, PendingOnce, answered, refused},
};
use ::tower::{BoxError, Service};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 3;
const ROOM: usize = 1024;
const PLENTY: u64 = 1_000_000_000;

pub fn rows() -> Vec<Row> {
    vec![
        Row::new("stack of five: call ready at once", five(AtOnce, Handle::Kept)),
        Row::new("stack of five: call ready at once, handle cloned for each", five(AtOnce, Handle::Cloned)),
        Row::new("stack of five: call pending once", five(PendingOnce, Handle::Kept)),
        Row::new("stack of five, all with a boxed error: call ready at once", five_boxed(Boxed(AtOnce))),
        Row::new("stack of five, all with a boxed error: call pending once", five_boxed(Boxed(PendingOnce))),
        Row::new("stack of five, live against as built: call ready at once", live(AtOnce)),
        Row::new("stack of five, live against as built: call pending once", live(PendingOnce)),
        Row::new("stack without breaker and rate limit: call ready at once", three(AtOnce)),
        Row::new("stack without breaker and rate limit: call pending once", three(PendingOnce)),
        refusing(),
    ]
}

/// The handle that a task calls through: its own, or a clone of it for each call.
#[derive(Clone, Copy)]
enum Handle {
    Kept,
    Cloned,
}

/// A service to be measured behind its layers.
trait Layered: Service<u64, Response = u64, Error: Send, Future: Send> + Clone + Send + 'static {}

impl<S> Layered for S where S: Service<u64, Response = u64, Error: Send, Future: Send> + Clone + Send + 'static {}

/// A service to put layers around.
trait Inner:
    Service<u64, Response = u64, Error: Into<BoxError> + Send, Future: Send + 'static> + Copy + Send + Sync + 'static
{
}

impl<S> Inner for S where
    S: Service<u64, Response = u64, Error: Into<BoxError> + Send, Future: Send + 'static>
        + Copy
        + Send
        + Sync
        + 'static
{
}

/// A service whose error has its own type.
trait Faulty: Inner + Service<u64, Response = u64, Error = Fault> {}

impl<S: Inner + Service<u64, Response = u64, Error = Fault>> Faulty for S {}

fn five<S: Faulty>(service: S, handle: Handle) -> Vec<Contestant> {
    vec![
        contestant(Role::Ours, "steadfast", handle, move || ours::five(service)),
        contestant(Role::Floor, "by hand", handle, move || ByHand::new(LIMIT, SECOND, service)),
        contestant(Role::Bare, "bare", handle, move || service),
        contestant(Role::Peer, "tower (no breaker, no rate limit)", handle, move || tower::tower(service)),
        contestant(Role::Peer, "tower (no breaker, Buffer)", handle, move || tower::buffered_tower(service)),
        contestant(Role::Peer, "tower-resilience", handle, move || tower_resilience::five(service)),
    ]
}

/// Both box errors, as tower does with every error. The service's error is already boxed here, and our stack puts its
/// rejections into the same box.
fn five_boxed<S: Inner + Service<u64, Response = u64, Error = BoxError>>(service: S) -> Vec<Contestant> {
    let kept = Handle::Kept;
    vec![
        contestant(Role::Ours, "steadfast", kept, move || ours::five_with_kept_error(service)),
        contestant(Role::Bare, "bare", kept, move || service),
        contestant(Role::Peer, "tower (no breaker, no rate limit)", kept, move || tower::tower(service)),
        contestant(Role::Peer, "tower (no breaker, Buffer)", kept, move || tower::buffered_tower(service)),
    ]
}

/// The cost of a configuration that can change while calls pass.
fn live<S: Faulty>(service: S) -> Vec<Contestant> {
    vec![
        contestant(Role::Ours, "steadfast, live", Handle::Kept, move || ours::live(service)),
        contestant(Role::Bare, "bare", Handle::Kept, move || service),
        contestant(Role::Peer, "steadfast, as built", Handle::Kept, move || ours::five(service)),
    ]
}

fn three<S: Faulty>(service: S) -> Vec<Contestant> {
    vec![
        contestant(Role::Ours, "steadfast", Handle::Kept, move || ours::three(service)),
        contestant(Role::Bare, "bare", Handle::Kept, move || service),
        contestant(Role::Peer, "tower", Handle::Kept, move || tower::tower(service)),
        contestant(Role::Peer, "tower-resilience", Handle::Kept, move || tower_resilience::three(service)),
    ]
}

fn contestant<S: Layered>(
    role: Role,
    name: &'static str,
    handle: Handle,
    make: impl Fn() -> S + 'static,
) -> Contestant {
    match handle {
        Handle::Kept => Contestant::in_runtime(role, name, make, answered),
        Handle::Cloned => Contestant::in_runtime(role, name, move || CloneEach(make()), answered),
    }
}

/// A call that a stack's open breaker refuses.
fn refusing() -> Row {
    Row::new(
        "stack of five: call refused by its breaker",
        vec![
            Contestant::in_runtime(Role::Ours, "steadfast", || ours::five_with(breaker::open(), AtOnce), refused),
            Contestant::in_runtime(Role::Peer, "tower-resilience", tower_resilience::refusing, refused).alone(),
        ],
    )
}
