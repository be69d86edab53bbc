//! A server with its producers and workers, and the faults.

use super::{
    part::{self, Part, Report, Role, Sent, queue},
    processes::Process,
};
use crate::{
    clock::now,
    proxy::Proxy,
    server::{RedisServer, free_port},
};
use std::{path::PathBuf, time::Duration};
use steadfast::load_level::durable::{DeadLetter, DurableQueue, QueueReadings};
use tokio::time::{Instant, sleep};

pub const WORKERS: usize = 3;

/// The number of messages, and their rate.
#[derive(Clone, Copy)]
pub struct Load {
    pub messages: u32,
    pub per_second: u32,
    /// The `appendfsync` of a server that keeps its data when it is killed: `always`, or `no`. With both, the server
    /// has written the data before it answers, and the operating system survives. With `everysec` it can answer
    /// earlier, while the disk is slow.
    pub appendfsync: Option<&'static str>,
}

/// A fault, its time by the shared clock, and the workers that it may have kept from reporting their ends.
pub struct Fault {
    pub name: &'static str,
    pub begin: u64,
    pub end: u64,
    pub workers: Vec<usize>,
}

/// The result of a run.
pub struct Run {
    pub load: Load,
    pub begin: u64,
    pub took: Duration,
    pub faults: Vec<Fault>,
    pub sent: Vec<Sent>,
    pub reports: Vec<Report>,
    /// The files of all workers, by their numbers.
    pub logs: Vec<PathBuf>,
    pub readings: QueueReadings,
    pub dead: Vec<DeadLetter>,
    /// The owner of the files' directory.
    _server: RedisServer,
}

pub struct Scene {
    server: RedisServer,
    /// Half of the producers, and the last worker, connect through a proxy.
    producers_way: Proxy,
    workers_way: Proxy,
    producers: Vec<Process>,
    /// Each with its number.
    workers: Vec<(usize, Process)>,
    logs: Vec<PathBuf>,
    faults: Vec<Fault>,
}

/// The time for a process to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time after a fault in which every process reconnects and reports its ends.
pub const BACK_WITHIN: Duration = Duration::from_secs(2);
/// Many times the takeover time.
const STANDSTILL: Duration = Duration::from_secs(8);

/// Runs a load until no message is left, while `happens` causes faults.
pub async fn run(load: Load, happens: impl AsyncFnOnce(&mut Scene)) -> Run {
    let began = Instant::now();
    let mut scene = Scene::start(load).await;
    let begin = now();
    sleep(Duration::from_millis(400)).await;
    happens(&mut scene).await;
    let mut sent = Vec::new();
    for producer in &mut scene.producers {
        sent.extend(producer.said::<Vec<Sent>>(PATIENCE).await);
    }
    let queue = queue(&scene.server.url()).answer_timeout(part::PATIENCE).connect().await.expect("a working server");
    let readings = until_nothing_is_left(&queue).await;
    // A worker that was cut off may not have reconnected yet, because others have done its work.
    let is_back = scene.faults.last().map_or(0, |fault| fault.end + BACK_WITHIN.as_nanos() as u64);
    sleep(Duration::from_nanos(is_back.saturating_sub(now()))).await;
    let mut reports = Vec::new();
    for (_, worker) in &mut scene.workers {
        worker.tell_to_end();
    }
    for (_, worker) in &mut scene.workers {
        reports.push(worker.said::<Report>(PATIENCE).await);
    }
    let dead = queue.dead_letters(load.messages as usize).await.expect("a server that answers");
    let Scene { server, faults, logs, .. } = scene;
    Run { load, begin, took: Instant::now() - began, faults, sent, reports, logs, readings, dead, _server: server }
}

