//! The kept frames of a request body, and the state machine of its readers.
//!
//! A reader that has read all kept frames may poll the source, so a stalled reader does not block others. The reader
//! that polls the source owns the source during the poll, and holds no lock. The phases:
//!
//! | from | to | by | when |
//! |---|---|---|---|
//! | idle | polled | [`next`](ReplayBuffer::next) | a reader has read all kept frames |
//! | polled | idle | [`pending`](ReplayBuffer::pending), [`push`](ReplayBuffer::push) | the source has no frame yet, or a frame that fits |
//! | polled | at the cap | [`push`](ReplayBuffer::push) | the frame does not fit |
//! | polled | ended | [`end`](ReplayBuffer::end) | the source ended |
//! | polled | failed | [`fail`](ReplayBuffer::fail) | the source failed or panicked |
//! | at the cap | passed | [`next`](ReplayBuffer::next) | the newest reader has read all kept frames, and takes the source |

use super::readers::{BodyReaders, ReaderWakers};
use crate::sync::{Mutex, MutexGuard, lock};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use std::{
    mem,
    sync::Arc,
    task::{Wake, Waker},
};

/// The kept frames of a body, and its readers. It is also the waker of the source: it wakes all waiting readers.
#[derive(Debug)]
pub(super) struct ReplayBuffer {
    cap: usize,
    state: Mutex<ReplayState>,
}

#[derive(Debug)]
struct ReplayState {
    phase: SourcePhase,
    /// No frame is empty, so their number is at most the cap in bytes.
    frames: Vec<Bytes>,
    /// The bytes of all frames. At most the cap.
    bytes: usize,
    /// They follow all frames. Once they are set, the source has ended.
    trailers: Option<Box<HeaderMap>>,
    rest: BodyRest,
    readers: BodyReaders,
}

/// What the source last said about its remaining frames.
#[derive(Clone, Debug)]
pub(super) struct BodyRest {
    pub(super) size: SizeHint,
    pub(super) is_over: bool,
}

impl BodyRest {
    fn nothing() -> Self {
        Self { size: SizeHint::with_exact(0), is_over: true }
    }
}

#[derive(Debug)]
enum SourcePhase {
    Idle,
    /// A reader owns the source. `contended` if another reader has asked for it since.
    Polled {
        contended: bool,
    },
    /// The source has returned this frame, which would exceed the cap. The newest reader will take the frame and the
    /// source.
    AtCap(Bytes),
    Ended,
    /// The newest reader owns the source for good. No frames are kept any more.
    Passed,
    Failed,
}

/// How far one reader has read.
#[derive(Debug)]
pub(super) struct ReadPosition {
    /// The number of the attempt. Higher numbers are newer.
    pub(super) number: u64,
    frames: usize,
    bytes: usize,
    trailers: bool,
}

impl ReadPosition {
    pub(super) fn start(number: u64) -> Self {
        Self { number, frames: 0, bytes: 0, trailers: false }
    }
}

/// What a reader does next.
#[derive(Debug)]
pub(super) enum ReadStep {
    /// It returns this kept frame.
    Return(Frame<Bytes>),
    /// It polls the source, which it owns until it reports the result.
    Poll,
    /// It waits for a wake-up.
    Wait,
    /// It takes the source for good, and returns this frame.
    GoOnAlone(Bytes),
    End,
    TooLarge,
    Failed,
}

/// Kept frames and trailers. They are dropped after the lock is released, because dropping `Bytes` may run user code.
#[derive(Debug)]
struct ReplayLeftovers {
    _phase: SourcePhase,
    _frames: Vec<Bytes>,
    _trailers: Option<Box<HeaderMap>>,
}

impl ReplayState {
    /// Enters `phase`, in which no frames are kept.
    fn give_up(&mut self, phase: SourcePhase) -> ReplayLeftovers {
        self.bytes = 0;
        ReplayLeftovers {
            _phase: mem::replace(&mut self.phase, phase),
            _frames: mem::take(&mut self.frames),
            _trailers: self.trailers.take(),
        }
    }

    /// Returns the next kept frame.
    fn kept(&self, position: &mut ReadPosition) -> Option<Frame<Bytes>> {
        if let Some(frame) = self.frames.get(position.frames) {
            position.frames += 1;
            position.bytes = position.bytes.saturating_add(frame.len());
            return Some(Frame::data(frame.clone()));
        }
        let trailers = self.trailers.as_ref().filter(|_| !position.trailers)?;
        position.trailers = true;
        Some(Frame::trailers((**trailers).clone()))
    }

    /// Takes the wakers of the other readers, which wait for the source or for its next frame.
    fn wake_others(&mut self, position: &ReadPosition) -> ReaderWakers {
        self.readers.take_wakers(Some(position.number))
    }
}

impl ReplayBuffer {
    pub(super) fn new(cap: usize, rest: BodyRest) -> Self {
        let state = ReplayState {
            phase: SourcePhase::Idle,
            frames: Vec::new(),
            bytes: 0,
            trailers: None,
            rest,
            readers: BodyReaders::default(),
        };
        Self { cap, state: Mutex::new(state) }
    }

    pub(super) fn cap(&self) -> usize {
        self.cap
    }

