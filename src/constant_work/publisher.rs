pub(super) mod builder;
pub(super) mod error;
pub(super) mod readings;
mod versions;

use super::{
    Refusal, Rule, Shape, Sink, Snapshot, SourceError, SourceFailure, Version, WallClock,
    envelope::{Envelope, stamp},
    poller::tick::catch_panic,
    shape::LONGEST,
    snapshot,
};
use crate::clock::Nanos;
use builder::{Check, PublisherBuilder};
use error::PublishError;
use readings::PublisherReadings;
use std::{convert::Infallible, error::Error, mem, time::Duration};
use tokio::time::{Instant, sleep, timeout};
use versions::Found;

/// Publishes all rules to a [`Sink`] in every period, changed or not.
///
/// # One publication
///
/// 1. The publisher validates all rules and encodes them to a snapshot of the fixed size.
/// 2. It reads the published snapshot. If this publisher has published before, that snapshot must not be later than its
///    last publication, and must not have other rules under the same version.
/// 3. Changed rules get the next version. Unchanged rules keep their version and get a new publication time.
/// 4. It decodes the snapshot with the code that readers use, and [checks](PublisherBuilder::check) it.
/// 5. It writes the snapshot.
///
/// # Versions
///
/// - A publisher that starts and finds no snapshot, or one of an earlier epoch, begins with version 1. If a published
///   snapshot was lost, raise the [`epoch`](PublisherBuilder::epoch).
/// - A publisher that starts and finds a snapshot of its epoch continues from that version, even if the snapshot has
///   another schema or shape.
/// - A publisher that finds a snapshot of a later epoch publishes nothing and returns
///   [`Overtaken`](PublishError::Overtaken).
/// - A publisher that has published before replaces an unreadable snapshot (corrupt, truncated, no snapshot) with its
///   next publication. It knows its last version, and its readers have no later one. A publisher that has just started
///   does not know the last version and returns an error, since readers might refuse its first version.
/// - A publisher never replaces a snapshot that has a later format of this crate and a correct checksum.
/// - A publisher replaces a published snapshot that is older than its own last publication, such as a restored backup.
/// - A version is used up once the publisher begins to write it, because the write may have succeeded. This publisher
///   never gives that version to other rules.
///
/// # Two publishers
///
/// The publisher that starts later continues from the versions of the earlier one. Once the later one has published
/// changed rules, the earlier one is [overtaken](PublishError::Overtaken) and publishes no more. A rolling update may
/// therefore start the new publisher before it ends the old one.
///
/// There is no lock. Two publishers can both read the sink and then publish different rules under the same version. The
/// second write replaces the first. The next publication of the publisher that wrote first returns a
/// [conflict](PublishError::Conflict), or [`Overtaken`](PublishError::Overtaken) if the other publisher has published a
/// later version by then. Readers keep the snapshot that they read first until a later version is published. Restart
/// the publisher that returned the conflict or `Overtaken`: its rules then get the next version.
///
/// # Time of publication
///
/// The publication time is that of the wall clock. Within one publisher it never decreases: if the clock steps back,
/// the last time stays until the clock passes it again. If the clock was once far ahead, the publisher keeps that time
/// until it is restarted or the clock passes it.
///
/// # Cancellation
///
/// If a publication is dropped, the old or the new snapshot stays published, as a whole. The next publication reads
/// which one it is.
///
/// # Costs
///
/// Each publication validates, encodes and decodes every slot, and reads and writes the whole snapshot, changed or not.
/// The publisher keeps three buffers of that size: 192 MiB for the largest snapshot of 64 MiB. If the published
/// snapshot is longer than a snapshot of the publisher's shape, the publisher reads it twice.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use serde::{Deserialize, Serialize};
/// use steadfast::{ConfigError, constant_work::{FileSink, Publisher, Rule, Shape}};
///
/// #[derive(Serialize, Deserialize)]
/// struct Limit { tenant: u32, rate: f64 }
///
/// impl Rule for Limit {
///     const SCHEMA: u32 = 1;
///     fn inert(_: u32) -> Self { Self { tenant: u32::MAX, rate: 0.0 } }
///     fn validate(&self) -> Result<(), ConfigError> { Ok(()) }
/// }
///
/// # let folder = std::env::temp_dir().join(format!("publisher-example-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("limits.snapshot");
/// let sink = FileSink::new(&path)?;
/// let mut publisher = Publisher::builder(sink, Shape::new(1000, 16)?).build()?;
/// let readings = publisher.readings();
///
/// let mut rules = vec![Limit { tenant: 7, rate: 100.0 }];
/// assert_eq!(publisher.publish(&rules).await?.version.version, 1);
/// assert_eq!(publisher.publish(&rules).await?.version.version, 1);
/// rules.push(Limit { tenant: 8, rate: 50.0 });
/// let published = publisher.publish(&rules).await?;
/// assert_eq!((published.version.version, published.used, published.slots), (2, 2, 1000));
/// assert_eq!(readings.fill(), 0.002);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok(())
/// # }
/// ```
pub struct Publisher<T, S> {
    sink: S,
    shape: Shape,
    epoch: u64,
    period: Duration,
    timeout: Duration,
    wall_clock: WallClock,
    readings: PublisherReadings,
    /// The last snapshot that the publisher began to write. The write may have failed.
    own: Vec<u8>,
    /// The envelope of `own`.
    last: Option<Envelope>,
    /// The snapshot that the publisher prepares.
    next: Vec<u8>,
    /// The published bytes, as the publisher last read them.
    found: Vec<u8>,
    check: Option<Check<T>>,
}

