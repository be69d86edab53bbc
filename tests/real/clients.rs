//! The client examples and the example of a user's own gate: alone, against the server examples, and against servers
//! that die or hang.

use crate::process::{Process, Server};
use crate::trial::trials;
use std::{net::TcpListener, time::Duration};
use tokio::time::Instant;

trials![
    the_tower_service_goes_through_an_outage,
    a_noisy_tenant_takes_only_its_own_permits,
    the_hyper_client_hides_the_faults_of_a_flaky_server,
    the_hyper_client_calls_the_hyper_server,
    the_tonic_client_hides_the_faults_of_a_flaky_server,
    the_tonic_client_calls_the_tonic_server,
    the_reqwest_client_cuts_off_only_the_host_that_is_down,
    the_hyper_client_fails_fast_when_the_server_is_killed,
    the_tonic_client_fails_fast_when_the_server_is_killed,
    the_hyper_client_gives_up_on_a_server_that_never_answers,
    the_tonic_client_gives_up_on_a_server_that_never_answers,
];

/// The number of calls of `hyper_client` and `tonic_client`.
const CALLS: usize = 20;

fn count(lines: &[String], text: &str) -> usize {
    lines.iter().filter(|line| line.contains(text)).count()
}

/// The lines that `hyper_client` and `tonic_client` print for each call.
fn calls(lines: &[String]) -> &[String] {
    let first = lines.iter().position(|line| line.starts_with("call ")).expect("there are calls");
    &lines[first..]
}

/// Checks that all calls succeeded, except calls during which the machine stalled.
fn assert_answered(lines: &[String], answer: &str) {
    assert!(lines[0].starts_with("A call passes"), "{lines:#?}");
    let calls = calls(lines);
    assert_eq!(count(calls, "call "), CALLS, "{lines:#?}");
    assert!(count(calls, answer) >= CALLS - 2, "{lines:#?}");
    assert_eq!(lines.last().unwrap(), "The circuit is Closed.");
}

/// Checks that the first attempts failed, then the breaker opened, and the other calls were not sent.
fn assert_cut_off(lines: &[String], failures: &[&str]) {
    let refused = "circuit breaker: open";
    let calls = calls(lines);
    let sent = calls.iter().position(|call| call.contains(refused)).unwrap_or(calls.len());
    let failed = |call: &String| failures.iter().any(|failure| call.contains(failure));
    assert!(calls[..sent].iter().any(failed), "{lines:#?}");
    assert!(count(calls, refused) > 0 && !calls[sent..].iter().any(failed), "{lines:#?}");
    assert_eq!(lines.last().unwrap(), "The circuit is Open.");
}

/// Kills the server after a few calls, and returns the lines of the client after that.
fn kill_in_mid_use(server: &str, client: &str) -> Vec<String> {
    let server = Server::start(server);
    let mut client = Process::start(client, &[&server.address().to_string()]);
    while !client.next_line().expect("there are more calls").starts_with("call 5:") {}
    server.kill();
    let killed = Instant::now();
    let lines = client.finish();
    let took = Instant::now().saturating_duration_since(killed);
    // 15 calls. At worst, 10 attempts with a connect timeout of 200 ms and a backoff of 50 ms come before the circuit
    // opens: 4 s. Attempts that hang would take 6 s, and calls that hang 30 s.
    assert!(took < Duration::from_secs(10), "{took:?}");
    lines
}

async fn the_tower_service_goes_through_an_outage() {
    let lines = Process::start("tower_service", &[]).finish();
    assert!(lines[0].starts_with("A call passes") && lines[3].contains("circuit breaker"), "{lines:#?}");
    // 10 before the outage and 5 after it.
    assert!(count(&lines, "tea costs 3") >= 15 - 2, "{lines:#?}");
    assert!(count(&lines, "failed: no price today") > 0, "{lines:#?}");
    assert!(count(&lines, "circuit breaker: open for another ") > 0, "{lines:#?}");
    assert!(count(&lines, "The circuit is Open, and ") == 1, "{lines:#?}");
    assert_eq!(lines.last().unwrap(), "The circuit is Closed.");
}

