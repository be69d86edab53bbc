//! Compares the replayed body with a simple model, for random operations of its attempts.

use super::scripted::{Read, Say, Script, Scripted, Woken, bodies, read};
use http_body::Body;
use proptest::prelude::*;
use std::{collections::VecDeque, sync::Arc};

const ATTEMPTS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// The script adds its next result.
    Say,
    Poll(usize),
    Drop(usize),
}

/// How far the script was read. `AtCap` has the frame that exceeds the cap. In `Passed` the newest attempt reads the
/// rest alone.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    AtCap(Vec<u8>),
    Passed,
    Ended { trailers: bool },
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// Has read this number of frames, and perhaps the trailers.
    Kept(usize, bool),
    /// Reads the script alone, beyond the cap.
    Alone,
    /// Its body has ended, has failed or is dropped.
    Nothing,
}

#[derive(Clone)]
struct Model {
    cap: usize,
    said: VecDeque<Say>,
    kept: Vec<Vec<u8>>,
    phase: Phase,
    readers: [Reads; ATTEMPTS],
}

impl Model {
    fn is_newest(&self, reader: usize) -> bool {
        self.readers[reader + 1..].iter().all(|other| *other == Reads::Nothing)
    }

    fn poll(&mut self, reader: usize) -> Read {
        let (place, trailers_read) = match self.readers[reader] {
            Reads::Nothing => return Read::End,
            Reads::Alone => {
                return match self.said.pop_front() {
                    None => Read::Pending,
                    Some(Say::Data(data)) => Read::Data(data),
                    Some(Say::Trailers) => Read::Trailers,
                    Some(Say::Error) => Read::Scripted,
                    Some(Say::Panic | Say::Frame(_) | Say::End) => Read::End,
                };
            }
            Reads::Kept(place, trailers_read) => (place, trailers_read),
        };
        loop {
            if let Some(frame) = self.kept.get(place) {
                self.readers[reader] = Reads::Kept(place + 1, false);
                return Read::Data(frame.clone());
            }
            let over = match self.phase.clone() {
                Phase::Ended { trailers: true } if !trailers_read => {
                    self.readers[reader] = Reads::Kept(place, true);
                    return Read::Trailers;
                }
                Phase::Ended { .. } => Read::End,
                Phase::Passed => Read::TooLarge,
                Phase::Failed => Read::FailedElsewhere,
                Phase::AtCap(frame) if self.is_newest(reader) => {
                    (self.phase, self.readers[reader]) = (Phase::Passed, Reads::Alone);
                    self.kept.clear();
                    for other in &mut self.readers {
                        // No frames are kept any more.
                        if let Reads::Kept(place, _) = other {
                            *place = 0;
                        }
                    }
                    return Read::Data(frame);
                }
                Phase::AtCap(_) => Read::TooLarge,
                Phase::Open => match self.said.pop_front() {
                    None => return Read::Pending,
                    Some(Say::Data(data)) if data.is_empty() => return Read::Data(data),
                    Some(Say::Data(data)) => {
                        if self.kept.iter().map(Vec::len).sum::<usize>() + data.len() <= self.cap {
                            self.kept.push(data);
                        } else {
                            self.phase = Phase::AtCap(data);
                        }
                        continue;
                    }
                    Some(Say::Trailers) => {
                        self.phase = Phase::Ended { trailers: true };
                        continue;
                    }
                    Some(Say::Panic | Say::Frame(_) | Say::End) => {
                        self.phase = Phase::Ended { trailers: false };
                        continue;
                    }
                    Some(Say::Error) => {
                        self.phase = Phase::Failed;
                        self.kept.clear();
                        Read::Scripted
                    }
                },
            };
            self.readers[reader] = Reads::Nothing;
            return over;
        }
    }

