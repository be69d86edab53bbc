//! A gate of your own in a server's stack: a bulkhead per tenant, so that no tenant can take all places.
//!
//! ```sh
//! cargo run --example own_gate
//! ```
//!
//! A noisy tenant sends 50 calls at once, and two others send a few. Each listed tenant has its own places. The noisy
//! tenant is refused beyond its places, and the others are all served. Tenants that are not listed share one bulkhead,
//! so the number of bulkheads does not depend on the names that callers send.

use std::{collections::HashMap, sync::Arc, time::Duration};
use steadfast::{
    ConfigError, Rejection,
    load_shed::{Limiter, Permit},
    shell::{DescribeGate, Ending, Explanation, Frame, Gate},
    stack::gate,
};
use tower::{BoxError, ServiceExt, service_fn};

/// The places of one tenant. With calls of 50 ms each, they serve up to 80 calls per second and tenant.
const PLACES: usize = 4;

/// The part of a call that identifies its caller.
struct Call {
    tenant: &'static str,
}

/// The places of each listed tenant, and the places that all other tenants share.
#[derive(Clone)]
struct Bulkheads {
    listed: Arc<HashMap<&'static str, Limiter>>,
    others: Limiter,
}

impl Bulkheads {
    fn new(tenants: &[&'static str], places: usize) -> Result<Self, ConfigError> {
        let listed = tenants.iter().map(|tenant| Ok((*tenant, Limiter::fixed(places)?))).collect::<Result<_, _>>()?;
        Ok(Self { listed: Arc::new(listed), others: Limiter::fixed(places)? })
    }

    fn of(&self, tenant: &str) -> &Limiter {
        self.listed.get(tenant).unwrap_or(&self.others)
    }
}

impl Gate<Call> for Bulkheads {
    /// A place. Dropping it returns it to its tenant.
    type Permit = Permit<'static>;

    fn admit(&self, call: &Call, _: &mut Frame) -> Result<Self::Permit, Rejection> {
        // The rejection names the load shed, and how many calls are in flight.
        Ok(self.of(call.tenant).try_acquire_owned()?)
    }

    // The stage calls this once for each permit, also if the caller drops the call or the handler panics.
    fn settle(&self, place: Self::Permit, _: Ending, _: &mut Frame) {
        drop(place);
    }
}

impl DescribeGate for Bulkheads {
    fn describe(&self, explanation: &mut Explanation) {
        let places: usize = self.listed.values().chain([&self.others]).map(|limiter| limiter.configuration().0).sum();
        explanation.layer("bulkheads", format!("{} tenants and all others, {places} in flight", self.listed.len()));
        explanation.limit_in_flight("bulkheads", places);
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let bulkheads = Bulkheads::new(&["noisy", "quiet"], PLACES)?;
    let server = steadfast::server()
        // Takes the slot of the load shed: after the rate limit, if there is one, and before the timeout.
        .own_load_shed(gate(bulkheads.clone()))
        .timeout(Duration::from_secs(1))
        .service(service_fn(handle))?;
    println!("{}", server.explain());

    let calls = [("noisy", 50), ("quiet", 3), ("unknown", 2)]
        .map(|(tenant, calls)| (tenant, (0..calls).map(|_| tokio::spawn(server.clone().oneshot(Call { tenant })))));
    // Sends all calls before waiting for the first.
    let sent = calls.map(|(tenant, calls)| (tenant, calls.collect::<Vec<_>>()));
    for (tenant, calls) in sent {
        let (mut served, mut refused) = (0, 0);
        for call in calls {
            match call.await? {
                Ok(()) => served += 1,
                Err(_) => refused += 1,
            }
        }
        println!("{tenant}: {served} served, {refused} refused");
    }
    let in_flight: usize = ["noisy", "quiet", "unknown"].iter().map(|tenant| bulkheads.of(tenant).in_flight()).sum();
    println!("In flight at the end: {in_flight}");
    Ok(())
}

/// The work on a call.
async fn handle(_: Call) -> Result<(), BoxError> {
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(())
}
