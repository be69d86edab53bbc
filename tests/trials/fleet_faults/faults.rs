//! The faults of one server, and of the network to it.

use super::{
    client::{BURST, PROCESSES, RATE},
    fleet::{fault, run, run_with_a_death},
    verdict::{Beyond, check},
};
use crate::{
    proxy::Proxy,
    server::{RedisServer, free_port},
    trial::trials,
};
use redis::{aio::MultiplexedConnection, cmd};
use std::time::Duration;
use tokio::{sync::Mutex, task::JoinHandle, time::sleep};

trials![
    nothing_happens,
    the_server_is_stopped_for_a_while,
    the_server_is_stopped_again_and_again,
    the_server_is_killed_three_times,
    all_clients_are_paused_for_a_while,
    all_keys_are_flushed_twice,
    keys_are_evicted_for_a_while,
    a_password_is_set_for_a_while,
    a_process_dies_and_another_takes_its_place,
    a_replica_that_lags_behind_takes_over,
    the_server_is_killed_and_comes_back_empty,
    the_server_is_killed_and_comes_back_with_its_data,
    the_scripts_are_flushed_again_and_again,
    the_server_is_a_replica_for_a_while,
    the_server_is_loading_for_a_while,
    the_server_is_out_of_memory_for_a_while,
    the_server_has_no_room_for_connections_for_a_while,
    the_network_adds_fifty_milliseconds_for_a_while,
    the_network_adds_two_hundred_milliseconds_for_a_while,
    the_network_is_a_black_hole_for_a_while,
    half_of_the_processes_are_cut_off_for_a_while,
];

/// The longest time of a fault: its own length, and half a second in which it is made.
fn length() -> f64 {
    fault().as_secs_f64() + 0.5
}

fn all(url: String) -> [String; PROCESSES] {
    [const { String::new() }; PROCESSES].map(|_| url.clone())
}

/// A connection that was made before the fault, since none can be made during it.
struct Kept(Mutex<MultiplexedConnection>);

impl Kept {
    async fn tell(&self, words: &[&str]) {
        let mut connection = self.0.lock().await;
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async::<redis::Value>(&mut *connection).await.expect("a command that is right");
    }
}

async fn nothing_happens() {
    let server = RedisServer::start().await;
    let run = run(all(server.url()), false, async || {}, async || {}).await;
    check("calm", &run, Beyond::default());
}

async fn the_server_is_stopped_for_a_while() {
    let server = RedisServer::start().await;
    let run = run(all(server.url()), false, async || server.stop(), async || server.cont()).await;
    check("stopped", &run, Beyond::outage(length()));
}

async fn the_server_is_stopped_again_and_again() {
    let server = RedisServer::start().await;
    let begin = async || {
        for _ in 0..4 {
            server.stop();
            sleep(fault() / 9).await;
            server.cont();
            sleep(fault() / 9).await;
        }
    };
    let run = run(all(server.url()), false, begin, async || {}).await;
    check("stopped 4 times", &run, Beyond { comes_and_goes: true, ..Beyond::outage(length()) });
}

async fn the_server_is_killed_three_times() {
    let server = Mutex::new(RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "everysec"]).await);
    let url = server.lock().await.url();
    let begin = async || {
        for _ in 0..3 {
            server.lock().await.kill();
            sleep(fault() / 12).await;
            server.lock().await.restart().await;
            sleep(fault() / 8).await;
        }
    };
    let run = run(all(url), false, begin, async || {}).await;
    check("killed 3 times", &run, Beyond::outage(length()));
}

async fn all_clients_are_paused_for_a_while() {
    let server = RedisServer::start().await;
    let pause = fault().as_millis().to_string();
    let run =
        run(all(server.url()), false, async || drop(server.command(&["CLIENT", "PAUSE", &pause]).await), async || {});
    check("clients paused", &run.await, Beyond::outage(length()));
}

