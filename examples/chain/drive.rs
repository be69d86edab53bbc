//! The client at the top of the chain.

use crate::{
    DEADLINE, RATE, Style, grpc,
    hop::{Addresses, Mode},
    web,
};
use http_body_util::BodyExt;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::{Instant, interval, sleep, timeout};
use tower::{BoxError, Service};

/// How long each phase lasts.
const PHASE: Duration = Duration::from_secs(10);

const PROTOCOLS: [&str; 2] = ["HTTP", "gRPC"];

/// A hop. Dropping it kills its process, by its id.
struct Hop {
    process: Child,
    addresses: Addresses,
}

impl Drop for Hop {
    fn drop(&mut self) {
        // Both fail only for a child that has ended and was already waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Hop {
    /// Starts this program as a hop that calls the next one.
    fn start(style: Style, next: Option<Addresses>) -> Result<Self, BoxError> {
        let next = next.map_or("none".to_owned(), |next| format!("{}+{}", next.web, next.grpc));
        let mut command = Command::new(env::current_exe()?);
        command.args(["--hop", &next]).stdin(Stdio::piped()).stdout(Stdio::piped());
        if style == Style::Plain {
            command.arg("--plain");
        }
        let mut process = command.spawn()?;
        let output = process.stdout.take().ok_or("a hop has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let addresses = line.trim().strip_prefix("listening on ").ok_or("a hop does not listen")?.parse()?;
        Ok(Self { process, addresses })
    }

    /// Reads the hop's counters: calls by HTTP and gRPC, calls whose deadline did not shrink, and the longest overruns
    /// in microseconds.
    async fn seen(&self, path: &str) -> Result<[u64; 5], BoxError> {
        let http = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new());
        let answer = http.build_http().request(web::request(self.addresses.web, path)).await?;
        let text = answer.into_body().collect().await?.to_bytes();
        let mut numbers = std::str::from_utf8(&text)?.split(' ').map(str::parse);
        let mut next = || numbers.next().ok_or("a hop says too little");
        Ok([next()??, next()??, next()??, next()??, next()??])
    }
}

/// The results of the calls of one phase.
struct Phase {
    what: &'static str,
    /// By protocol: the calls of the client, the calls at the leaf, the successful calls, and the longest call.
    calls: [u64; 2],
    at_leaf: [u64; 2],
    answered: [u64; 2],
    longest: [Duration; 2],
}

pub async fn run(style: Style, json: bool) -> Result<(), BoxError> {
    let leaf = Hop::start(style, None)?;
    let b = Hop::start(style, Some(leaf.addresses))?;
    let a = Hop::start(style, Some(b.addresses))?;
    let modes =
        [(Mode::Answers, "answers"), (Mode::Fails, "fails at once"), (Mode::TakesTwoSeconds, "takes two seconds")];
    let progress = ProgressBar::new(modes.len() as u64 * PHASE.as_secs());
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {eta}") {
        progress.set_style(style);
    }
    heading();
    let mut phases = Vec::new();
    for (mode, what) in modes {
        progress.set_message(format!("the leaf {what}"));
        let before = leaf.seen(&format!("/of/mode/{}", mode as usize)).await?;
        let mut phase = calls(style, a.addresses, what, &progress).await?;
        let after = leaf.seen("/of/all").await?;
        phase.at_leaf = [after[0] - before[0], after[1] - before[1]];
        progress.suspend(|| phase.print());
        phases.push(phase);
    }
    progress.finish_and_clear();
    let (mut not_shrunk, mut overruns) = (0, [0; 2]);
    for hop in [&a, &b, &leaf] {
        let [_, _, more, longest, own] = hop.seen("/of/all").await?;
        (not_shrunk, overruns) = (not_shrunk + more, [overruns[0].max(longest), overruns[1].max(own)]);
    }
    report(&phases, not_shrunk, overruns.map(|micros| micros as f64 / 1000.0), json);
    Ok(())
}

/// Makes the calls of one phase, over both protocols.
async fn calls(style: Style, to: Addresses, what: &'static str, progress: &ProgressBar) -> Result<Phase, BoxError> {
    let (web, grpc) = (web::client(style)?, grpc::client(style, to.grpc)?);
    let counts: Arc<[[AtomicU64; 2]; 2]> = Arc::default();
    let mut tick = interval(Duration::from_secs(1) / RATE);
    let begin = Instant::now();
    let mut made = 0;
    while (Instant::now() - begin) < PHASE {
        tick.tick().await;
        made += 1;
        progress.set_position(progress.position().max((Instant::now() - begin).as_secs()));
        let (mut web, counted) = (web.clone(), counts.clone());
        tokio::spawn(async move {
            let begin = Instant::now();
            // The timeout of the client's stack ends the call earlier. This timeout bounds the run even if it does not.
            let answer = timeout(2 * DEADLINE, web.call(web::request(to.web, "/"))).await;
            note(&counted[0], matches!(answer, Ok(Ok(answer)) if answer.status().is_success()), begin);
        });
        let (mut grpc, counted) = (grpc.clone(), counts.clone());
        tokio::spawn(async move {
            let begin = Instant::now();
            let answer = timeout(2 * DEADLINE, grpc.check(tonic_health::pb::HealthCheckRequest::default())).await;
            note(&counted[1], matches!(answer, Ok(Ok(_))), begin);
        });
    }
    // Waits until the last calls end and the leaf notices it.
    sleep(3 * DEADLINE).await;
    let [answered, longest] = [0, 1].map(|kind| [0, 1].map(|protocol: usize| counts[protocol][kind].load(Relaxed)));
    let longest = longest.map(Duration::from_micros);
    Ok(Phase { what, calls: [made; 2], at_leaf: [0; 2], answered, longest })
}

fn note([answered, longest]: &[AtomicU64; 2], well: bool, begin: Instant) {
    answered.fetch_add(u64::from(well), Relaxed);
    longest.fetch_max((Instant::now() - begin).as_micros() as u64, Relaxed);
}

fn heading() {
    println!(
        "{:<18} {:<5} {:>7} {:>9} {:>14} {:>12}",
        "the leaf", "by", "calls", "answered", "calls of leaf", "longest"
    );
}

impl Phase {
    fn amplification(&self) -> [f64; 2] {
        [0, 1].map(|protocol: usize| self.at_leaf[protocol] as f64 / self.calls[protocol] as f64)
    }

    fn print(&self) {
        for (protocol, name) in PROTOCOLS.iter().enumerate() {
            println!(
                "{:<18} {name:<5} {:>7} {:>9} {:>14.3} {:>9} ms",
                self.what,
                self.calls[protocol],
                self.answered[protocol],
                self.amplification()[protocol],
                self.longest[protocol].as_millis(),
            );
        }
    }
}

fn report(phases: &[Phase], not_shrunk: u64, [overrun, own]: [f64; 2], json: bool) {
    println!("calls whose deadline did not shrink from hop to hop: {not_shrunk}");
    println!("longest work of a handler beyond its deadline: {overrun:.1} ms");
    println!("the longest of these less the lateness of its process's timers: {own:.1} ms");
    if json {
        let answered = |phase: &Phase| [0, 1].map(|by: usize| phase.answered[by] as f64 / phase.calls[by] as f64);
        println!(
            "{}",
            serde_json::json!({
                "amplification": phases.iter().map(Phase::amplification).collect::<Vec<_>>(),
                "answered": phases.iter().map(answered).collect::<Vec<_>>(),
                "not_shrunk": not_shrunk,
                "overrun_ms": overrun,
                "own_overrun_ms": own,
            })
        );
    }
}