/// The result of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The epoch of the builder, and the version within it: one more than before if the rules changed.
    pub version: Version,
    /// The publication time in nanoseconds since 1970, by the builder's clock.
    pub published_at_nanos: u64,
    /// The number of rules.
    pub used: u32,
    /// The number of slots.
    pub slots: u32,
    /// The length of the snapshot in bytes, which is the same for every publication.
    pub bytes: usize,
}

impl<T: Rule, S: Sink> Publisher<T, S> {
    /// Returns a builder of a publisher of snapshots of this shape.
    pub fn builder(sink: S, shape: Shape) -> PublisherBuilder<T, S> {
        PublisherBuilder::new(sink, shape)
    }

    pub(super) fn of(builder: PublisherBuilder<T, S>, readings: PublisherReadings) -> Self {
        let PublisherBuilder { sink, shape, epoch, period, timeout, wall_clock, check, .. } = builder;
        let (timeout, last) = (timeout.unwrap_or(period), None);
        let [own, next, found] = [(); 3].map(|()| Vec::new());
        Self { sink, shape, epoch, period, timeout, wall_clock, readings, own, last, next, found, check }
    }

    /// Returns a handle to the publisher's state, for metrics and alarms.
    pub fn readings(&self) -> PublisherReadings {
        self.readings.clone()
    }

    /// Publishes these rules now.
    ///
    /// # Errors
    ///
    /// A [`PublishError`]. The previous snapshot stays published. Only after [`PublishError::Sink`], the new snapshot
    /// may be published nevertheless.
    pub async fn publish(&mut self, rules: &[T]) -> Result<Published, PublishError> {
        let prepared = self.prepare(rules);
        self.finish(prepared).await
    }

    /// Checks these rules without reading or writing anything. They must make a snapshot that can be decoded, and pass
    /// the [check](PublisherBuilder::check) of all rules together. Call it before an operator publishes the rules.
    /// Changes no readings and uses up no version.
    ///
    /// # Errors
    ///
    /// [`PublishError::Encode`] and [`PublishError::Unreadable`].
    pub fn check(&mut self, rules: &[T]) -> Result<(), PublishError> {
        snapshot::encode(Version::default(), Nanos::ZERO, rules, self.shape, &mut self.next)?;
        stamp(&mut self.next, Version::default(), Nanos::ZERO);
        self.read_back()
    }

    /// Decodes and checks the snapshot in `next` as readers do.
    fn read_back(&mut self) -> Result<(), PublishError> {
        let Some(check) = &mut self.check else {
            return Snapshot::<T>::decode(&self.next, self.shape).map(drop).map_err(PublishError::Unreadable);
        };
        let mut rules = Vec::with_capacity(self.shape.slots() as usize);
        let checked = snapshot::open(&self.next, self.shape, T::SCHEMA, snapshot::checksum(&self.next))
            .and_then(|_| snapshot::decode_slots(&self.next, self.shape, &mut rules))
            .and_then(|()| catch_panic("check", || check(&rules))?.map_err(Refusal::Check));
        checked.map_err(PublishError::Unreadable)
    }

