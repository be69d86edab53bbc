//! Many clients of one backend that fails a share of the calls.

use crate::lab::{Client, amplification, ms};
use std::time::Duration;
use steadfast::{
    ConfigError,
    retry::{Backoff, Retry, RetryBudget},
    sim::{Backend, BackendService, Latency, Load, Scenario, Sim},
};

/// The first attempt and up to 3 retries.
pub const ATTEMPTS: u32 = 4;

/// Simulates a crowd of clients, each made by `client`, whose calls may all fail at the backend. Returns the backend
/// calls per call, and the share of the calls that succeed.
pub fn crowd<S: Client>(
    seed: u64,
    length: Duration,
    clients: usize,
    rps: f64,
    failing: f64,
    client: impl Fn(&Sim, BackendService) -> Result<S, ConfigError>,
) -> Result<[f64; 2], ConfigError> {
    let report = Scenario::new(Load::poisson(rps)).length(length).seed(seed).run_clients(|sim| {
        let backend = sim.backend(Backend::new(Latency::fixed(ms(1))).failing(failing));
        (0..clients).map(|_| client(sim, backend.clone())).collect()
    })?;
    Ok([amplification(&report), report.goodput()])
}

/// This crate's retry with a budget of 10% and no other layer.
pub fn budgeted(sim: &Sim, backend: BackendService) -> Result<impl Client + use<>, ConfigError> {
    let budget = RetryBudget::builder().ratio(0.1).no_floor().cap(10).random(sim.random()).build()?;
    let retry = Retry::new(ATTEMPTS).backoff(Backoff::none()).budget(budget).random(sim.random());
    steadfast::client().retry(retry).service(backend)
}
