//! Poison messages that kill their process, beside other messages: real processes that abort.

use crate::{
    durable_faults::Process,
    durable_faults::{Part, Role},
    durable_fixture::{builder, millis, readings, until},
    server::RedisServer,
    trial::trials,
};
use std::{collections::BTreeMap, convert::Infallible, fs, path::PathBuf, time::Duration};
use steadfast::load_level::durable::{DurableQueue, Message, QueueReadings};
use tokio::time::{Instant, sleep};
use tower::Service;

trials![
    one_poison_message_among_ten_others_dies_alone,
    four_poison_messages_among_four_hundred_die_alone,
    a_message_that_kills_late_dies_and_delays_others_briefly,
    messages_survive_workers_that_are_killed_repeatedly,
];

const MAX_TRIES: u32 = 3;

/// Workers that are restarted when they die.
struct Workers {
    server: RedisServer,
    queue: DurableQueue,
    processes: Vec<Process>,
    log: PathBuf,
    deaths: u32,
}

impl Workers {
    async fn start(count: usize) -> Self {
        let server = RedisServer::start().await;
        let queue = builder(&server).connect().await.expect("a working server");
        let log = server.directory().join("calls");
        let mut workers = Self { server, queue, processes: Vec::new(), log, deaths: 0 };
        for _ in 0..count {
            workers.processes.push(workers.one());
        }
        workers
    }

    fn one(&self) -> Process {
        let role = Role::Fragile { log: self.log.clone(), max_tries: MAX_TRIES };
        Process::start(&Part { url: self.server.url(), role })
    }

    async fn append(&self, texts: impl IntoIterator<Item = String>) {
        let mut producer = self.queue.producer(|message: Message| Ok::<_, Infallible>(message));
        let appended: Vec<_> = texts.into_iter().map(|text| producer.call(text.into())).collect();
        for receipt in appended {
            receipt.await.expect("a queue with room");
        }
    }

    /// Restarts dead workers until no message is left.
    async fn finish(&mut self) -> QueueReadings {
        let began = Instant::now();
        loop {
            for place in 0..self.processes.len() {
                if self.processes[place].has_ended() {
                    self.deaths += 1;
                    self.processes[place] = self.one();
                }
            }
            let now = readings(&self.queue).await;
            if now.backlog() == 0 {
                return now;
            }
            assert!(Instant::now() < began + Duration::from_secs(90), "not done: {now:?}, {} deaths", self.deaths);
            sleep(millis(10)).await;
        }
    }

    /// Returns the text of each dead letter, and its number of tries.
    async fn dead(&self) -> BTreeMap<String, u32> {
        let letters = self.queue.dead_letters(1000).await.expect("a server that answers");
        let text = |payload| String::from_utf8(payload).expect("text");
        letters.into_iter().map(|letter| (text(letter.payload), letter.attempts)).collect()
    }

    /// Returns how often the call of each message began.
    fn begun(&self) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        for line in fs::read_to_string(&self.log).unwrap_or_default().lines() {
            *counts.entry(line.to_owned()).or_default() += 1;
        }
        counts
    }
}

async fn one_poison_message_among_ten_others_dies_alone() {
    let mut workers = Workers::start(0).await;
    let innocent = |number| format!("innocent {number}");
    workers.append((0..5).map(innocent).chain(["poison".to_owned()]).chain((5..10).map(innocent))).await;
    // One worker, which takes all of them.
    workers.processes.push(workers.one());
    let readings = workers.finish().await;
    assert_eq!(workers.dead().await, BTreeMap::from([("poison".to_owned(), MAX_TRIES)]));
    assert_eq!((readings.acknowledged, readings.dead), (10, 1), "{readings:?}");
    // Once beside other calls, and alone in each counted try.
    assert_eq!((workers.begun()["poison"], workers.deaths), (MAX_TRIES + 1, MAX_TRIES + 1));
    let most = (0..10).map(|number| workers.begun()[&innocent(number)]).max();
    assert!(most <= Some(2), "a call began {most:?} times: at most once beside the poison, and once alone");
}

async fn four_poison_messages_among_four_hundred_die_alone() {
    let mut workers = Workers::start(3).await;
    let text = |number: u32| if number % 100 == 50 { format!("poison {number}") } else { format!("innocent {number}") };
    workers.append((0..400).map(text)).await;
    let readings = workers.finish().await;
    let poison: Vec<String> = (0..400).map(text).filter(|text| text.starts_with("poison")).collect();
    assert_eq!(workers.dead().await.into_keys().collect::<Vec<_>>(), sorted(poison), "{readings:?}");
    assert_eq!((readings.acknowledged, readings.dead), (396, 4), "{readings:?}");
    println!("four of four hundred are poison: {} deaths", workers.deaths);
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

async fn a_message_that_kills_late_dies_and_delays_others_briefly() {
    let mut workers = Workers::start(1).await;
    // It kills after the time in which no other call begins.
    workers
        .append(["late poison".to_owned()].into_iter().chain((0..10).map(|number| format!("innocent {number}"))))
        .await;
    let readings = workers.finish().await;
    assert_eq!(workers.dead().await, BTreeMap::from([("late poison".to_owned(), MAX_TRIES)]), "{readings:?}");
    assert_eq!(readings.acknowledged, 10, "{readings:?}");
}

async fn messages_survive_workers_that_are_killed_repeatedly() {
    let mut workers = Workers::start(2).await;
    workers.append((0..200).map(|number| format!("innocent {number}"))).await;
    let began = workers.begun().len();
    until("they work", async || workers.begun().len() > began).await;
    // More kills than a message has tries.
    for kill in 0..3 * MAX_TRIES {
        let place = kill as usize % 2;
        workers.processes[place].kill();
        workers.processes[place] = workers.one();
        sleep(millis(150)).await;
    }
    let readings = workers.finish().await;
    assert_eq!((readings.acknowledged, readings.dead), (200, 0), "{readings:?}");
}
