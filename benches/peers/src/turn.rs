//! One turn: threads or tasks that start together, warm up, and count their operations until the time is over.

use crate::{
    allocations,
    gate::Gate,
    harness::{Effort, REQUEST},
    pinning::pin,
    tally::{Tally, Turn},
};
use std::{
    future::poll_fn,
    hint::black_box,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::{Builder, Handle, Runtime};
use tower::Service;

/// How long a loop runs between two clock readings: long enough to make the cost of the readings negligible.
const BATCH: Duration = Duration::from_micros(20);

/// How many calls a task makes before it yields, as a server's task does after one or a few. Otherwise the runtime's
/// budget would make it yield in the middle of a call, which some layers treat as overload.
const CALLS_AT_ONCE: u64 = 32;

/// How long a turn of tasks may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// A turn of plain threads, one for each object, with a tokio runtime entered.
pub fn on_threads<T: Send>(objects: Vec<T>, effort: Effort, operation: &(impl Fn(&mut T) -> bool + Sync)) -> Turn {
    let gates = [Gate::new(objects.len()), Gate::new(objects.len())];
    let run = |index: usize, mut object: T| {
        pin(index);
        let _context = workers(2).enter();
        turn_on_thread(&gates, effort, || operation(&mut object))
    };
    let run = &run;
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let handles: Vec<_> =
            objects.into_iter().enumerate().map(|(index, object)| scope.spawn(move || run(index, object))).collect();
        handles.into_iter().map(|handle| handle.join().expect("a measuring thread panicked")).collect()
    });
    Turn::of(&tallies)
}

/// A turn of tasks, one for each handle, which are made with the runtime entered.
pub fn in_tasks<S>(
    threads: usize,
    effort: Effort,
    expected: fn(&Result<S::Response, S::Error>) -> bool,
    handles: impl Fn() -> Vec<S>,
) -> Turn
where
    S: Service<u64> + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
{
    let runtime = workers(threads);
    let _context = runtime.enter();
    let gates = Arc::new([Gate::new(threads), Gate::new(threads)]);
    let tasks: Vec<_> =
        handles().into_iter().map(|handle| turn_in_task(gates.clone(), effort, handle, expected)).collect();
    let main = || -> Vec<Tally> {
        runtime.block_on(async {
            let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
            let mut tallies = Vec::new();
            for task in tasks {
                let tally = tokio::time::timeout(PATIENCE, task).await.expect("a measuring task hangs");
                tallies.push(tally.expect("a measuring task panicked"));
            }
            tallies
        })
    };
    let tallies = thread::scope(|scope| {
        let pinned = scope.spawn(|| {
            pin(0);
            main()
        });
        pinned.join().expect("a runtime panicked")
    });
    Turn::of(&tallies)
}

/// Returns the runtime with `threads` threads. It lives until the process ends.
fn workers(threads: usize) -> &'static Runtime {
    static ONE: OnceLock<Runtime> = OnceLock::new();
    static TWO: OnceLock<Runtime> = OnceLock::new();
    match threads {
        1 => ONE.get_or_init(|| {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            keep_a_timer(runtime.handle());
            runtime
        }),
        _ => TWO.get_or_init(|| {
            let index = AtomicUsize::new(0);
            let runtime = Builder::new_multi_thread()
                .worker_threads(2)
                .on_thread_start(move || pin(index.fetch_add(1, Ordering::Relaxed)))
                .enable_all()
                .build()
                .expect("a runtime");
            keep_a_timer(runtime.handle());
            runtime
        }),
    }
}

/// Keeps a timer in the runtime that is due soon, as every server has one. Without it, each new timer would be the next
/// to fire, and would wake the driver with a system call.
fn keep_a_timer(runtime: &Handle) {
    runtime.spawn(async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

fn turn_on_thread(gates: &[Gate; 2], effort: Effort, mut operation: impl FnMut() -> bool) -> Tally {
    gates[0].pass();
    let mut pace = Pace::new(effort);
    loop {
        match pace.step() {
            Step::Run(batch) => {
                let mut wrong = 0;
                for _ in 0..batch {
                    wrong += u64::from(!operation());
                }
                pace.tally.wrong += wrong;
            }
            Step::Meet => gates[1].pass(),
            Step::End => return pace.tally,
        }
    }
}

async fn turn_in_task<S>(
    gates: Arc<[Gate; 2]>,
    effort: Effort,
    mut service: S,
    expected: fn(&Result<S::Response, S::Error>) -> bool,
) -> Tally
where
    S: Service<u64>,
{
    gates[0].pass_in_task().await;
    let mut pace = Pace::new(effort);
    loop {
        match pace.step() {
            Step::Run(batch) => {
                let mut wrong = 0;
                for number in 1..=batch {
                    wrong += u64::from(!call(&mut service, expected).await);
                    if number % CALLS_AT_ONCE == 0 {
                        give_way().await;
                    }
                }
                pace.tally.wrong += wrong;
            }
            Step::Meet => gates[1].pass_in_task().await,
            Step::End => return pace.tally,
        }
    }
}

/// The next step of a thread.
enum Step {
    /// Runs this number of operations.
    Run(u64),
    /// The thread is warm, and waits for the others.
    Meet,
    End,
}

/// Leads a thread through its turn.
struct Pace {
    effort: Effort,
    phase: Phase,
    begin: Instant,
    last: Instant,
    tally: Tally,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    WarmingUp,
    Meeting,
    Measuring,
}

impl Pace {
    fn new(effort: Effort) -> Self {
        // Room for more batches than a turn can have, so that no batch allocates.
        let marks = Vec::with_capacity((effort.measured.as_nanos() / BATCH.as_nanos()) as usize * 4);
        let now = Instant::now();
        Self {
            effort,
            phase: Phase::WarmingUp,
            begin: now,
            last: now,
            tally: Tally { batch: 1, marks, ..Tally::default() },
        }
    }

    fn step(&mut self) -> Step {
        let now = Instant::now();
        match self.phase {
            Phase::WarmingUp if now - self.begin >= self.effort.warm_up => {
                self.phase = Phase::Meeting;
                return Step::Meet;
            }
            Phase::WarmingUp => {
                if now - self.last < BATCH {
                    self.tally.batch *= 2;
                }
                self.last = now;
            }
            Phase::Meeting => {
                self.phase = Phase::Measuring;
                self.tally.allocations_before = allocations::so_far();
                self.begin = now;
                self.tally.marks.push(now);
            }
            Phase::Measuring => {
                self.tally.marks.push(now);
                if now - self.begin >= self.effort.measured {
                    self.tally.allocations_after = allocations::so_far();
                    return Step::End;
                }
            }
        }
        Step::Run(self.tally.batch)
    }
}

/// Lets the runtime run other tasks without running its driver, which `yield_now` does each time.
async fn give_way() {
    let mut given = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Makes one call, as the owner of a handle does. Returns whether its result is the expected one, without moving the
/// result: a move directly after the write would cost a wide result more than a boxed one.
#[inline]
async fn call<S: Service<u64>>(service: &mut S, expected: fn(&Result<S::Response, S::Error>) -> bool) -> bool {
    if let Err(error) = poll_fn(|cx| service.poll_ready(cx)).await {
        return expected(&Err(error));
    }
    let result = service.call(black_box(REQUEST)).await;
    black_box(&result);
    expected(&result)
}
