use super::{
    PublishError, PublisherBuilder, PublisherReadings, Refusal, Rule, Shape, Sink, SourceError,
    shape::LONGEST,
    snapshot::{self, Header, Unfit},
};
use std::{convert::Infallible, error::Error, marker::PhantomData, mem, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Publishes rules to a [`Sink`], as a whole and as often as others read them, changed or not.
///
/// # One publication
///
/// 1. All rules are validated and encoded to a snapshot of the fixed size.
/// 2. What is published is read. It must not be later than the last publication of this publisher, nor have other rules
///    by the same version.
/// 3. Rules that are others get the next version; the same ones are published again by the version that they have, with the
///    time of now.
/// 4. The snapshot is decoded by what readers decode it with.
/// 5. It is written.
///
/// # Versions
///
/// - Nothing is published: the first version of the epoch is 1. If something was, and is lost, raise the
///   [`epoch`](PublisherBuilder::epoch).
/// - A publisher that starts goes on from what is published, also where that has another schema or shape.
/// - What is published and cannot be read (corrupt, cut off, no snapshot) is replaced by the next publication of a publisher
///   that has published before: it knows its last version, and nothing that readers have is later. One
///   that has just started does not know it, and refuses, as readers would refuse whatever it began with.
/// - A snapshot of a later format of this crate, with a checksum that is right, is never replaced.
/// - What is published and older than this publisher's own last (a restored backup) is replaced by it.
/// - A version is used up once it was to be written, as it may have been; no other rules ever get it.
///
/// # Two publishers
///
/// The one that started later goes on from the versions of the earlier, which is
/// [overtaken](PublishError::Overtaken) and publishes no more: a rolling update may start the new one before it ends the
/// old. Nothing is locked, though. Two that publish other rules by the same version between the look of the one and its
/// write find out with their next publication that there is a [conflict](PublishError::Conflict); readers keep whichever of
/// the two they saw first. Start one of them again.
///
/// # Time of publication
///
/// That of the wall clock, and within one publisher never earlier than before: where the clock steps back, the last time stays
/// until the clock has come there again. A clock that was far ahead for a moment is believed until the publisher is started again.
///
/// # Cancellation
///
/// A publication that is dropped leaves the old or the new snapshot, whole. The next one finds out which.
///
/// # Costs
///
/// Each publication validates, encodes and decodes every slot, and reads and writes the whole snapshot, whatever has changed.
/// Three buffers of that size are kept; the largest snapshot of 64 MiB makes that 192 MiB. Only what is published and longer
/// than a snapshot of this shape is read twice.
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
/// assert_eq!(publisher.publish(&rules).await?.version, 1);
/// assert_eq!(publisher.publish(&rules).await?.version, 1);
/// rules.push(Limit { tenant: 8, rate: 50.0 });
/// let published = publisher.publish(&rules).await?;
/// assert_eq!((published.version, published.used, published.slots), (2, 2, 1000));
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
    readings: PublisherReadings,
    /// The version of `own`: the last that was to be written, and may have been.
    version: Option<u64>,
    own: Vec<u8>,
    /// The time in `own`, in nanoseconds since 1970.
    published_at: u64,
    next: Vec<u8>,
    found: Vec<u8>,
    rule: PhantomData<fn() -> T>,
}

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The epoch, as the builder has it.
    pub epoch: u64,
    /// The version within the epoch: one more than before, or the same if the rules are.
    pub version: u64,
    /// When, by the wall clock, since 1970.
    pub published_at: Duration,
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
        let PublisherBuilder { sink, shape, epoch, period, timeout, .. } = builder;
        let timeout = timeout.unwrap_or(period);
        let [own, next, found] = [(); 3].map(|()| Vec::new());
        let (version, published_at, rule) = (None, 0, PhantomData);
        Self { sink, shape, epoch, period, timeout, readings, version, own, published_at, next, found, rule }
    }

    /// What this publisher does, for metrics and alarms.
    pub fn readings(&self) -> PublisherReadings {
        self.readings.clone()
    }

    /// Publishes these rules now.
    ///
    /// # Errors
    ///
    /// A [`PublishError`]. What was published before stays; only after [`PublishError::Sink`] the new snapshot may be
    /// published all the same.
    pub async fn publish(&mut self, rules: &[T]) -> Result<Published, PublishError> {
        self.publish_at(rules, snapshot::wall_clock()).await
    }

    /// The same for tests: it is this time, since 1970.
    pub async fn publish_at(&mut self, rules: &[T], now: Duration) -> Result<Published, PublishError> {
        let prepared = self.prepare(rules);
        self.finish(prepared, now).await
    }

    /// Asks for the rules and publishes them, at once and in every period, for ever: until its future is dropped.
    ///
    /// What fails is in the [readings](Self::readings), and the next period is the next try. While there are no rules nothing is
    /// published, so that readers see the age of what they have. A publication that takes longer than the period
    /// leaves out those that were to begin meanwhile. A panic of the function ends it.
    ///
    /// ```no_run
    /// # use std::{error::Error, io};
    /// # use steadfast::constant_work::{Publisher, Rule, Sink};
    /// # async fn all_limits() -> io::Result<Vec<u32>> { Ok(Vec::new()) }
    /// # async fn example<T: Rule, S: Sink>(publisher: Publisher<T, S>, limit_of: fn(u32) -> T) {
    /// publisher.run(async || all_limits().await.map(|limits| limits.into_iter().map(limit_of).collect::<Vec<_>>())).await;
    /// # }
    /// ```
    pub async fn run<F, Rules, R, E>(mut self, mut rules: F) -> Infallible
    where
        F: FnMut() -> Rules,
        Rules: Future<Output = Result<R, E>>,
        R: AsRef<[T]>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut ticks = interval(self.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let prepared = match timeout(self.timeout, rules()).await {
                Ok(Ok(rules)) => self.prepare(rules.as_ref()),
                Ok(Err(error)) => Err(PublishError::Rules(error.into().into())),
                Err(_) => Err(PublishError::RulesTimedOut),
            };
            // The readings have it.
            let _ = self.finish(prepared, snapshot::wall_clock()).await;
        }
    }

    /// Validates and encodes.
    fn prepare(&mut self, rules: &[T]) -> Result<u32, PublishError> {
        let slots = self.shape.slots();
        self.readings.attempted(rules.len());
        let too_many = PublishError::Fill { used: rules.len(), slots };
        let used = u32::try_from(rules.len()).ok().filter(|&used| used <= slots).ok_or(too_many)?;
        for (slot, rule) in (0..).zip(rules) {
            rule.validate().map_err(|error| PublishError::Rule { slot, error })?;
        }
        snapshot::encode(self.shape, rules, &mut self.next).map_err(|unfit| match unfit {
            Unfit::Rule(slot) => PublishError::Encoding { slot },
            Unfit::Length { slot, length } => {
                PublishError::SlotTooLong { slot, length, slot_length: self.shape.slot_length() }
            }
        })?;
        Ok(used)
    }

    async fn finish(&mut self, prepared: Result<u32, PublishError>, now: Duration) -> Result<Published, PublishError> {
        let ended = match prepared {
            Ok(used) => self.commit(used, now).await,
            Err(error) => Err(error),
        };
        self.readings.ended(&ended, Instant::now());
        ended
    }

    /// Publishes what was encoded.
    async fn commit(&mut self, used: u32, now: Duration) -> Result<Published, PublishError> {
        let found = self.find().await?;
        let version = self.next_version(found, used)?;
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX).max(self.published_at);
        let (slots, slot_length) = (self.shape.slots(), self.shape.slot_length());
        let (schema, epoch) = (T::SCHEMA, self.epoch);
        let header = Header { schema, epoch, version, published_at: nanos, slots, slot_length, used };
        snapshot::seal(&mut self.next, &header);
        snapshot::decode::<T>(&self.next, self.shape, &mut Vec::new()).map_err(PublishError::Unreadable)?;
        // Before the write, which may end in nobody knows what.
        mem::swap(&mut self.own, &mut self.next);
        (self.version, self.published_at) = (Some(version), nanos);
        in_time(self.timeout, self.sink.publish(&self.own)).await?;
        let (published_at, bytes) = (Duration::from_nanos(nanos), self.own.len());
        Ok(Published { epoch, version, published_at, used, slots, bytes })
    }

    /// Reads what is published.
    async fn find(&mut self) -> Result<Found, PublishError> {
        let length = self.shape.length();
        let mut is_there = in_time(self.timeout, self.sink.published(&mut self.found, length + 1)).await?;
        if is_there && self.found.len() > length {
            // Of a larger shape, or nonsense: only all of it tells.
            is_there = in_time(self.timeout, self.sink.published(&mut self.found, LONGEST + 1)).await?;
        }
        if !is_there {
            return Ok(Found::Nothing);
        }
        Ok(snapshot::header_of(&self.found).map_or_else(Found::Unreadable, Found::Snapshot))
    }

    /// The version for what was encoded, if it may be published.
    fn next_version(&self, found: Found, used: u32) -> Result<u64, PublishError> {
        let own = (self.epoch, self.version.unwrap_or(0));
        let before = match found {
            Found::Snapshot(header) => {
                let found = (header.epoch, header.version);
                if header.epoch > self.epoch || (self.version.is_some() && found > own) {
                    return Err(PublishError::Overtaken { found, own });
                }
                if self.version.is_some() && found == own && !same_rules(&self.found, &self.own) {
                    return Err(PublishError::Conflict { version: own });
                }
                (header.epoch == self.epoch).then_some((header.version, &self.found))
            }
            // It has a checksum that is right: this is not what a broken disk makes.
            Found::Unreadable(refusal @ Refusal::Format { .. }) => return Err(PublishError::Unknown(refusal)),
            Found::Unreadable(refusal) if self.version.is_none() => return Err(PublishError::Unknown(refusal)),
            Found::Nothing | Found::Unreadable(_) => None,
        };
        let before = self.version.map(|version| (version, &self.own)).or(before);
        let Some((version, bytes)) = before else { return Ok(1) };
        let header = snapshot::header_of(bytes).ok();
        let is_same = header.is_some_and(|header| self.is_of_this_kind(&header) && header.used == used)
            && snapshot::slots_of(bytes) == snapshot::slots_of(&self.next);
        if is_same { Ok(version) } else { version.checked_add(1).ok_or(PublishError::OutOfVersions) }
    }

    fn is_of_this_kind(&self, header: &Header) -> bool {
        let shape = (self.shape.slots(), self.shape.slot_length());
        header.schema == T::SCHEMA && (header.slots, header.slot_length) == shape
    }
}

/// What is published.
enum Found {
    Nothing,
    Snapshot(Header),
    Unreadable(Refusal),
}

/// Whether two snapshots have the same rules, whenever they were published.
fn same_rules(one: &[u8], other: &[u8]) -> bool {
    let kind = |bytes| {
        let header = snapshot::header_of(bytes).ok()?;
        Some((header.schema, header.slots, header.slot_length, header.used))
    };
    kind(one) == kind(other) && snapshot::slots_of(one) == snapshot::slots_of(other)
}

/// Gives up after so long.
async fn in_time<T>(longest: Duration, call: impl Future<Output = Result<T, SourceError>>) -> Result<T, SourceError> {
    timeout(longest, call).await.unwrap_or(Err(SourceError::TimedOut))
}
