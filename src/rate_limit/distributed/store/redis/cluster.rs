//! The servers of a cluster, each with its part of the keys.
//!
//! The `redis` crate has a `ClusterConnection`. But while it connects to one server, calls to all others wait. It also
//! retries by itself for longer than any caller of a limit waits. Here each server has its own [`Connection`], and the
//! store finds out in the background which server has which keys.

use super::{
    script::{Call, ScriptKey, answers},
    slots::{Address, Range, ranges_of, slot_of},
};
use crate::{
    random::Random,
    rate_limit::distributed::store::StoreError,
    redis::{Connection, Duty, Failure, Fault, FaultKind, OnDuty, RedisError, Said, Script, Server},
    sync::{Mutex, lock},
};
use ::redis::{Value, cmd};
use futures_util::future::{join_all, select_all};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout},
};

#[derive(Clone)]
pub(super) struct Cluster(Arc<ClusterShared>);

struct ClusterShared {
    /// The configured server, through which the store finds the others.
    seed: Connection,
    random: Random,
    known: Mutex<Known>,
    /// Lets one task at a time find out which server has which keys.
    looking: Arc<Duty>,
}

#[derive(Default)]
struct Known {
    /// Sorted by slot.
    ranges: Vec<Range>,
    connections: HashMap<Address, Connection>,
}

/// The pause between two requests for the slots of the servers.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// The time that a server has to answer a request for the slots.
const SLOTS_TIMEOUT: Duration = Duration::from_millis(500);

impl Cluster {
    /// Connects to one server, and through it to all. If no server states the slots in time, a later call asks again.
    pub(super) async fn open(server: Server, random: Random) -> Result<Self, RedisError> {
        let seed = Connection::open(server, random.clone()).await?;
        let cluster = Self::around(seed, random);
        if let Some(ranges) = cluster.0.look().await {
            let servers: BTreeSet<Address> = ranges.iter().map(|(_, _, address)| address.clone()).collect();
            let open = servers.into_iter().map(async |address| (cluster.0.open(&address).await, address));
            let opened = join_all(open).await;
            let mut known = lock(&cluster.0.known);
            // If a server cannot be reached now, `learn` gives it a connection that connects in the background.
            known.connections =
                opened.into_iter().filter_map(|(connection, address)| Some((address, connection.ok()?))).collect();
            drop(known);
            cluster.0.learn(ranges);
        }
        Ok(cluster)
    }

    /// Connects in the background.
    pub(super) fn open_lazily(server: Server, random: Random) -> Self {
        let seed = Connection::open_lazily(server, random.clone());
        let cluster = Self::around(seed, random);
        cluster.0.look_soon();
        cluster
    }

    fn around(seed: Connection, random: Random) -> Self {
        let (known, looking) = Default::default();
        Self(Arc::new(ClusterShared { seed, random, known, looking }))
    }

    /// Returns the configured server.
    pub(super) fn seed(&self) -> &Connection {
        &self.0.seed
    }

    /// Calls a script once for each slot that has some of the keys, all at the same time. If one call fails, the batch
    /// fails, although the other calls may have been counted.
    pub(super) async fn call(&self, script: &'static Script, keys: Vec<ScriptKey>) -> Result<Vec<Vec<u8>>, StoreError> {
        let count = keys.len();
        let mut by_slot: BTreeMap<u16, (Vec<usize>, Vec<ScriptKey>)> = BTreeMap::new();
        for (place, entry) in keys.into_iter().enumerate() {
            let (places, entries) = by_slot.entry(slot_of(&entry.key)).or_default();
            places.push(place);
            entries.push(entry);
        }
        let ask = by_slot.into_iter().map(async |(slot, (places, entries))| {
            let call = Call::new(script, entries);
            let answer = self.0.call(slot, &call).await;
            answers(&call, answer).map(|answers| (places, answers))
        });
        let mut in_order = vec![Vec::new(); count];
        for answered in join_all(ask).await {
            let (places, answers) = answered?;
            for (place, answer) in places.into_iter().zip(answers) {
                in_order[place] = answer;
            }
        }
        Ok(in_order)
    }
}

