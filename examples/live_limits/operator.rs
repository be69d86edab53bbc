//! Publishes the file on a timeline, and damages it.

use crate::server;
use std::{
    fs::OpenOptions,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};
use steadfast::{
    constant_work::{FileSink, Publisher, StackRule},
    rate_limit::Quota,
    stack::live::{LoadLevelConfig, LoadShedConfig, RateLimitConfig, StackConfig},
};
use tower::BoxError;

/// One step of the timeline.
pub struct Step {
    pub name: &'static str,
    pub action: Action,
    /// The configuration that should be in force from then on.
    pub config: StackConfig,
}

/// What happens to the file at the start of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The step's configuration is published.
    Publish,
    /// A few of its bytes are flipped in place.
    Flip,
    /// It loses its second half.
    Truncate,
}

/// A quota of `count` per second, with a burst of a tenth of that.
fn per_second(count: u64) -> Quota {
    Quota::new(count, Duration::from_secs(1)).with_burst((count / 10).max(1))
}

/// The configuration that is published first if none is given.
pub fn usual() -> StackConfig {
    StackConfig {
        rate_limit: vec![RateLimitConfig::new([per_second(100), per_second(200)])],
        load_shed: Some(LoadShedConfig::new(64)),
        ..StackConfig::default()
    }
}

/// Returns all steps, starting from this configuration.
pub fn timeline(first: StackConfig) -> Vec<Step> {
    // Each publication is a whole configuration. A field that it leaves out returns to its built-in value.
    let quotas = |free, paid| StackConfig {
        rate_limit: vec![RateLimitConfig::new([per_second(free), per_second(paid)])],
        ..first.clone()
    };
    let (cut, raised) = (quotas(40, 200), quotas(40, 300));
    // The queue's concurrency must be lower too. Otherwise no call could wait, and the stack would refuse the
    // configuration.
    let shed = StackConfig {
        load_shed: Some(LoadShedConfig::new(8)),
        load_level: Some(LoadLevelConfig::new(7, 32)),
        ..raised.clone()
    };
    let off = StackConfig { switched_off: true, ..raised.clone() };
    let step = |name, action, config: &StackConfig| Step { name, action, config: config.clone() };
    vec![
        step("start", Action::Publish, &first),
        step("free tier cut", Action::Publish, &cut),
        step("paid tier raised", Action::Publish, &raised),
        step("fewer in flight", Action::Publish, &shed),
        step("switched off", Action::Publish, &off),
        step("switched on", Action::Publish, &raised),
        step("bytes flipped", Action::Flip, &raised),
        step("file truncated", Action::Truncate, &raised),
        step("published again", Action::Publish, &first),
    ]
}

/// Publishes to a file, and damages it.
pub struct Operator {
    file: PathBuf,
    publisher: Publisher<StackRule, FileSink>,
}

impl Operator {
    pub fn new(file: &Path) -> Result<Self, BoxError> {
        let publisher = Publisher::builder(FileSink::new(file)?, server::shape()?).build()?;
        Ok(Self { file: file.to_owned(), publisher })
    }

    pub async fn begin(&mut self, step: &Step) -> Result<(), BoxError> {
        match step.action {
            Action::Publish => {
                let rules = [StackRule::new(server::NAME, step.config.clone())?];
                self.publisher.publish(&rules).await?;
            }
            Action::Flip => flip(&self.file)?,
            Action::Truncate => {
                let file = OpenOptions::new().write(true).open(&self.file)?;
                file.set_len(file.metadata()?.len() / 2)?;
            }
        }
        Ok(())
    }
}

/// Flips three bytes behind the header, where the first rule is. The file is changed in place, as by a failing disk.
fn flip(path: &Path) -> io::Result<()> {
    let place = SeekFrom::Start(100);
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut bytes = [0; 3];
    file.seek(place)?;
    file.read_exact(&mut bytes)?;
    file.seek(place)?;
    file.write_all(&bytes.map(|byte| !byte))
}
