//! The load, and the record of a run.

use indicatif::ProgressBar;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use steadfast::load_level::DrainTime;
use tokio::time::{Instant, interval, sleep};
use tower::BoxError;

/// The service works on 10 jobs at once, and each takes 100 ms: a hundred jobs per second.
pub const AT_ONCE: usize = 10;
const WORK: Duration = Duration::from_millis(100);
/// Arrivals per tick: usually half of the capacity, and ten times the capacity in the burst.
const USUAL: u64 = 1;
const BURST: u64 = 20;
const TICK: Duration = Duration::from_millis(20);
/// How long the usual work arrives before the burst, and after the queue is empty again.
pub const CALM: Duration = Duration::from_secs(1);
const TICKS_PER_LOOK: u32 = 25;
/// The number of rows in the table.
const ROWS: usize = 12;
/// A burst of one minute is worked off in 18.
const LONGEST_RUN: Duration = Duration::from_secs(1_200);

/// One job, by its number.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "stored only in Redis"))]
pub struct Job(pub u64);

/// The slow service.
pub async fn work(_job: Job) {
    sleep(WORK).await;
}

/// A queue for jobs.
pub trait Line {
    /// Submits a job. Resolves when the job is done, or stored in Redis.
    fn bring(&self, job: Job) -> impl Future<Output = Result<(), BoxError>> + Send + 'static;

    /// Reads the state of the queue.
    fn look(&self) -> impl Future<Output = Result<Look, BoxError>>;
}

/// The readings of a queue.
pub struct Look {
    pub waiting: u64,
    pub drain_time: DrainTime,
}

/// The readings of a queue, and when they were taken, in seconds since the start.
pub struct Moment {
    pub at: f64,
    pub look: Look,
}

pub struct Run {
    pub burst: Duration,
    pub moments: Vec<Moment>,
    /// When the queue was empty after the burst, in seconds since the start.
    pub gone_at: f64,
    brought: u64,
    refused: u64,
}

/// Sends jobs until the queue is empty again.
pub async fn run(line: &impl Line, burst: Duration, bar: &ProgressBar) -> Result<Run, BoxError> {
    let refused = Arc::new(AtomicU64::new(0));
    let (start, mut ticks) = (Instant::now(), interval(TICK));
    let (mut moments, mut brought, mut gone_at) = (Vec::new(), 0, None);
    for tick in 0_u32.. {
        ticks.tick().await;
        // Follows the plan, not the clock: a late tick still sends its jobs.
        let planned = TICK * tick;
        let bursts = (CALM..CALM + burst).contains(&planned);
        for _ in 0..if bursts { BURST } else { USUAL } {
            let (job, refused) = (line.bring(Job(brought)), refused.clone());
            tokio::spawn(async move {
                if job.await.is_err() {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            });
            brought += 1;
        }
        if tick % TICKS_PER_LOOK != 0 {
            continue;
        }
        let look = line.look().await?;
        let at = Instant::now() - start;
        report(&look, brought, bar);
        if planned >= CALM + burst && look.waiting == 0 {
            gone_at.get_or_insert(at);
        }
        moments.push(Moment { at: at.as_secs_f64(), look });
        match gone_at {
            Some(gone_at) if at >= gone_at + CALM => break,
            None if at > LONGEST_RUN => return Err("the backlog does not go away".into()),
            _ => {}
        }
    }
    let gone_at = gone_at.unwrap_or_default().as_secs_f64();
    Ok(Run { burst, moments, gone_at, brought, refused: refused.load(Ordering::Relaxed) })
}

fn report(look: &Look, brought: u64, bar: &ProgressBar) {
    bar.set_length(brought);
    bar.set_position(brought.saturating_sub(look.waiting));
    bar.set_message(format!("{} wait, gone: {}", look.waiting, in_words(look.drain_time)));
}

fn in_words(drain_time: DrainTime) -> String {
    match drain_time {
        DrainTime::In(time) => format!("in {:.1} s", time.as_secs_f64()),
        DrainTime::Never => "never".to_owned(),
        _ => "unknown".to_owned(),
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>8}{:>10}{:>16}{:>16}", "second", "waiting", "gone, predicted", "actual")?;
        for moment in self.moments.iter().step_by(self.moments.len().div_ceil(ROWS).max(1)) {
            let Moment { at, look: Look { waiting, drain_time } } = moment;
            let truth = (self.gone_at - at).max(0.0);
            let truth = if *waiting == 0 { String::new() } else { format!("in {truth:.1} s") };
            writeln!(f, "{at:>8.1}{waiting:>10}{:>16}{truth:>16}", in_words(*drain_time))?;
        }
        let Self { brought, refused, gone_at, .. } = self;
        writeln!(f, "{brought} brought, {refused} refused; the queue was empty from second {gone_at:.1} on")
    }
}