async fn all_keys_are_flushed_twice() {
    let server = RedisServer::start().await;
    let begin = async || {
        server.command(&["FLUSHALL"]).await;
        sleep(fault() / 2).await;
        server.command(&["FLUSHALL"]).await;
    };
    let run = run(all(server.url()), false, begin, async || {}).await;
    // The processes know what they spent, so little is admitted twice.
    check("keys flushed twice", &run, Beyond { bucket: BURST / 4, window: RATE / 2, ..Beyond::default() });
}

async fn keys_are_evicted_for_a_while() {
    let server = RedisServer::start().await;
    let begin = async || {
        server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]).await;
        server.command(&["CONFIG", "SET", "maxmemory", "2500000"]).await;
    };
    let end = async || drop(server.command(&["CONFIG", "SET", "maxmemory", "0"]).await);
    let run = run(all(server.url()), false, begin, end).await;
    check(
        "evicted",
        &run,
        Beyond { bucket: BURST + Beyond::outage(length()).bucket, window: RATE / 2, ..Beyond::default() },
    );
}

async fn a_password_is_set_for_a_while() {
    let server = RedisServer::start().await;
    let ours = Kept(Mutex::new(server.connect().await));
    let tell = async |words: &[&str]| ours.tell(words).await;
    let begin = async || {
        tell(&["CONFIG", "SET", "requirepass", "secret"]).await;
        tell(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    };
    let end = async || tell(&["CONFIG", "SET", "requirepass", ""]).await;
    let run = run(all(server.url()), false, begin, end).await;
    check("password set", &run, Beyond::outage(length()));
}

async fn a_process_dies_and_another_takes_its_place() {
    let server = RedisServer::start().await;
    let run = run_with_a_death(server.url()).await;
    // Its unreported spends are lost with it.
    check("a process dies", &run, Beyond { bucket: RATE / 10, ..Beyond::default() });
}

async fn a_replica_that_lags_behind_takes_over() {
    let (old, new) = (Mutex::new(RedisServer::start().await), RedisServer::start().await);
    let port = old.lock().await.port();
    new.command(&["REPLICAOF", "127.0.0.1", &port.to_string()]).await;
    while new.info("master_link_status").await != "up" {
        sleep(Duration::from_millis(20)).await;
    }
    let name = Proxy::to(port).await;
    // From now on the replica gets no updates, and then it takes over.
    let begin = async || drop(new.command(&["REPLICAOF", "NO", "ONE"]).await);
    let end = async || {
        name.lead_to(new.port());
        old.lock().await.kill();
    };
    let run = run(all(name.url()), false, begin, end).await;
    check("a replica that lags", &run, Beyond { window: RATE / 2, ..Beyond::outage(1.0) });
}

async fn the_server_is_killed_and_comes_back_empty() {
    let server = Mutex::new(RedisServer::start().await);
    let url = server.lock().await.url();
    let kill = async || server.lock().await.kill();
    let run = run(all(url), false, kill, async || server.lock().await.restart_empty().await).await;
    check("killed, empty", &run, Beyond::loss(length()));
}

async fn the_server_is_killed_and_comes_back_with_its_data() {
    let server = Mutex::new(RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "everysec"]).await);
    // Its writes are with the operating system, which is not killed.
    let url = server.lock().await.url();
    let kill = async || server.lock().await.kill();
    let run = run(all(url), false, kill, async || server.lock().await.restart().await).await;
    check("killed, with its data", &run, Beyond::outage(length()));
}

async fn the_scripts_are_flushed_again_and_again() {
    let server = RedisServer::start().await;
    let flush = async || {
        for _ in 0..20 {
            server.command(&["SCRIPT", "FLUSH"]).await;
            sleep(fault() / 25).await;
        }
    };
    let run = run(all(server.url()), false, flush, async || {}).await;
    check("scripts flushed", &run, Beyond::default());
}

