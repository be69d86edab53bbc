//! The usual alternative: watch for changes, and process only those.

use super::{
    cases::{Case, Source, Subject},
    limit::Limit,
};
use std::collections::BTreeMap;

/// How often a failed or unreadable change is requested, without a pause, before the whole list is read.
const TRIES: u32 = 3;

/// Follows the revisions of a list in JSON. A change contains the limits that differ. A watcher that misses a change
/// reads the whole list.
pub struct Watching {
    answers: Vec<Answer>,
    next: usize,
    revision: u64,
    limits: BTreeMap<u64, Limit>,
    buffer: Vec<u8>,
}

struct Answer {
    /// `None` if the source does not answer.
    revision: Option<u64>,
    changed: Option<Vec<u8>>,
    all: Option<Vec<u8>>,
}

impl Watching {
    /// Prepares this number of ticks after the warm-up.
    pub fn new(case: &Case, seed: u64, ticks: u32) -> Self {
        let answers = case.publications(seed, ticks).enumerate().map(|(tick, (revision, limits))| {
            let json = |limits: &[Limit]| case.gives(tick, serde_json::to_vec(limits).unwrap_or_default());
            let reachable = tick == 0 || case.source != Source::Down;
            let changed = if tick == 0 { &limits[..] } else { &limits[..case.changed as usize] };
            Answer { revision: reachable.then_some(revision), changed: json(changed), all: json(&limits) }
        });
        Self { answers: answers.collect(), next: 0, revision: 0, limits: BTreeMap::new(), buffer: Vec::new() }
    }
}

impl Subject for Watching {
    fn tick(&mut self) -> bool {
        let Self { answers, next, revision: known, limits, buffer } = self;
        let Some(Answer { revision, changed, all }) = answers.get(*next) else { return false };
        *next += 1;
        for _ in 0..TRIES {
            match *revision {
                Some(revision) if revision == *known => return true,
                Some(revision) => {
                    if let Some(changed) = read(changed.as_deref(), buffer) {
                        limits.extend(changed.into_iter().map(|limit| (limit.tenant, limit)));
                        *known = revision;
                        return true;
                    }
                }
                None => {}
            }
        }
        match (*revision, read(all.as_deref(), buffer)) {
            (Some(revision), Some(all)) => {
                *limits = all.into_iter().map(|limit| (limit.tenant, limit)).collect();
                *known = revision;
                true
            }
            _ => false,
        }
    }
}

fn read(json: Option<&[u8]>, buffer: &mut Vec<u8>) -> Option<Vec<Limit>> {
    buffer.clear();
    buffer.extend_from_slice(json?);
    serde_json::from_slice(buffer).ok()
}