/// Waits until the queue is empty, or no more messages end: the readings show what is left.
async fn until_nothing_is_left(queue: &DurableQueue) -> QueueReadings {
    let (mut ended, mut since) = (0, Instant::now());
    loop {
        let readings = queue.readings().await.expect("a server that answers");
        if readings.acknowledged + readings.dead != ended {
            (ended, since) = (readings.acknowledged + readings.dead, Instant::now());
        }
        if readings.backlog() == 0 || Instant::now() > since + STANDSTILL {
            return readings;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

impl Scene {
    async fn start(load: Load) -> Self {
        let server = match load.appendfsync {
            Some(policy) => RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", policy]).await,
            None => RedisServer::start().await,
        };
        let (producers_way, workers_way) = (Proxy::to(server.port()).await, Proxy::to(server.port()).await);
        let mut scene = Self {
            server,
            producers_way,
            workers_way,
            producers: Vec::new(),
            workers: Vec::new(),
            logs: Vec::new(),
            faults: Vec::new(),
        };
        for place in 0..WORKERS {
            let worker = scene.start_a_worker(place);
            scene.workers.push(worker);
        }
        let (half, per_second) = (load.messages / 2, load.per_second / 2);
        for (url, numbers) in [(scene.server.url(), 0..half), (scene.producers_way.url(), half..load.messages)] {
            scene.producers.push(Process::start(&Part { url, role: Role::Producer { numbers, per_second } }));
        }
        scene
    }

    fn start_a_worker(&mut self, place: usize) -> (usize, Process) {
        let url = if place + 1 == WORKERS { self.workers_way.url() } else { self.server.url() };
        let number = self.logs.len();
        let log = self.server.directory().join(format!("worker-{number}"));
        self.logs.push(log.clone());
        (number, Process::start(&Part { url, role: Role::Worker { log } }))
    }

    fn all_workers(&self) -> Vec<usize> {
        self.workers.iter().map(|(number, _)| *number).collect()
    }

    fn cut_off_workers(&self) -> Vec<usize> {
        self.workers.last().map(|(number, _)| *number).into_iter().collect()
    }

    fn was(&mut self, name: &'static str, begin: u64, workers: Vec<usize>) {
        self.faults.push(Fault { name, begin, end: now(), workers });
    }

    /// Kills a worker in the middle of its work, and starts another.
    pub fn kill_a_worker(&mut self, place: usize) {
        let begin = now();
        let (number, process) = &mut self.workers[place];
        process.kill();
        let died = *number;
        self.was("worker killed", begin, vec![died]);
        self.workers[place] = self.start_a_worker(place);
    }

    /// Kills the server in the middle of appends. It restarts with its data.
    pub async fn kill_the_server(&mut self) {
        let begin = now();
        self.server.kill();
        sleep(Duration::from_millis(200)).await;
        self.server.restart().await;
        self.was("server killed", begin, self.all_workers());
    }

    pub async fn stop_the_server(&mut self, time: Duration) {
        let begin = now();
        self.server.stop();
        sleep(time).await;
        self.server.cont();
        self.was("server stopped", begin, self.all_workers());
    }

    /// Cuts the connection several times, each in the middle of other work.
    pub async fn cut_producers(&mut self) {
        let begin = now();
        cut(&self.producers_way).await;
        self.was("producers cut", begin, Vec::new());
    }

    pub async fn cut_workers(&mut self) {
        let begin = now();
        cut(&self.workers_way).await;
        self.was("workers cut", begin, self.cut_off_workers());
    }

    pub async fn black_hole_for_producers(&mut self, time: Duration) {
        let begin = now();
        black_hole(&self.producers_way, time).await;
        self.was("producers in a black hole", begin, Vec::new());
    }

    pub async fn black_hole_for_workers(&mut self, time: Duration) {
        let begin = now();
        black_hole(&self.workers_way, time).await;
        self.was("workers in a black hole", begin, self.cut_off_workers());
    }

    pub async fn read_only(&mut self, time: Duration) {
        let begin = now();
        self.server.command(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]).await;
        sleep(time).await;
        self.server.command(&["REPLICAOF", "NO", "ONE"]).await;
        self.was("read-only", begin, self.all_workers());
    }

    /// Takes the memory. Reports of ends still work: they need none.
    pub async fn out_of_memory(&mut self, time: Duration) {
        let begin = now();
        self.server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
        sleep(time).await;
        self.server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
        self.was("out of memory", begin, Vec::new());
    }
}

async fn cut(way: &Proxy) {
    for _ in 0..5 {
        way.cut();
        sleep(Duration::from_millis(60)).await;
    }
}

async fn black_hole(way: &Proxy, time: Duration) {
    way.black_hole(true);
    sleep(time).await;
    way.black_hole(false);
}
