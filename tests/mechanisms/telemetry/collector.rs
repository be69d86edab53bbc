//! A subscriber that records the spans and events of a test as text.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    metadata::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::{DefaultGuard, set_default},
};

/// Records the spans and events of this thread, up to a level.
#[derive(Clone)]
pub struct Collector {
    level: LevelFilter,
    notes: Arc<Mutex<Notes>>,
}

#[derive(Default)]
struct Notes {
    spans: HashMap<u64, Span>,
    /// The spans that this thread has entered and not exited, the current span last.
    entered: Vec<u64>,
    next: u64,
    /// The ended spans and the events, in order.
    lines: Vec<String>,
    /// The methods in which the subscriber panics.
    panics_in: Option<&'static str>,
}

struct Span {
    path: String,
    fields: String,
    handles: usize,
}

impl Collector {
    /// Collects on this thread until the guard is dropped.
    pub fn begin(level: Level) -> (Self, DefaultGuard) {
        let collector = Self { level: level.into(), notes: Arc::default() };
        let guard = set_default(collector.clone());
        (collector, guard)
    }

    /// Returns the ended spans and the events since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.notes().lines)
    }

    /// Returns the number of spans that have not ended.
    pub fn open(&self) -> usize {
        self.notes().spans.len()
    }

    /// Returns the number of spans that this thread has entered and not exited.
    pub fn entered(&self) -> usize {
        self.notes().entered.len()
    }

    /// Lets the subscriber panic in each method whose name occurs in this text.
    pub fn panic_in(&self, methods: Option<&'static str>) {
        self.notes().panics_in = methods;
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn panics(&self, method: &'static str) {
        let panics = self.notes().panics_in.is_some_and(|methods| methods.contains(method));
        assert!(!panics, "the subscriber fails in {method}");
    }
}

/// Writes fields as `name=value`.
struct Text<'to>(&'to mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let space = if self.0.is_empty() { "" } else { " " };
        match field.name() {
            "message" => *self.0 += &format!("{space}{value:?}"),
            name => *self.0 += &format!("{space}{name}={value:?}"),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

impl Notes {
    /// The path of the current span of this thread.
    fn path(&self) -> &str {
        self.entered.last().map_or("", |id| &self.spans[id].path)
    }
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level && metadata.target() == "steadfast"
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.panics("new_span");
        let notes = &mut *self.notes();
        let name = span.metadata().name();
        assert!(span.is_contextual() && *span.metadata().level() == Level::DEBUG);
        let path = if notes.path().is_empty() { name.to_owned() } else { format!("{} > {name}", notes.path()) };
        let mut fields = String::new();
        span.record(&mut Text(&mut fields));
        notes.next += 1;
        notes.spans.insert(notes.next, Span { path, fields, handles: 1 });
        Id::from_u64(notes.next)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.panics("record");
        values.record(&mut Text(&mut self.notes().spans.get_mut(&span.into_u64()).unwrap().fields));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.panics("event");
        let mut fields = String::new();
        event.record(&mut Text(&mut fields));
        let notes = &mut *self.notes();
        let line = match notes.path() {
            "" => format!("{} {fields}", event.metadata().level()),
            path => format!("{} {path}: {fields}", event.metadata().level()),
        };
        notes.lines.push(line);
    }

    fn enter(&self, span: &Id) {
        self.panics("enter");
        self.notes().entered.push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        assert_eq!(self.notes().entered.pop(), Some(span.into_u64()));
        self.panics("exit");
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.notes().spans.get_mut(&span.into_u64()).unwrap().handles += 1;
        span.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let notes = &mut *self.notes();
        let span = notes.spans.get_mut(&id.into_u64()).unwrap();
        span.handles -= 1;
        if span.handles > 0 {
            return false;
        }
        let line = format!("{} {}", span.path, span.fields);
        notes.lines.push(line);
        notes.spans.remove(&id.into_u64());
        let panics = notes.panics_in.is_some_and(|methods| methods.contains("try_close"));
        assert!(!panics, "the subscriber fails in try_close");
        true
    }
}
