use super::{build::Build, current::Current, readings::InForce};
use crate::{
    clock::Nanos,
    constant_work::{
        refusal::Refusal,
        rule::Rule,
        shape::Shape,
        snapshot::{self, Header, Version},
        source::SourceError,
    },
};
use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// A snapshot as bytes and as rules, one for each slot.
pub(super) struct Held<T> {
    pub(super) bytes: Vec<u8>,
    pub(super) rules: Vec<T>,
    pub(super) header: Header,
}

impl<T> Held<T> {
    /// Room for a snapshot and the one byte more that a source may read.
    pub(super) fn empty(shape: Shape) -> Self {
        Self {
            bytes: Vec::with_capacity(shape.length() + 1),
            rules: Vec::with_capacity(shape.slots() as usize),
            header: Header::default(),
        }
    }
}

/// The rules in force once the last good snapshot is old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Staleness {
    /// It stays in force: a limit of yesterday is better than none. The default.
    KeepForEver,
    /// The defaults come into force once no good snapshot has been read for this time, until the next good one. For
    /// what must not outlive its source: a lifted ban, a lease.
    DefaultsAfter(Duration),
}

/// The part of a tick that follows the fetch, without any `.await` in it.
///
/// The work is the same whatever was fetched: one checksum over one snapshot, every slot decoded once, the slots
/// compared once, one check, one build, one swap. Where what was fetched cannot be used for a step, the step is done on
/// the last good snapshot (or, before there is one, the defaults) and what it says is left aside.
pub(super) struct Tick<T, B: Build<T>> {
    pub(super) shape: Shape,
    pub(super) target: B,
    pub(super) staleness: Staleness,
    pub(super) clock_allowance: Duration,
    pub(super) defaults: Held<T>,
    /// Bytes and rules belong together where `good_read` is some.
    pub(super) good: Held<T>,
    pub(super) good_read: Option<Instant>,
    /// The bytes of the source, and scratch for the rules.
    pub(super) incoming: Held<T>,
    pub(super) in_force: InForce,
    pub(super) current: Current<B::Value>,
    /// The value before the current one: kept for one tick, so that most readers have let go of it when it is dropped
    /// here.
    pub(super) retired: Option<Arc<B::Value>>,
}

impl<T: Rule, B: Build<T>> Tick<T, B> {
    /// Takes what the file of the last good snapshot held. It is checked as all others are, but for its time: a clock
    /// that starts in 1970 must not cost the configuration. Nothing is built yet.
    pub(super) fn restore(&mut self, mut bytes: Vec<u8>, now: Instant) -> Result<(), Refusal> {
        mem::swap(&mut self.incoming.bytes, &mut bytes);
        let verified = self.verify(Ok(()), None);
        // The source's own buffer comes back in either case.
        let read = mem::replace(&mut self.incoming.bytes, bytes);
        self.incoming.header = verified?;
        self.good.bytes.clear();
        self.good.bytes.extend_from_slice(&read);
        self.good.header = self.incoming.header;
        mem::swap(&mut self.good.rules, &mut self.incoming.rules);
        self.good_read = Some(now);
        Ok(())
    }

    /// Verifies what was fetched, builds, and puts the value in force.
    pub(super) fn conclude(
        &mut self,
        fetched: Result<(), SourceError>,
        now: Instant,
        wall_now: Nanos,
    ) -> Result<Version, Refusal> {
        let verified = self.verify(fetched, Some(wall_now));
        let stale = match (self.staleness, self.good_read) {
            (_, None) => true,
            (Staleness::KeepForEver, Some(_)) => false,
            (Staleness::DefaultsAfter(limit), Some(read_at)) => now.saturating_duration_since(read_at) > limit,
        };
        let (rules, in_force) = match (&verified, stale) {
            (Ok(_), _) => (&self.incoming.rules, InForce::LastGood),
            (Err(_), false) => (&self.good.rules, InForce::LastGood),
            (Err(_), true) => (&self.defaults.rules, InForce::Defaults),
        };
        let built = caught("build", || self.target.build(rules));
        match built {
            Ok(value) => {
                let header = verified.inspect(|header| {
                    self.incoming.header = *header;
                    mem::swap(&mut self.good, &mut self.incoming);
                    self.good_read = Some(now);
                });
                self.put_in_force(value, in_force);
                Ok(header?.version)
            }
            Err(panicked) => {
                // Rules that make the build panic must not keep those in force that are too old.
                if verified.is_ok() && stale && self.in_force == InForce::LastGood {
                    let value = caught("build", || self.target.build(&self.defaults.rules))?;
                    self.put_in_force(value, InForce::Defaults);
                }
                Err(verified.err().unwrap_or(panicked))
            }
        }
    }

    fn put_in_force(&mut self, value: B::Value, in_force: InForce) {
        self.in_force = in_force;
        self.retired = Some(self.current.replace(value));
    }

    /// Checks what was fetched. Where that is good, the rules are in `incoming`.
    fn verify(&mut self, fetched: Result<(), SourceError>, wall_now: Option<Nanos>) -> Result<Header, Refusal> {
        let Self { shape, target, defaults, good, good_read, incoming, clock_allowance, .. } = self;
        let known = if good_read.is_some() { &*good } else { &*defaults };
        let whole = fetched.is_ok() && incoming.bytes.len() == shape.length();
        let checksum = snapshot::checksum(if whole { &incoming.bytes } else { &known.bytes });
        let opened = match fetched {
            Ok(()) => snapshot::open(&incoming.bytes, *shape, T::SCHEMA, checksum),
            Err(error) => Err(error.into()),
        };
        let candidate = if opened.is_ok() { &incoming.bytes } else { &known.bytes };
        let decoded = caught("decode", || snapshot::decode_slots(candidate, *shape, &mut incoming.rules))
            .and_then(|decoded| decoded);
        let other_rules = differ(snapshot::slots_of(candidate, *shape), snapshot::slots_of(&known.bytes, *shape));
        let checked =
            caught("check", || target.check(&incoming.rules)).and_then(|checked| checked.map_err(Refusal::Check));

        let header = opened?;
        decoded?;
        if good_read.is_some() {
            in_order(&header, &known.header, other_rules)?;
        }
        if let Some(now) = wall_now {
            let ahead = header.published_at.saturating_sub(now).duration();
            if ahead > *clock_allowance {
                return Err(Refusal::FromTheFuture { ahead });
            }
        }
        checked?;
        Ok(header)
    }
}

/// Whether a snapshot may follow the last good one.
pub(super) fn in_order(found: &Header, current: &Header, other_rules: bool) -> Result<(), Refusal> {
    if found.version < current.version {
        return Err(Refusal::Backwards { found: found.version, current: current.version });
    }
    if found.version == current.version && (other_rules || found.used != current.used) {
        return Err(Refusal::Conflict { version: found.version });
    }
    Ok(())
}

/// Whether two snapshots have other slots. All bytes are compared, wherever they differ.
pub(super) fn differ(one: &[u8], other: &[u8]) -> bool {
    one.len() != other.len() || one.iter().zip(other).fold(0, |any, (one, other)| any | (one ^ other)) != 0
}

/// Runs code of the user. Everything that it borrows is the user's own, or is overwritten by the next tick.
pub(in crate::constant_work) fn caught<R>(during: &'static str, code: impl FnOnce() -> R) -> Result<R, Refusal> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|_| Refusal::Panicked { during })
}