    /// Returns the bytes that a reader has left, or `None` if it cannot read the rest of the body.
    fn left(&self, reader: usize, to_say: &VecDeque<Say>) -> Option<usize> {
        let unsaid = self.said.iter().chain(to_say).map(Say::bytes).sum::<usize>();
        match (self.readers[reader], &self.phase) {
            (Reads::Nothing, _) => Some(0),
            (Reads::Alone, _) => Some(unsaid),
            (_, Phase::Passed | Phase::Failed) => None,
            (Reads::Kept(place, _), phase) => {
                let stashed = if let Phase::AtCap(frame) = phase { frame.len() } else { 0 };
                Some(self.kept[place..].iter().map(Vec::len).sum::<usize>() + stashed + unsaid)
            }
        }
    }
}

fn check(cap: usize, is_exact: bool, says: Vec<Say>, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut to_say = VecDeque::from(says);
    let size = to_say.iter().map(Say::bytes).sum::<usize>();
    let script = Script::default();
    let script = if is_exact { script.exact(to_say.make_contiguous()) } else { script };
    if is_exact && (size > cap || size == 0) {
        // Such a body is sent once, or is empty.
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let bodies = runtime.block_on(bodies(ATTEMPTS as u32, cap, script.clone()));
    let mut bodies: Vec<Option<Scripted>> = bodies.into_iter().map(Some).collect();
    prop_assert_eq!(bodies.len(), ATTEMPTS);
    let wakers: [Arc<Woken>; ATTEMPTS] = Default::default();
    // For each waiting reader, the number of its wake-ups when it began to wait.
    let mut waiting = [None; ATTEMPTS];
    let readers = [Reads::Kept(0, false); ATTEMPTS];
    let mut model = Model { cap, said: VecDeque::new(), kept: Vec::new(), phase: Phase::Open, readers };
    for op in ops {
        match op {
            Op::Say => {
                if let Some(say) = to_say.pop_front() {
                    model.said.push_back(say.clone());
                    script.say(say);
                }
            }
            Op::Poll(reader) => {
                let Some(body) = &mut bodies[reader] else { continue };
                let expected = model.poll(reader);
                prop_assert_eq!(read(body, &wakers[reader]), expected.clone());
                waiting[reader] = (expected == Read::Pending).then(|| wakers[reader].times());
                let left = model.left(reader, &to_say);
                if is_exact {
                    prop_assert_eq!(body.size_hint().exact(), left.map(|left| left as u64));
                }
                prop_assert!(left.is_none_or(|left| body.size_hint().lower() <= left as u64));
                if body.is_end_stream() {
                    let mut model = model.clone();
                    model.said.extend(to_say.clone());
                    prop_assert!(matches!(model.poll(reader), Read::End | Read::Pending));
                }
            }
            Op::Drop(reader) => {
                bodies[reader] = None;
                (model.readers[reader], waiting[reader]) = (Reads::Nothing, None);
            }
        }
        for reader in 0..ATTEMPTS {
            if waiting[reader] == Some(wakers[reader].times()) {
                prop_assert_eq!(model.clone().poll(reader), Read::Pending, "reader {} is never woken", reader);
            }
        }
    }
    Ok(())
}

fn say() -> impl Strategy<Value = Say> {
    prop::collection::vec(any::<u8>(), 0..6).prop_map(Say::Data)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![4 => Just(Op::Say), 8 => (0..ATTEMPTS).prop_map(Op::Poll), 1 => (0..ATTEMPTS).prop_map(Op::Drop)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn each_attempt_reads_what_the_model_reads_and_none_misses_a_wake_up(
        (cap, is_exact) in (0..24_usize, any::<bool>()),
        says in prop::collection::vec(say(), 0..8),
        end in prop_oneof![Just(Say::End), Just(Say::Trailers), Just(Say::Error)],
        ops in prop::collection::vec(op(), 0..60),
    ) {
        // Trailers are followed by the end.
        let then = (end == Say::Trailers).then_some(Say::End);
        check(cap, is_exact, says.into_iter().chain([end]).chain(then).collect(), ops)?;
    }
}
