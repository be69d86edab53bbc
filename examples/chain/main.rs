//! Shows how a chain of services reacts to a broken leaf: client > A > B > leaf, in four processes, over HTTP and gRPC,
//! with three attempts at each of the three hops.
//!
//! ```sh
//! cargo run --release --features http --example chain            # some 40 seconds, with stacks of steadfast
//! cargo run --release --features http --example chain -- --plain # with retries and timeouts only
//! ```
//!
//! The client makes 100 calls per second over each protocol, each with a deadline of half a second. For ten seconds,
//! the leaf answers. For the next ten seconds, it fails at once. For the last ten seconds, it takes two seconds per
//! call. With plain retries, each call of the client becomes 27 calls of the failing leaf, because each of the three
//! hops makes three attempts. With stacks, each call becomes only 1.1 calls of the leaf. They have retry budgets, and a
//! mark with which a hop forbids retries by its callers. Deadlines travel with the call and shrink at every hop, so no
//! service works on a call that its caller has given up.

mod drive;
mod grpc;
mod hop;
mod web;

use std::{env, time::Duration};
use steadfast::{
    ConfigError,
    http::{self, Repeatable},
    retry::{Backoff, Retry, RetryBudget},
};
use tower::BoxError;

/// The calls of the client per second, over each protocol.
const RATE: u32 = 100;
/// How long a caller waits.
const DEADLINE: Duration = Duration::from_millis(500);
/// How long each hop waits for one attempt, if its caller's deadline does not come first.
const ATTEMPT: Duration = Duration::from_millis(200);

/// How the hops call each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// With stacks of this crate, in their recommended setup.
    Chained,
    /// With retries that have no budget, and that ignore the other services' marks and deadlines.
    Plain,
}

/// Three attempts. The budget earns one retry for each ten calls, and has no initial credit.
fn retry(style: Style) -> Result<Retry<Repeatable>, ConfigError> {
    let backoff = Backoff::exponential(Duration::from_millis(5), Duration::from_millis(50));
    let budget = RetryBudget::builder().ratio(0.1).no_floor().build()?;
    Ok(match style {
        Style::Chained => http::retry(3).backoff(backoff).budget(budget),
        Style::Plain => http::retry(3).backoff(Backoff::none()).without_budget(),
    })
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let style = if has("--plain") { Style::Plain } else { Style::Chained };
    let next = |name: &str| arguments.iter().skip_while(|argument| *argument != name).nth(1).cloned();
    match next("--hop") {
        Some(next) => hop::serve(style, next.parse().ok()).await,
        None => drive::run(style, has("--json")).await,
    }
}