async fn the_server_is_a_replica_for_a_while() {
    let server = RedisServer::start().await;
    let no_server = free_port().to_string();
    let begin = async || drop(server.command(&["REPLICAOF", "127.0.0.1", &no_server]).await);
    let end = async || drop(server.command(&["REPLICAOF", "NO", "ONE"]).await);
    let run = run(all(server.url()), false, begin, end).await;
    check("read-only", &run, Beyond::outage(length()));
}

async fn the_server_is_loading_for_a_while() {
    // Loading takes half a millisecond for each key.
    let slow = ["--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024"];
    let server = RedisServer::start_with(&slow).await;
    let url = server.url();
    for key in 0..600 {
        server.command(&["SET", &format!("filler {key}"), &"x".repeat(64)]).await;
    }
    let server = Mutex::new(Some(server));
    let restarting: Mutex<Option<JoinHandle<RedisServer>>> = Mutex::default();
    let begin = async || {
        let mut server = server.lock().await.take().expect("it runs");
        server.command(&["SAVE"]).await;
        server.kill();
        *restarting.lock().await = Some(tokio::spawn(async move {
            server.restart().await;
            server
        }));
    };
    let end = async || {
        let task = restarting.lock().await.take().expect("it was begun");
        *server.lock().await = Some(task.await.expect("it starts"));
    };
    let run = run(all(url), false, begin, end).await;
    check("loading", &run, Beyond::outage(length()));
}

async fn the_server_is_out_of_memory_for_a_while() {
    let server = RedisServer::start().await;
    let begin = async || drop(server.command(&["CONFIG", "SET", "maxmemory", "1"]).await);
    let end = async || drop(server.command(&["CONFIG", "SET", "maxmemory", "0"]).await);
    let run = run(all(server.url()), false, begin, end).await;
    check("out of memory", &run, Beyond::outage(length()));
}

async fn the_server_has_no_room_for_connections_for_a_while() {
    let server = RedisServer::start().await;
    let ours = Kept(Mutex::new(server.connect().await));
    let tell = async |words: &[&str]| ours.tell(words).await;
    let begin = async || {
        tell(&["CONFIG", "SET", "maxclients", "1"]).await;
        tell(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    };
    let end = async || tell(&["CONFIG", "SET", "maxclients", "1000"]).await;
    let run = run(all(server.url()), false, begin, end).await;
    check("no room for connections", &run, Beyond::outage(length()));
}

async fn the_network_adds_fifty_milliseconds_for_a_while() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(server.port()).await;
    let begin = async || proxy.delay(Duration::from_millis(25), Duration::from_millis(25));
    let end = async || proxy.delay(Duration::ZERO, Duration::ZERO);
    let run = run(all(proxy.url()), false, begin, end).await;
    check("50 ms added", &run, Beyond::outage(length()));
}

async fn the_network_adds_two_hundred_milliseconds_for_a_while() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(server.port()).await;
    let begin = async || proxy.delay(Duration::from_millis(100), Duration::from_millis(100));
    let end = async || proxy.delay(Duration::ZERO, Duration::ZERO);
    let run = run(all(proxy.url()), false, begin, end).await;
    check("200 ms added", &run, Beyond::outage(length()));
}

async fn the_network_is_a_black_hole_for_a_while() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(server.port()).await;
    let begin = async || proxy.black_hole(true);
    let run = run(all(proxy.url()), false, begin, async || proxy.black_hole(false)).await;
    check("black hole", &run, Beyond::outage(length()));
}

async fn half_of_the_processes_are_cut_off_for_a_while() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(server.port()).await;
    let urls = [server.url(), server.url(), proxy.url(), proxy.url()];
    let run = run(urls, false, async || proxy.refuse(true), async || proxy.refuse(false)).await;
    // The processes with a store have the whole rate, and the others have their half of it, plus a tenth. The share of
    // these of a window is what they held and had spent when they were cut off, at most the limit.
    let share = RATE as f64 * length() * 0.6;
    let bucket = Beyond::outage(length()).bucket + share.ceil() as u64;
    let beyond = Beyond { bucket, window: RATE, is_owed: true, ..Beyond::default() };
    check("half cut off", &run, beyond);
}
