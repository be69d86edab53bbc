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
    panics::caught,
};
use std::{mem, sync::Arc, time::Duration};
use tokio::time::Instant;

/// A snapshot: its bytes, its header, and one decoded rule per slot.
pub(super) struct SnapshotBuffers<T> {
    pub(super) bytes: Vec<u8>,
    pub(super) rules: Vec<T>,
    pub(super) header: Header,
}

impl<T> SnapshotBuffers<T> {
    /// Allocates room for a snapshot and one more byte, so that the poller notices a snapshot that is too long.
    pub(super) fn empty(shape: Shape) -> Self {
        Self {
            bytes: Vec::with_capacity(shape.length() + 1),
            rules: Vec::with_capacity(shape.slots() as usize),
            header: Header::default(),
        }
    }
}

/// How long the last good snapshot stays in force without a new one. Reading the last-good file counts as a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Staleness {
    /// The last good snapshot stays in force: old limits are better than none. The default.
    KeepForEver,
    /// If no good snapshot was read for this time, the defaults are in force until the next good one. Use it for rules
    /// that must end with their source, such as an exemption or a lease.
    DefaultsAfter(Duration),
}

/// The part of a tick after the fetch. It contains no `.await`.
///
/// The work does not depend on the fetched bytes: one checksum over one snapshot, one decoding of every slot, one
/// comparison of the slots, one check, one build, one swap. A step that cannot use the fetched bytes runs on a
/// substitute: the last good snapshot, or the defaults before there is one.
///
/// - If the fetch failed or the bytes have the wrong length, the checksum, the decoding, the comparison and the check
///   run on the substitute.
/// - If the header or the checksum is refused, the decoding, the comparison and the check run on the substitute.
/// - If only a slot is refused, the check runs on the decoded rules, with an inert rule for that slot.
///
/// In these cases the tick has already refused the snapshot, so it ignores the results of these steps. It builds from
/// the last good rules or, if they are stale or missing, from the defaults, and swaps the value in. Only a panic
/// changes the work. A panic in the decoding skips the slots that follow. After a panic in `build` there may be a
/// second build, or no swap, so that the old value stays in force.
pub(super) struct Tick<T, B: Build<T>> {
    pub(super) shape: Shape,
    pub(super) target: B,
    pub(super) staleness: Staleness,
    pub(super) clock_allowance: Duration,
    pub(super) defaults: SnapshotBuffers<T>,
    /// The last good snapshot. Empty while `last_good_read_at` is `None`.
    pub(super) last_good: SnapshotBuffers<T>,
    pub(super) last_good_read_at: Option<Instant>,
    /// The fetched bytes, and the rules that this tick decoded.
    pub(super) incoming: SnapshotBuffers<T>,
    pub(super) in_force: InForce,
    pub(super) current: Current<B::Value>,
    /// The value before the current one, kept until the next tick. By then its readers have usually released it, so
    /// that the poller drops it, not a reader.
    pub(super) retired: Option<Arc<B::Value>>,
}

impl<T: Rule, B: Build<T>> Tick<T, B> {
    /// Takes the bytes of the last-good file. Checks them like a fetched snapshot, but not the publication time: a
    /// machine whose clock starts in 1970 would otherwise refuse its own configuration as being from the future. Builds
    /// nothing yet.
    pub(super) fn restore(&mut self, mut bytes: Vec<u8>, now: Instant) -> Result<(), Refusal> {
        mem::swap(&mut self.incoming.bytes, &mut bytes);
        let verified = self.verify(Ok(()), None);
        // Puts the source's buffer back, whether or not the file is good.
        let read = mem::replace(&mut self.incoming.bytes, bytes);
        self.incoming.header = verified?;
        self.last_good.bytes.clear();
        self.last_good.bytes.extend_from_slice(&read);
        self.last_good.header = self.incoming.header;
        mem::swap(&mut self.last_good.rules, &mut self.incoming.rules);
        self.last_good_read_at = Some(now);
        Ok(())
    }