    fn lock(&self) -> MutexGuard<'_, ReplayState> {
        lock(&self.state)
    }

    /// Whether a new reader could still read the whole body.
    pub(super) fn can_be_replayed(&self) -> bool {
        !matches!(self.lock().phase, SourcePhase::Passed | SourcePhase::Failed)
    }

    /// Adds a reader with this number, or with the next one. Returns its number.
    pub(super) fn join(&self, number: Option<u64>) -> u64 {
        self.lock().readers.join(number)
    }

    /// Removes a reader, if it has joined.
    pub(super) fn leave(&self, number: u64) {
        let removed = self.lock().readers.leave(number);
        drop(removed);
    }

    /// Returns what the reader at this position does next.
    pub(super) fn next(&self, position: &mut ReadPosition, waker: &Waker) -> ReadStep {
        // A waker cloned without the lock, or the waker that it replaced.
        let mut spare = None;
        loop {
            let mut state = self.lock();
            if let Some(frame) = state.kept(position) {
                state.readers.stop_waiting(position.number);
                return ReadStep::Return(frame);
            }
            let is_newest = state.readers.is_newest(position.number);
            match &mut state.phase {
                SourcePhase::Ended => return ReadStep::End,
                SourcePhase::Passed => return ReadStep::TooLarge,
                SourcePhase::Failed => return ReadStep::Failed,
                SourcePhase::AtCap(_) if !is_newest => return ReadStep::TooLarge,
                // AtCap => Passed
                SourcePhase::AtCap(frame) => {
                    let frame = mem::take(frame);
                    let leftovers = state.give_up(SourcePhase::Passed);
                    let wakes = state.wake_others(position);
                    drop(state);
                    wakes.wake();
                    drop(leftovers);
                    return ReadStep::GoOnAlone(frame);
                }
                SourcePhase::Idle | SourcePhase::Polled { .. } => {}
            }
            // Registers the waker before the reader polls the source, because the source may wake it during the poll.
            if !state.readers.wait(position.number, waker, &mut spare) {
                drop(state);
                spare = Some(waker.clone());
                continue;
            }
            let step = match &mut state.phase {
                SourcePhase::Polled { contended } => {
                    *contended = true;
                    ReadStep::Wait
                }
                // Idle => Polled
                phase => {
                    *phase = SourcePhase::Polled { contended: false };
                    ReadStep::Poll
                }
            };
            drop(state);
            return step;
        }
    }

    /// Reports that the source has no frame yet and was put back.
    pub(super) fn pending(&self, position: &ReadPosition, rest: BodyRest) {
        let mut state = self.lock();
        // Polled => Idle
        let was = mem::replace(&mut state.phase, SourcePhase::Idle);
        state.rest = rest;
        // If `contended`, other readers began to wait during the poll. The source may have called the waker before they
        // began. They have to poll the source again, so they are woken.
        let wakes = matches!(was, SourcePhase::Polled { contended: true }).then(|| state.wake_others(position));
        drop(state);
        wakes.unwrap_or_default().wake();
    }

    /// Reports that the source has returned this frame and was put back. An empty frame is not kept.
    pub(super) fn push(&self, position: &ReadPosition, frame: Bytes, rest: BodyRest) {
        let mut state = self.lock();
        let bytes = state.bytes.saturating_add(frame.len());
        state.rest = rest;
        if bytes <= self.cap {
            // Polled => Idle
            state.phase = SourcePhase::Idle;
            state.bytes = bytes;
            if !frame.is_empty() {
                state.frames.push(frame);
            }
        } else {
            // Polled => AtCap
            state.phase = SourcePhase::AtCap(frame);
        }
        state.readers.stop_waiting(position.number);
        let wakes = state.wake_others(position);
        drop(state);
        wakes.wake();
    }

    /// Reports that the source has ended, with or without trailers.
    pub(super) fn end(&self, position: &ReadPosition, trailers: Option<Box<HeaderMap>>) {
        let mut state = self.lock();
        // Polled => Ended
        state.phase = SourcePhase::Ended;
        state.trailers = trailers;
        state.rest = BodyRest::nothing();
        let wakes = state.wake_others(position);
        drop(state);
        wakes.wake();
    }

    /// Reports that the source has failed or panicked.
    pub(super) fn fail(&self, position: &ReadPosition) {
        let mut state = self.lock();
        // Polled => Failed
        let leftovers = state.give_up(SourcePhase::Failed);
        let wakes = state.wake_others(position);
        drop(state);
        wakes.wake();
        drop(leftovers);
    }

    /// Returns what a reader has left to read.
    pub(super) fn rest(&self, position: &ReadPosition) -> BodyRest {
        let state = self.lock();
        let unread = match &state.phase {
            SourcePhase::Passed | SourcePhase::Failed => return BodyRest { size: SizeHint::default(), is_over: false },
            SourcePhase::AtCap(frame) => state.bytes.saturating_add(frame.len()),
            SourcePhase::Idle | SourcePhase::Polled { .. } | SourcePhase::Ended => state.bytes,
        };
        let all_read = position.frames == state.frames.len() && position.trailers == state.trailers.is_some();
        let is_over = all_read && state.rest.is_over && !matches!(state.phase, SourcePhase::AtCap(_));
        let unread = unread.saturating_sub(position.bytes);
        BodyRest { size: longer(&state.rest.size, unread), is_over }
    }
}

/// Adds these bytes to a size hint.
pub(in crate::http) fn longer(rest: &SizeHint, bytes: usize) -> SizeHint {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    let mut size = SizeHint::new();
    // The upper bound first: `SizeHint` panics if the lower bound exceeds it.
    if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(bytes)) {
        size.set_upper(upper);
    }
    size.set_lower(rest.lower().saturating_add(bytes));
    size
}

impl Wake for ReplayBuffer {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wakes = self.lock().readers.take_wakers(None);
        wakes.wake();
    }
}
