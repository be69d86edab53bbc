//! Any tower service behind a client's stack: here an async function that asks a remote service for a price.
//!
//! ```sh
//! cargo run --example tower_service
//! ```
//!
//! The function works at first with occasional failures, then is down for a while, then works again. The output shows
//! what a caller sees. Retries hide the occasional failures. In the outage the breaker opens, and calls fail at once
//! without being sent. Afterwards a few probes find that the service works again.

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use steadfast::{
    Error,
    circuit_breaker::Breaker,
    retry::{Backoff, Retry, RetryBudget},
};
use tower::{BoxError, Service, ServiceExt, service_fn};

/// How long a circuit stays open. Short for this example: the default of 5 s suits most services.
const OPEN_FOR: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Handles: clones share their state, so each can be kept, read and changed while calls are in flight.
    let breaker = Breaker::builder()
        // Opens when half of the calls fail.
        .failure_rate(0.5, Duration::from_secs(10))
        // A client with few calls, such as this one, detects an outage sooner by consecutive failures.
        .consecutive_failures(5)
        .open_for(OPEN_FOR)
        .build()?;
    // One retry for every five calls: even if all calls fail, retries add at most a fifth to the load.
    let budget = RetryBudget::builder().ratio(0.2).build()?;

    let prices = steadfast::client()
        // How long a caller waits for a price, retries included. Covers 3 attempts and their backoffs.
        .timeout(Duration::from_secs(1))
        // A call that fails three times is not failing by chance. The backoffs, of up to 20 ms and then 40 ms, are
        // random, so that clients that fail together do not retry together. Every request may be repeated, because it
        // changes nothing; for requests that do, see `Retry::replay_if`.
        .retry(
            Retry::new(3)
                .backoff(Backoff::exponential(Duration::from_millis(20), Duration::from_millis(200)))
                .budget(budget.clone()),
        )
        .circuit_breaker(breaker.clone())
        // Well above the usual 5 ms: after this time, another attempt is more likely to help than waiting.
        .attempt_timeout(Duration::from_millis(200))
        .service(service_fn(ask_for_price))?;
    println!("{}", prices.explain());

    println!("The service works, and fails now and then:");
    call(&prices, 10).await;
    FAILS_EVERY.store(1, Ordering::Relaxed);
    println!("It is down:");
    call(&prices, 10).await;
    println!("The circuit is {:?}, and {:.1} earned retries are left.", breaker.state(), budget.balance());
    FAILS_EVERY.store(u32::MAX, Ordering::Relaxed);
    tokio::time::sleep(OPEN_FOR).await;
    println!("It works again:");
    call(&prices, 5).await;
    println!("The circuit is {:?}.", breaker.state());
    Ok(())
}

/// Calls the service, and prints the two kinds of failure.
async fn call<S>(prices: &S, times: u32)
where
    S: Service<&'static str, Response = u32, Error = Error<io::Error>> + Clone,
{
    for _ in 0..times {
        match prices.clone().oneshot("tea").await {
            Ok(price) => println!("  tea costs {price}"),
            // The service's own error, untouched.
            Err(Error::Service(error)) => println!("  failed: {error}"),
            // A layer refused or ended the call. This is the place for a fallback, such as yesterday's price.
            Err(Error::Rejected(rejection)) => match rejection.retry_after() {
                Some(wait) => println!("  {rejection}, try again in {} ms", wait.as_millis()),
                None => println!("  {rejection}"),
            },
        }
    }
}

static FAILS_EVERY: AtomicU32 = AtomicU32::new(5);

/// Replace it with your own service: any `Service` that is `Clone`.
async fn ask_for_price(_item: &'static str) -> io::Result<u32> {
    static ASKED: AtomicU32 = AtomicU32::new(1);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let fails = ASKED.fetch_add(1, Ordering::Relaxed) % FAILS_EVERY.load(Ordering::Relaxed) == 0;
    if fails { Err(io::Error::other("no price today")) } else { Ok(3) }
}