async fn a_noisy_tenant_takes_only_its_own_permits() {
    let lines = Process::start("own_gate", &[]).finish();
    assert_eq!(count(&lines, "1. bulkheads: 2 tenants and all others, 12 in flight"), 1, "{lines:#?}");
    // On a stalled machine, a call of the noisy tenant may end before the last call comes.
    assert!(count(&lines, "noisy: 50 served") == 0 && count(&lines, "noisy: ") == 1, "{lines:#?}");
    assert_eq!(count(&lines, "quiet: 3 served, 0 refused"), 1, "{lines:#?}");
    assert_eq!(count(&lines, "unknown: 2 served, 0 refused"), 1, "{lines:#?}");
    assert_eq!(lines.last().unwrap(), "In flight at the end: 0");
}

async fn the_hyper_client_hides_the_faults_of_a_flaky_server() {
    let lines = Process::start("hyper_client", &[]).finish();
    assert!(count(&lines, "the server fails") >= 4, "{lines:#?}");
    assert_answered(&lines, "200 OK");
}

async fn the_hyper_client_calls_the_hyper_server() {
    let server = Server::start("hyper_server");
    assert_answered(&Process::start("hyper_client", &[&server.address().to_string()]).finish(), "200 OK");
}

async fn the_tonic_client_hides_the_faults_of_a_flaky_server() {
    let lines = Process::start("tonic_client", &[]).finish();
    assert!(count(&lines, "the server fails") >= 4, "{lines:#?}");
    assert_answered(&lines, "Serving");
}

async fn the_tonic_client_calls_the_tonic_server() {
    let server = Server::start("tonic_server");
    assert_answered(&Process::start("tonic_client", &[&server.address().to_string()]).finish(), "Serving");
}

async fn the_reqwest_client_cuts_off_only_the_host_that_is_down() {
    let lines = Process::start("reqwest_client", &[]).finish();
    assert!(lines[0].starts_with("A call passes"), "{lines:#?}");
    let (calls, circuits) = calls(&lines).split_at(2 * CALLS);
    let host = |line: &String| line.split(": ").nth(1).expect("a host").to_owned();
    let (up, down) = (host(&calls[0]), host(&calls[1]));
    let counted = |host: &str, text| calls.iter().filter(|call| call.contains(host) && call.contains(text)).count();
    // One call in five fails, and is not retried while the other host uses up the budget. The whole stream comes back.
    assert!(counted(&up, "200 OK, 22 bytes") >= CALLS - 6, "{lines:#?}");
    assert_eq!(counted(&up, "circuit breaker"), 0, "{lines:#?}");
    assert!(counted(&down, "502 Bad Gateway") > 0, "{lines:#?}");
    assert!(counted(&down, "circuit breaker: open for another ") > 0, "{lines:#?}");
    let circuit = |host: &str, state| circuits.contains(&format!("The circuit of {host} is {state}."));
    assert!(circuits.len() == 2 && circuit(&up, "Closed") && circuit(&down, "Open"), "{lines:#?}");
}

async fn the_hyper_client_fails_fast_when_the_server_is_killed() {
    assert_cut_off(&kill_in_mid_use("hyper_server", "hyper_client"), &["failed: client error"]);
}

async fn the_tonic_client_fails_fast_when_the_server_is_killed() {
    assert_cut_off(&kill_in_mid_use("tonic_server", "tonic_client"), &["Unavailable: tcp connect error"]);
}

async fn the_hyper_client_gives_up_on_a_server_that_never_answers() {
    // The kernel accepts connections for a listener even if the process does not.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let lines = Process::start("hyper_client", &[&address.to_string()]).finish();
    assert_cut_off(&lines, &["timeout: no answer within "]);
}

async fn the_tonic_client_gives_up_on_a_server_that_never_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let lines = Process::start("tonic_client", &[&address.to_string()]).finish();
    assert_cut_off(&lines, &["DeadlineExceeded: timeout: no answer within "]);
    assert_eq!(count(&lines, "Timeout expired"), 0, "the timer of tonic ended an attempt: {lines:#?}");
}
