pub(super) mod builder;
pub(super) mod error;
pub(super) mod readings;
mod versions;

use super::{
    Refusal, Rule, Shape, Sink, Snapshot, SourceError, SourceFailure, Version, WallClock,
    envelope::{Envelope, stamp},
    poller::tick::caught,
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

/// Publishes rules to a [`Sink`], as a whole and as often as others read them, changed or not.
///
/// # One publication
///
/// 1. All rules are validated and encoded to a snapshot of the fixed size.
/// 2. The published snapshot is read. It must not be later than the last publication of this publisher, nor have other
///    rules by the same version.
/// 3. Rules that are others get the next version; the same ones are published again by the version that they have,
///    with the time of now.
/// 4. The snapshot is decoded by what readers decode it with, and [checked](PublisherBuilder::check).
/// 5. It is written.
///
/// # Versions
///
/// - Nothing is published: the first version of the epoch is 1. If something was, and is lost, raise the
///   [`epoch`](PublisherBuilder::epoch).
/// - A publisher that starts goes on from what is published, also where that has another schema or shape.
/// - What is published and cannot be read (corrupt, cut off, no snapshot) is replaced by the next publication of a
///   publisher that has published before: it knows its last version, and nothing that readers have is later. One that
///   has just started does not know it, and refuses, as readers would refuse whatever it began with.
/// - A snapshot of a later format of this crate, with a checksum that is right, is never replaced.
/// - What is published and older than this publisher's own last (a restored backup) is replaced by it.
/// - A version is used up once it was to be written, as it may have been; no other rules ever get it.
///
/// # Two publishers
///
/// The one that started later goes on from the versions of the earlier, which is [overtaken](PublishError::Overtaken)
/// and publishes no more: a rolling update may start the new one before it ends the old. Nothing is locked, though.
/// Two that publish other rules by the same version between the look of the one and its write find out with their
/// next publication that there is a [conflict](PublishError::Conflict); readers keep whichever of the two they saw
/// first until a later version comes. Start the one that says so again: its rules then get the next version.
///
/// # Time of publication
///
/// That of the wall clock, and within one publisher never earlier than before: where the clock steps back, the last
/// time stays until the clock has come there again. A clock that was far ahead for a moment is believed until the
/// publisher is started again.
///
/// # Cancellation
///
/// A publication that is dropped leaves the old or the new snapshot, whole. The next one finds out which.
///
/// # Costs
///
/// Each publication validates, encodes and decodes every slot, and reads and writes the whole snapshot, whatever has
/// changed. Three buffers of that size are kept; the largest snapshot of 64 MiB makes that 192 MiB. Only what is
/// published and longer than a snapshot of this shape is read twice.
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
    /// The last snapshot that was to be written, and may have been.
    own: Vec<u8>,
    /// The envelope of `own`.
    last: Option<Envelope>,
    next: Vec<u8>,
    found: Vec<u8>,
    check: Option<Check<T>>,
}

/// A publication.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The epoch, as the builder has it, and the version within it: one more than before, or the same if the rules are.
    pub version: Version,
    /// When, in nanoseconds since 1970 by the builder's clock.
    pub published_at_nanos: u64,
    /// The rules.
    pub used: u32,
    /// The slots for rules.
    pub slots: u32,
    /// The bytes of the snapshot, always the same.
    pub bytes: usize,
}

impl<T: Rule, S: Sink> Publisher<T, S> {
    /// Configures a publisher that publishes snapshots of this shape.
    pub fn builder(sink: S, shape: Shape) -> PublisherBuilder<T, S> {
        PublisherBuilder::new(sink, shape)
    }

    pub(super) fn of(builder: PublisherBuilder<T, S>, readings: PublisherReadings) -> Self {
        let PublisherBuilder { sink, shape, epoch, period, timeout, wall_clock, check, .. } = builder;
        let (timeout, last) = (timeout.unwrap_or(period), None);
        let [own, next, found] = [(); 3].map(|()| Vec::new());
        Self { sink, shape, epoch, period, timeout, wall_clock, readings, own, last, next, found, check }
    }

    /// The publisher's state, for metrics and alarms.
    pub fn readings(&self) -> PublisherReadings {
        self.readings.clone()
    }

    /// Publishes these rules now.
    ///
    /// # Errors
    ///
    /// A [`PublishError`]. The snapshot before stays published; only after [`PublishError::Sink`] the new snapshot may
    /// be published all the same.
    pub async fn publish(&mut self, rules: &[T]) -> Result<Published, PublishError> {
        let prepared = self.prepare(rules);
        self.finish(prepared).await
    }

