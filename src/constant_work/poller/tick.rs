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

/// A snapshot, as bytes and as decoded rules, one for each slot.
pub(super) struct Held<T> {
    pub(super) bytes: Vec<u8>,
    pub(super) rules: Vec<T>,
    pub(super) header: Header,
}

impl<T> Held<T> {
    /// Allocates room for a snapshot and for one byte more, which a source may read.
    pub(super) fn empty(shape: Shape) -> Self {
        Self {
            bytes: Vec::with_capacity(shape.length() + 1),
            rules: Vec::with_capacity(shape.slots() as usize),
            header: Header::default(),
        }
    }
}

/// Which rules are in force once the last good snapshot is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Staleness {
    /// The last good snapshot stays in force: old limits are better than none. The default.
    KeepForEver,
    /// The defaults are in force after no good snapshot was read for this time, until the next good one. Use it for
    /// rules that must not outlive their source, such as a lifted ban or a lease.
    DefaultsAfter(Duration),
}

/// The part of a tick after the fetch. It contains no `.await`.
///
/// The work does not depend on the fetched bytes: one checksum over one snapshot, one decoding of every slot, one
/// comparison of the slots, one check, one build, one swap. If the fetched bytes cannot be used for a step, the tick
/// runs the step on the last good snapshot, or on the defaults before there is one, and ignores its result.
pub(super) struct Tick<T, B: Build<T>> {
    pub(super) shape: Shape,
    pub(super) target: B,
    pub(super) staleness: Staleness,
    pub(super) clock_allowance: Duration,
    pub(super) defaults: Held<T>,
    /// Its bytes and rules are of one snapshot if `good_read` is `Some`.
    pub(super) good: Held<T>,
    pub(super) good_read: Option<Instant>,
    /// The fetched bytes, and scratch space for their rules.
    pub(super) incoming: Held<T>,
    pub(super) in_force: InForce,
    pub(super) current: Current<B::Value>,
    /// The value before the current one. The tick keeps it for one period, so that most readers have released it before
    /// it is dropped here.
    pub(super) retired: Option<Arc<B::Value>>,
}

impl<T: Rule, B: Build<T>> Tick<T, B> {
    /// Takes the bytes of the last-good file. Checks them like a fetched snapshot, except for the publication time: a
    /// clock that starts in 1970 must not lose the configuration. Builds nothing yet.
    pub(super) fn restore(&mut self, mut bytes: Vec<u8>, now: Instant) -> Result<(), Refusal> {
        mem::swap(&mut self.incoming.bytes, &mut bytes);
        let verified = self.verify(Ok(()), None);
        // Puts the source's own buffer back in either case.
        let read = mem::replace(&mut self.incoming.bytes, bytes);
        self.incoming.header = verified?;
        self.good.bytes.clear();
        self.good.bytes.extend_from_slice(&read);
        self.good.header = self.incoming.header;
        mem::swap(&mut self.good.rules, &mut self.incoming.rules);
        self.good_read = Some(now);
        Ok(())
    }

    /// Verifies the fetched bytes, builds the value, and puts it in force.
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
                // If the new rules make the build panic, stale rules must still not stay in force.
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

    /// Checks the fetched bytes. If they are good, their rules are in `incoming`.
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

/// Checks that a snapshot may follow the last good one.
pub(super) fn in_order(found: &Header, current: &Header, other_rules: bool) -> Result<(), Refusal> {
    if found.version < current.version {
        return Err(Refusal::Backwards { found: found.version, current: current.version });
    }
    if found.version == current.version && (other_rules || found.used != current.used) {
        return Err(Refusal::Conflict { version: found.version });
    }
    Ok(())
}

/// Returns whether the slots of two snapshots differ. Always compares all bytes.
pub(super) fn differ(one: &[u8], other: &[u8]) -> bool {
    one.len() != other.len() || one.iter().zip(other).fold(0, |any, (one, other)| any | (one ^ other)) != 0
}

/// Runs user code and catches its panic. The user code borrows only its own state and buffers that the next tick
/// overwrites.
pub(in crate::constant_work) fn caught<R>(during: &'static str, code: impl FnOnce() -> R) -> Result<R, Refusal> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|_| Refusal::Panicked { during })
}
