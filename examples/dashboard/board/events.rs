//! The event stream. One task reads the metrics for all viewers, while there are any.

use super::Shared;
use axum::{
    http::{
        HeaderName, StatusCode,
        header::{self, HeaderValue},
    },
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures::stream;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use steadfast::telemetry::{BUCKETS, Sample, SampleValue};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

/// The most viewers at the same time.
const MOST_VIEWERS: usize = 64;
const PERIOD: Duration = Duration::from_secs(1);
/// Tells an nginx proxy not to buffer messages.
const UNBUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// The viewers, and the task that reads for them.
pub struct Events {
    began: Instant,
    sampler: Mutex<Option<Sampler>>,
}

struct Sampler {
    newest: watch::Sender<Arc<str>>,
    task: JoinHandle<()>,
}

impl Default for Events {
    fn default() -> Self {
        Self { began: Instant::now(), sampler: Mutex::default() }
    }
}

/// Returns a stream that begins with the newest message, or a rejection if there are too many viewers.
pub fn listen(shared: Arc<Shared>) -> Result<Response, (StatusCode, [(HeaderName, &'static str); 1], String)> {
    let mut sampler = shared.events.sampler.lock().unwrap_or_else(PoisonError::into_inner);
    // The task has ended if its runtime was dropped.
    let running = sampler.take().filter(|sampler| !sampler.task.is_finished());
    let running = sampler.insert(running.unwrap_or_else(|| start(shared.clone())));
    if running.newest.receiver_count() >= MOST_VIEWERS {
        let later = [(header::RETRY_AFTER, "10")];
        return Err((
            StatusCode::SERVICE_UNAVAILABLE,
            later,
            format!("the limit of {MOST_VIEWERS} viewers is reached\n"),
        ));
    }
    let mut receiver = running.newest.subscribe();
    if !receiver.borrow().is_empty() {
        receiver.mark_changed();
    }
    let messages = stream::unfold(receiver, async |mut receiver| {
        receiver.changed().await.ok()?;
        let event = Event::default().data(&*receiver.borrow_and_update());
        Some((Ok::<_, Infallible>(event), receiver))
    });
    let mut response = Sse::new(messages).into_response();
    let (name, value) = UNBUFFERED;
    response.headers_mut().insert(name, value);
    Ok(response)
}

fn start(shared: Arc<Shared>) -> Sampler {
    let (newest, _) = watch::channel(Arc::from(""));
    let task = tokio::spawn(async move {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let message = shared.message().to_string();
            let mut sampler = shared.events.sampler.lock().unwrap_or_else(PoisonError::into_inner);
            // Under the lock, so that no viewer subscribes to a task that is ending.
            match &*sampler {
                Some(running) if running.newest.receiver_count() > 0 => {
                    running.newest.send_replace(Arc::from(message));
                }
                _ => {
                    *sampler = None;
                    return;
                }
            }
        }
    });
    Sampler { newest, task }
}

impl Shared {
    fn message(&self) -> Value {
        let board = &self.board;
        let stacks: Vec<_> = board
            .stacks
            .iter()
            .map(|(name, control)| json!({ "name": name, "config": serde_json::to_value(control.config()).ok() }))
            .collect();
        json!({
            "time": Instant::now().saturating_duration_since(self.events.began).as_secs_f64(),
            // A note that panics is omitted, and called again later.
            "note": board.note.as_ref().and_then(|note| catch_unwind(AssertUnwindSafe(note)).ok()),
            "switches": board.token.is_some(),
            "buckets": BUCKETS,
            "samples": board.metrics.samples().iter().map(sample).collect::<Vec<_>>(),
            "stacks": stacks,
        })
    }
}

fn sample(sample: &Sample) -> Value {
    let labels: Value = sample.labels.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
    let (kind, value) = match &sample.value {
        SampleValue::Counter(count) => ("counter", json!(count)),
        SampleValue::Gauge(value) => ("gauge", json!(value)),
        SampleValue::Histogram(times) => ("histogram", json!({ "counts": times.counts(), "sum": times.sum() })),
        // A kind of a later version.
        _ => ("unknown", Value::Null),
    };
    json!({ "name": sample.name, "labels": labels, kind: value })
}