    /// Does all that a publication does with these rules before anything is read or written: whether they make a
    /// snapshot, whether it can be read, and the [check](PublisherBuilder::check) of all of them together. For what an
    /// operator is about to publish. It changes no readings and uses up no version.
    ///
    /// # Errors
    ///
    /// [`PublishError::Encode`] and [`PublishError::Unreadable`].
    pub fn check(&mut self, rules: &[T]) -> Result<(), PublishError> {
        snapshot::encode(Version::default(), Nanos::ZERO, rules, self.shape, &mut self.next)?;
        stamp(&mut self.next, Version::default(), Nanos::ZERO);
        self.read_back()
    }

    /// Reads the next snapshot as readers do, and checks it as they do.
    fn read_back(&mut self) -> Result<(), PublishError> {
        let Some(check) = &mut self.check else {
            return Snapshot::<T>::decode(&self.next, self.shape).map(drop).map_err(PublishError::Unreadable);
        };
        let mut rules = Vec::with_capacity(self.shape.slots() as usize);
        let checked = snapshot::open(&self.next, self.shape, T::SCHEMA, snapshot::checksum(&self.next))
            .and_then(|_| snapshot::decode_slots(&self.next, self.shape, &mut rules))
            .and_then(|()| caught("check", || check(&rules))?.map_err(Refusal::Check));
        checked.map_err(PublishError::Unreadable)
    }

    /// Asks for the rules and publishes them, at once and in every period, for ever: until its future is dropped.
    ///
    /// A failure is in the [readings](Self::readings), and the next period is the next try. While there are no rules
    /// nothing is published, so that readers see the age of what they have. A publication that takes longer than the
    /// period leaves out those that were to begin meanwhile, and the next begins when it would have. A panic of the
    /// function ends it. Where a runtime may end before the process does, call [`publish`](Self::publish) instead: each
    /// may be in another runtime.
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
            // The readings have it.
            let _ = self.finish(prepared).await;
            sleep(left_of(self.period, Instant::now().saturating_duration_since(began))).await;
        }
    }

    /// Validates and encodes.
    fn prepare(&mut self, rules: &[T]) -> Result<(), PublishError> {
        self.readings.attempted(rules.len());
        // The version comes when it is known which one is published.
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

    /// Publishes what was encoded.
    async fn commit(&mut self) -> Result<Published, PublishError> {
        let found = self.find().await?;
        let version = Version { epoch: self.epoch, version: self.next_version(found)? };
        let last = self.last.map_or(Nanos::ZERO, |last| last.header.published_at);
        stamp(&mut self.next, version, self.wall_clock.now().max(last));
        self.read_back()?;
        let envelope = Envelope::open(&self.next, self.shape).map_err(PublishError::Unreadable)?;
        // Before the write, whose result may stay unknown.
        mem::swap(&mut self.own, &mut self.next);
        self.last = Some(envelope);
        in_time(self.timeout, self.sink.publish(&self.own)).await?;
        let (published_at_nanos, used) = (envelope.header.published_at.0, envelope.header.used);
        Ok(Published { version, published_at_nanos, used, slots: self.shape.slots(), bytes: self.own.len() })
    }

    /// Reads what is published.
    async fn find(&mut self) -> Result<Found, PublishError> {
        let length = self.shape.length();
        let mut is_there = in_time(self.timeout, self.sink.published(&mut self.found, length + 1)).await?;
        if is_there && self.found.len() > length {
            // Of a larger shape, or nonsense: only all of it tells.
            is_there = in_time(self.timeout, self.sink.published(&mut self.found, LONGEST as usize + 1)).await?;
        }
        if !is_there {
            return Ok(Found::Nothing);
        }
        Ok(Envelope::open(&self.found, self.shape).map_or_else(Found::Unreadable, Found::Snapshot))
    }
}

/// The time until the next period begins. The first one began `since` ago.
fn left_of(period: Duration, since: Duration) -> Duration {
    // No period is longer than 366 days.
    let nanos = period.as_nanos().max(1);
    Duration::from_nanos(u64::try_from(nanos - since.as_nanos() % nanos).unwrap_or(u64::MAX))
}

/// Gives up after the longest time.
async fn in_time<T>(longest: Duration, call: impl Future<Output = Result<T, SourceError>>) -> Result<T, SourceError> {
    timeout(longest, call).await.unwrap_or_else(|_| Err(SourceError::new(SourceFailure::TimedOut(longest))))
}