    /// Verifies the fetched bytes, builds the value, and puts it in force.
    pub(super) fn finish_tick(
        &mut self,
        fetched: Result<(), SourceError>,
        now: Instant,
        wall_now: Nanos,
    ) -> Result<Version, Refusal> {
        let verified = self.verify(fetched, Some(wall_now));
        let stale = match (self.staleness, self.last_good_read_at) {
            (_, None) => true,
            (Staleness::KeepForEver, Some(_)) => false,
            (Staleness::DefaultsAfter(limit), Some(read_at)) => now.saturating_duration_since(read_at) > limit,
        };
        let (rules, in_force) = match (&verified, stale) {
            (Ok(_), _) => (&self.incoming.rules, InForce::LastGood),
            (Err(_), false) => (&self.last_good.rules, InForce::LastGood),
            (Err(_), true) => (&self.defaults.rules, InForce::Defaults),
        };
        let built = catch_panic("build", || self.target.build(rules));
        match built {
            Ok(value) => {
                let header = verified.inspect(|header| {
                    self.incoming.header = *header;
                    mem::swap(&mut self.last_good, &mut self.incoming);
                    self.last_good_read_at = Some(now);
                });
                self.put_in_force(value, in_force);
                Ok(header?.version)
            }
            Err(panicked) => {
                // If new rules made `build` panic and the old rules in force are stale, the defaults must replace them.
                if verified.is_ok() && stale && self.in_force == InForce::LastGood {
                    let value = catch_panic("build", || self.target.build(&self.defaults.rules))?;
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

    /// Checks the fetched bytes, and their publication time if there is a `wall_now`. If they are good, their rules are
    /// in `incoming`.
    fn verify(&mut self, fetched: Result<(), SourceError>, wall_now: Option<Nanos>) -> Result<Header, Refusal> {
        let Self { shape, target, defaults, last_good, last_good_read_at, incoming, clock_allowance, .. } = self;
        let fallback = if last_good_read_at.is_some() { &*last_good } else { &*defaults };
        let has_full_length = fetched.is_ok() && incoming.bytes.len() == shape.length();
        // Does all work before it returns the first refusal, so that each tick costs the same.
        let checksum = snapshot::checksum(if has_full_length { &incoming.bytes } else { &fallback.bytes });
        let header_or_refusal = match fetched {
            Ok(()) => snapshot::open(&incoming.bytes, *shape, T::SCHEMA, checksum),
            Err(error) => Err(error.into()),
        };
        let candidate = if header_or_refusal.is_ok() { &incoming.bytes } else { &fallback.bytes };
        let decoded = catch_panic("decode", || snapshot::decode_slots(candidate, *shape, &mut incoming.rules))
            .and_then(|decoded| decoded);
        let rules_differ = differ(snapshot::slots_of(candidate, *shape), snapshot::slots_of(&fallback.bytes, *shape));
        let checked =
            catch_panic("check", || target.check(&incoming.rules)).and_then(|checked| checked.map_err(Refusal::Check));

        let header = header_or_refusal?;
        decoded?;
        if last_good_read_at.is_some() {
            check_order(&header, &fallback.header, rules_differ)?;
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
pub(super) fn check_order(found: &Header, current: &Header, rules_differ: bool) -> Result<(), Refusal> {
    if found.version < current.version {
        return Err(Refusal::Backwards { found: found.version, current: current.version });
    }
    if found.version == current.version && (rules_differ || found.used_slots != current.used_slots) {
        return Err(Refusal::Conflict { version: found.version });
    }
    Ok(())
}

/// Returns whether the slots of two snapshots differ. If they have the same length, it compares all bytes, even after
/// the first difference.
pub(super) fn differ(one: &[u8], other: &[u8]) -> bool {
    one.len() != other.len() || one.iter().zip(other).fold(0, |any, (one, other)| any | (one ^ other)) != 0
}

/// Runs user code and catches its panic. The user code can change only its own state and the decoded rules, which the
/// next tick or publication overwrites.
pub(in crate::constant_work) fn catch_panic<R>(during: &'static str, code: impl FnOnce() -> R) -> Result<R, Refusal> {
    caught(code).ok_or(Refusal::Panicked { during })
}
