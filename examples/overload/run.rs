//! One step of the run: a load, a server, the clients, and the results of the calls.

use crate::{
    client::{self, Attempts, Client, Connections},
    counts::Ending,
    frame::Step,
    scenario::{DEADLINE, Mode, capacity_rps},
    server::Server,
    stacks,
    tally::Calls,
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::{error::Error, net::SocketAddr, time::Duration};
use tokio::{
    runtime::Builder,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tower::ServiceExt;

/// Every step draws its arrivals from this seed, so all modes and runs receive the same calls. The seed was chosen
/// because its draws are within two percent of the nominal loads, in the quick run and in the default run.
const SEED: u64 = 110;

/// Runs one step on its own server and runtimes. They end with the step, so that nothing leaks into the next one.
pub fn step(step: &Step, calls: &Calls) -> Result<(), Box<dyn Error>> {
    let server = Server::start(step.mode)?;
    let clients = Builder::new_multi_thread().worker_threads(1).thread_name("clients").enable_all().build()?;
    let driven = clients.block_on(async {
        let connections = Connections::open(server.address).await?;
        let client = match step.mode {
            Mode::Unprotected => client::plain(connections),
            Mode::Protected => stacks::client(connections)?,
        };
        drive(client, &server, step, calls).await;
        Ok(())
    });
    clients.shutdown_timeout(Duration::from_secs(1));
    server.stop();
    driven
}

/// Sends calls as they arrive, whether or not earlier calls were answered, as independent callers do.
///
/// The load continues after the measured time until every measured call has ended, so the last measured calls see the
/// same load.
async fn drive(client: Client, server: &Server, step: &Step, calls: &Calls) {
    let (address, pace, gauge) = (server.address, server.pace(), server.gauge());
    let mut arrivals = Arrivals::new(step.multiple * capacity_rps());
    let lengths = step.lengths;
    let start = Instant::now();
    calls.start(start);
    let measured = start + lengths.warm_up..start + lengths.warm_up + lengths.measured;
    // Every call has a deadline and ends well before this moment. If a call does not, the step ends here all the same.
    let last_moment = measured.end + 3 * DEADLINE;
    let slow_at = lengths.slow_after(step.course).map(|after| start + after);
    let mut is_slow = false;
    let mut on_their_way = JoinSet::new();
    let mut next = start + arrivals.gap();
    while next < measured.end || calls.counted.counts().unfinished() > 0 && next < last_moment {
        tokio::select! {
            () = sleep_until(next) => {
                if !is_slow && slow_at.is_some_and(|slow_at| next >= slow_at) {
                    pace.slow_down();
                    is_slow = true;
                }
                calls.sample(Instant::now());
                let is_measured = measured.contains(&next);
                if is_measured {
                    calls.counted.held(gauge.read());
                }
                calls.arrived(is_measured);
                on_their_way.spawn(call(client.clone(), address, next));
                next += arrivals.gap();
            }
            Some(Ok(ended)) = on_their_way.join_next() => {
                calls.ended(measured.contains(&ended.arrived), ended.ending, ended.attempts, ended.latency);
            }
        }
    }
    calls.close();
}

struct Ended {
    arrived: Instant,
    ending: Ending,
    attempts: u32,
    latency: Duration,
}

/// Makes one call. Its time counts from when it was due, so that a delayed sender does not make the answers look fast.
async fn call(client: Client, address: SocketAddr, arrived: Instant) -> Ended {
    let attempts = Attempts::default();
    let ending = match client::ask(address, attempts.clone()) {
        Ok(ask) => client.oneshot(ask).await.unwrap_or_else(|never| match never {}),
        Err(_) => Ending::Failed,
    };
    Ended { arrived, ending, attempts: attempts.count(), latency: Instant::now() - arrived }
}

/// Poisson arrivals: the gaps between calls are exponential, as between the calls of independent callers.
struct Arrivals {
    random: SmallRng,
    mean_gap: f64,
}

impl Arrivals {
    fn new(rps: f64) -> Self {
        Self { random: SmallRng::seed_from_u64(SEED), mean_gap: 1.0 / rps }
    }

    fn gap(&mut self) -> Duration {
        // One minus a number from [0, 1) is never zero, so the logarithm is finite.
        let uniform: f64 = self.random.random();
        Duration::from_secs_f64(-(1.0 - uniform).ln() * self.mean_gap)
    }
}