impl ClusterShared {
    async fn call(self: &Arc<Self>, slot: u16, call: &Call) -> Result<Value, Failure> {
        let connection = lock(&self.known).of(slot).cloned();
        let Some(connection) = connection else {
            self.look_soon();
            let detail = format_args!("no server of the cluster is known for slot {slot}").to_string();
            return Err(Failure::Down(Fault::new(FaultKind::Unreachable, detail)));
        };
        let answer = call.send(&connection).await;
        let Err(failure) = &answer else { return answer };
        if let Failure::Said(error) = failure {
            match Said::of(error) {
                Some(Said::Moved) => {
                    self.look_soon();
                    if let Some(other) = self.redirected(&connection, error) {
                        return call.send(&other).await;
                    }
                }
                Some(Said::Ask) => {
                    if let Some(other) = self.redirected(&connection, error) {
                        return call.asking().send(&other).await;
                    }
                }
                // The right server has answered, and cannot serve.
                Some(
                    Said::OutOfMemory
                    | Said::DiskFailure
                    | Said::Busy
                    | Said::NoReplicas
                    | Said::NotPermitted
                    | Said::Unauthenticated
                    | Said::Other,
                ) => return answer,
                _ => {}
            }
        }
        // Another server may have taken over.
        self.look_soon();
        answer
    }

    /// Returns the connection to the server that the answer redirects to.
    fn redirected(self: &Arc<Self>, from: &Connection, error: &::redis::RedisError) -> Option<Connection> {
        let (address, _) = error.redirect_node()?;
        let (host, port) = address.rsplit_once(':')?;
        let host = if host.is_empty() { from.server().host() } else { host };
        self.connection(&mut lock(&self.known), &(host.to_owned(), port.parse().ok()?))
    }

    fn connection(&self, known: &mut Known, address: &Address) -> Option<Connection> {
        if let Some(connection) = known.connections.get(address) {
            return Some(connection.clone());
        }
        let server = self.seed.server().at(&address.0, address.1).ok()?;
        let connection = Connection::open_lazily(server, self.random.clone());
        known.connections.insert(address.clone(), connection.clone());
        Some(connection)
    }

    async fn open(&self, (host, port): &Address) -> Result<Connection, RedisError> {
        let server = self.seed.server().at(host, *port)?;
        Connection::open(server, self.random.clone()).await
    }

    /// Spawns a task that finds out which server has which keys, unless one runs. Without a runtime, a later call does
    /// so.
    fn look_soon(self: &Arc<Self>) {
        let Ok(handle) = Handle::try_current() else { return };
        if let Some(duty) = self.looking.begin(2 * (SLOTS_TIMEOUT + BETWEEN_LOOKS), Instant::now()) {
            handle.spawn(look(Arc::downgrade(self), duty));
        }
    }

    /// Asks all servers at once which server has which keys. The first answer counts. Redirections correct a wrong
    /// answer.
    async fn look(&self) -> Option<Vec<Range>> {
        let mut servers: Vec<Connection> = lock(&self.known).connections.values().cloned().collect();
        servers.push(self.seed.clone());
        let ask = servers.into_iter().map(|server| {
            Box::pin(async move {
                let ask = server.ask(async |connection| cmd("CLUSTER").arg("SLOTS").query_async(connection).await);
                let answer = timeout(SLOTS_TIMEOUT, ask).await.ok()?.ok()?;
                ranges_of(&answer, server.server().host())
            })
        });
        let mut asked: Vec<_> = ask.collect();
        while !asked.is_empty() {
            let (ranges, _, others) = select_all(asked).await;
            if ranges.is_some() {
                return ranges;
            }
            asked = others;
        }
        None
    }

    /// Takes over these ranges. Connects in the background to servers that are new, and drops the connections to
    /// servers without a range.
    fn learn(&self, ranges: Vec<Range>) {
        let mut known = lock(&self.known);
        for (_, _, address) in &ranges {
            self.connection(&mut known, address);
        }
        known.connections.retain(|address, _| ranges.iter().any(|(_, _, used)| used == address));
        known.ranges = ranges;
    }
}

/// Finds out which server has which keys, and asks again after each pause until a server has answered, the cluster is
/// dropped, or another task has taken over. The task keeps the duty during the last pause, too, so that the next task
/// does not ask at once.
async fn look(shared: Weak<ClusterShared>, duty: OnDuty) {
    while duty.goes_on(Instant::now()) {
        let Some(strong) = shared.upgrade() else { return };
        let ranges = strong.look().await;
        let is_known = ranges.is_some();
        if let Some(ranges) = ranges {
            strong.learn(ranges);
        }
        drop(strong);
        sleep(BETWEEN_LOOKS).await;
        if is_known {
            return;
        }
    }
}

impl Known {
    fn of(&self, slot: u16) -> Option<&Connection> {
        let place = self.ranges.partition_point(|(_, last, _)| *last < slot);
        let (first, _, address) = self.ranges.get(place)?;
        (*first <= slot).then(|| self.connections.get(address))?
    }
}
