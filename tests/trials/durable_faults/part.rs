//! One process, a producer or a worker.

use super::deliveries::{Kind, Log, Outcome, number_of, payload};
use serde::{Deserialize, Serialize};
use std::{
    convert::Infallible,
    fs::OpenOptions,
    io::{self, Read, Write, stdin},
    ops::Range,
    path::PathBuf,
    process::{ExitCode, abort, exit},
    sync::Arc,
    thread,
    time::Duration,
};
use steadfast::{
    load_level::durable::{Delivery, DurableQueue, DurableQueueBuilder, Message},
    retry::{Backoff, Jitter},
};
use tokio::{
    runtime,
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::{Service, service_fn};

/// The environment variable with the part of a process.
pub const PART: &str = "STEADFAST_DURABLE_PART";

pub const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
pub const TAKEOVER_AFTER: Duration = Duration::from_millis(1000);
pub const CONCURRENCY: usize = 16;
pub const PREFETCH: usize = 16;
pub const BACKOFF: Duration = Duration::from_millis(50);
/// More tries than a message needs if it meets each fault once.
pub const MAX_TRIES: u32 = 12;
/// The time for a working server to answer, on a machine that may be busy.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The duration of the work on a message.
const WORK: Duration = Duration::from_millis(3);
/// The pause before a producer sends a message again.
const RESEND_AFTER: Duration = Duration::from_millis(50);

/// The part of a process.
#[derive(Serialize, Deserialize)]
pub struct Part {
    pub url: String,
    pub role: Role,
}

#[derive(Serialize, Deserialize)]
pub enum Role {
    /// Appends the messages of these numbers, and prints its receipts when it has all of them.
    Producer { numbers: Range<u32>, per_second: u32 },
    /// Works until its standard input ends, and logs each delivery before the call returns.
    Worker { log: PathBuf },
    /// Works until its standard input ends, and logs each call when it begins. It aborts during the call of a poison
    /// message.
    Fragile { log: PathBuf, max_tries: u32 },
}

/// The receipt of a message, and the number of sends.
#[derive(Serialize, Deserialize)]
pub struct Sent {
    pub number: u32,
    pub id: String,
    pub sends: u32,
    pub is_duplicate: bool,
}

/// The report of a worker at its end.
#[derive(Serialize, Deserialize)]
pub struct Report {
    pub unconfirmed: u64,
}

/// The queue of all processes.
pub fn queue(url: &str) -> DurableQueueBuilder {
    DurableQueue::builder(url, "faults").answer_timeout(ANSWER_TIMEOUT).connect_timeout(PATIENCE)
}

pub fn be(part: &str) -> ExitCode {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let (Ok(part), Ok(runtime)) = (serde_json::from_str::<Part>(part), runtime) else { return ExitCode::FAILURE };
    let said = match part.role {
        Role::Producer { numbers, per_second } => {
            // The parent, which waits for the result, has ended.
            thread::spawn(|| {
                read_to_the_end();
                exit(1);
            });
            serde_json::to_string(&runtime.block_on(produce(&part.url, numbers, per_second)))
        }
        Role::Worker { log } => serde_json::to_string(&runtime.block_on(work(&part.url, log))),
        Role::Fragile { log, max_tries } => {
            serde_json::to_string(&runtime.block_on(work_until_poisoned(&part.url, log, max_tries)))
        }
    };
    match said {
        Ok(said) => println!("{said}"),
        Err(_) => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

fn read_to_the_end() {
    // An error is an end of the input too.
    let _ = stdin().read_to_end(&mut Vec::new());
}

async fn produce(url: &str, numbers: Range<u32>, per_second: u32) -> Vec<Sent> {
    let queue = queue(url).connect().await.expect("a working server");
    let (began, mut next, mut sending) = (Instant::now(), numbers.start, JoinSet::new());
    while next < numbers.end {
        let due = (Instant::now() - began).as_micros() * u128::from(per_second) / 1_000_000;
        let due = numbers.end.min(numbers.start + due as u32);
        for number in next..due {
            sending.spawn(send(queue.clone(), number));
        }
        next = due;
        sleep(Duration::from_millis(1)).await;
    }
    sending.join_all().await
}

async fn send(queue: DurableQueue, number: u32) -> Sent {
    let mut producer = queue.producer(|message: Message| Ok::<_, Infallible>(message));
    let message = Message::new(payload(number)).once(number.to_string());
    let mut sends = 0;
    loop {
        sends += 1;
        match producer.call(message.clone()).await {
            Ok(receipt) => return Sent { number, id: receipt.id, sends, is_duplicate: receipt.is_duplicate },
            Err(_) => sleep(RESEND_AFTER).await,
        }
    }
}

async fn work(url: &str, log: PathBuf) -> Report {
    let queue = queue(url).connect_lazily().expect("valid settings");
    let log = Arc::new(Log::append_to(&log));
    let noting = log.clone();
    let decode = move |delivery: Delivery| match number_of(&delivery.payload) {
        Some(number) => Ok((number, delivery)),
        None => {
            noting.note(&delivery, Outcome::Undecodable);
            Err("no number")
        }
    };
    let service = service_fn(move |(number, delivery): (u32, Delivery)| {
        let log = log.clone();
        async move {
            sleep(WORK).await;
            let fails = match Kind::of(number) {
                Kind::Poison => true,
                Kind::FailsOnce => delivery.attempt == 1,
                Kind::Plain | Kind::Undecodable => false,
            };
            log.note(&delivery, if fails { Outcome::Failure } else { Outcome::Success });
            if fails { Err("told to") } else { Ok(()) }
        }
    });
    let worker = queue
        .worker(decode, service)
        .concurrency(CONCURRENCY)
        .prefetch(PREFETCH)
        .max_tries(MAX_TRIES)
        .backoff(Backoff::exponential(BACKOFF, 4 * BACKOFF).jitter(Jitter::None))
        .takeover_after(TAKEOVER_AFTER)
        .build()
        .expect("valid settings");
    let (stop, stopped) = oneshot::channel();
    thread::spawn(|| {
        read_to_the_end();
        let _ = stop.send(());
    });
    let report = worker.run(async { drop(stopped.await) }).await;
    Report { unconfirmed: report.unconfirmed }
}

/// The duration of the work on a message of a fragile worker, and the time until late poison kills.
const FRAGILE_WORK: Duration = Duration::from_millis(20);
const LATE: Duration = Duration::from_millis(1500);

async fn work_until_poisoned(url: &str, log: PathBuf, max_tries: u32) -> Report {
    let queue = DurableQueue::builder(url, "orders").connect_lazily().expect("valid settings");
    let decode = |delivery: Delivery| String::from_utf8(delivery.payload);
    let service = service_fn(move |text: String| {
        let log = log.clone();
        async move {
            let mut file = OpenOptions::new().create(true).append(true).open(log)?;
            // In one write, so that lines of two processes do not mix.
            file.write_all(format!("{text}\n").as_bytes())?;
            if text.starts_with("late poison") {
                sleep(LATE).await;
                abort();
            }
            sleep(FRAGILE_WORK / 2).await;
            if text.starts_with("poison") {
                abort();
            }
            sleep(FRAGILE_WORK / 2).await;
            Ok::<_, io::Error>(())
        }
    });
    let worker = queue.worker(decode, service).concurrency(16).prefetch(16).max_tries(max_tries);
    let worker = worker.takeover_after(Duration::from_millis(400)).build().expect("valid settings");
    let (stop, stopped) = oneshot::channel();
    thread::spawn(|| {
        read_to_the_end();
        let _ = stop.send(());
    });
    let report = worker.run(async { drop(stopped.await) }).await;
    Report { unconfirmed: report.unconfirmed }
}