    /// Calls the function for the rules and publishes them, at once and then in every period. Never returns.
    ///
    /// The [readings](Self::readings) record a failure, and the publisher tries again in the next period. While the
    /// function fails or does not return in time, the publisher publishes nothing, so readers see the age of their
    /// rules grow. A publication that takes longer than the period skips the publications that become due during it;
    /// the later ones keep their times. A panic of the function ends the future. Where a runtime may end before the
    /// process does, call [`publish`](Self::publish) instead: each call may run in another runtime.
    ///
    /// ```no_run
    /// # use std::{error::Error, io};
    /// # use steadfast::constant_work::{Publisher, Rule, Sink};
    /// # async fn all_limits() -> io::Result<Vec<u32>> { Ok(Vec::new()) }
    /// # async fn example<T: Rule, S: Sink>(publisher: Publisher<T, S>, limit_of: fn(u32) -> T) {
    /// let rules = async || Ok::<_, io::Error>(all_limits().await?.into_iter().map(limit_of).collect::<Vec<_>>());
    /// publisher.run(rules).await;
    /// # }
    /// ```
    pub async fn run<F, Rules, R, E>(mut self, mut rules: F) -> Infallible
    where
        F: FnMut() -> Rules,
        Rules: Future<Output = Result<R, E>>,
        R: AsRef<[T]>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let began = Instant::now();
        loop {
            let prepared = match timeout(self.timeout, rules()).await {
                Ok(Ok(rules)) => self.prepare(rules.as_ref()),
                Ok(Err(error)) => Err(PublishError::Rules(error.into().into())),
                Err(_) => Err(PublishError::RulesTimedOut),
            };
            // The readings record the result.
            let _ = self.finish(prepared).await;
            sleep(left_of(self.period, Instant::now().saturating_duration_since(began))).await;
        }
    }

    /// Validates and encodes the rules.
    fn prepare(&mut self, rules: &[T]) -> Result<(), PublishError> {
        self.readings.attempted(rules.len());
        // `commit` sets the version, after it has read the published one.
        Ok(snapshot::encode(Version::default(), Nanos::ZERO, rules, self.shape, &mut self.next)?)
    }

    async fn finish(&mut self, prepared: Result<(), PublishError>) -> Result<Published, PublishError> {
        let ended = match prepared {
            Ok(()) => self.commit().await,
            Err(error) => Err(error),
        };
        self.readings.ended(&ended, Instant::now());
        ended
    }

    /// Publishes the encoded snapshot.
    async fn commit(&mut self) -> Result<Published, PublishError> {
        let found = self.find().await?;
        let version = Version { epoch: self.epoch, version: self.next_version(found)? };
        let last = self.last.map_or(Nanos::ZERO, |last| last.header.published_at);
        stamp(&mut self.next, version, self.wall_clock.now().max(last));
        self.read_back()?;
        let envelope = Envelope::open(&self.next, self.shape).map_err(PublishError::Unreadable)?;
        // Remembers the snapshot before the write, because the result of the write may stay unknown.
        mem::swap(&mut self.own, &mut self.next);
        self.last = Some(envelope);
        in_time(self.timeout, self.sink.publish(&self.own)).await?;
        let (published_at_nanos, used) = (envelope.header.published_at.0, envelope.header.used_slots);
        Ok(Published { version, published_at_nanos, used, slots: self.shape.slots(), bytes: self.own.len() })
    }

    /// Reads the published snapshot.
    async fn find(&mut self) -> Result<Found, PublishError> {
        let length = self.shape.length();
        let mut is_there = in_time(self.timeout, self.sink.published(&mut self.found, length + 1)).await?;
        if is_there && self.found.len() > length {
            // It has a larger shape, or is no snapshot: only the whole of it shows which.
            is_there = in_time(self.timeout, self.sink.published(&mut self.found, LONGEST as usize + 1)).await?;
        }
        if !is_there {
            return Ok(Found::Nothing);
        }
        Ok(Envelope::open(&self.found, self.shape).map_or_else(Found::Unreadable, Found::Snapshot))
    }
}

/// Returns the time until the next period begins. The first period began `since` ago.
fn left_of(period: Duration, since: Duration) -> Duration {
    // No period is longer than 366 days.
    let nanos = period.as_nanos().max(1);
    Duration::from_nanos(u64::try_from(nanos - since.as_nanos() % nanos).unwrap_or(u64::MAX))
}

/// Returns an error if the call takes longer than `longest`.
async fn in_time<T>(longest: Duration, call: impl Future<Output = Result<T, SourceError>>) -> Result<T, SourceError> {
    timeout(longest, call).await.unwrap_or_else(|_| Err(SourceError::new(SourceFailure::TimedOut(longest))))
}
