use super::StackConfig;
use crate::{
    error::{ConfigError, check_duration},
    shell::{Course, Reconfigure},
    timeout::Of,
};
use std::time::Duration;

/// The handles of the mechanisms of a live stack, outermost first, each with its part of the configuration.
#[derive(Default)]
pub struct Pieces(Vec<Box<dyn Piece>>);

/// A mechanism of a live stack, without its type.
pub(super) trait Piece: Send + Sync {
    /// Writes the configuration in force into its part of `config`. For settings of calls, such as a timeout, it writes
    /// the built values; [`LiveShared::config`](super::shared::LiveShared::config) then writes those in force.
    fn read(&self, config: &mut StackConfig);

    /// Checks the given parts, before the missing ones are filled in.
    fn check_given(&self, _config: &StackConfig) -> Result<(), ConfigError> {
        Ok(())
    }

    /// Checks that the mechanism can follow its part of a complete configuration.
    fn check(&self, config: &StackConfig) -> Result<(), ConfigError>;

    /// Makes the mechanism as strict as the configuration in force and the checked `config` together, if it can take
    /// such an intermediate configuration. Returns the work that remains. A difference on which no decision about a
    /// call depends is applied at once.
    fn tighten(&self, config: &StackConfig) -> Remaining;

    /// Applies its part of the configuration.
    fn apply(&self, config: &StackConfig);

    /// Finishes the work that the last change left for later.
    fn settle(&self);
}

/// The work that [`tighten`](Piece::tighten) leaves for the rest of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remaining {
    /// None, and no pass needs to be repeated: the mechanism did not change, or calls do not depend on its change.
    Unchanged,
    /// None: the mechanism already follows the new configuration.
    Done,
    /// Becoming less strict, by applying the new configuration.
    Loosen,
    /// Changing in one step, because the mechanism takes no intermediate configuration.
    OneStep,
    /// Changing in several steps that no intermediate configuration covers: a call can see some of them and not the
    /// others.
    SeveralSteps,
}

impl Pieces {
    /// Adds a mechanism, with the accessors of its part of a configuration.
    pub(in crate::stack) fn add<H>(
        &mut self,
        handle: H,
        part: fn(&StackConfig) -> Option<&H::Config>,
        set: fn(&mut StackConfig, H::Config),
    ) where
        H: Reconfigure<Config: PartialEq> + Send + Sync + 'static,
    {
        self.0.push(Box::new(Part { handle, part, set }));
    }

    /// Adds a timeout that a configuration can set.
    pub(in crate::stack) fn add_timeout(&mut self, of: Of, built: Duration) {
        self.0.push(Box::new(Timeout { of, built }));
    }

    /// Adds a timeout that no configuration sets. `rule` says why.
    pub(in crate::stack) fn add_own_timeout(&mut self, of: Of, rule: &'static str) {
        self.0.push(Box::new(OwnTimeout { of, rule }));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &dyn Piece> {
        self.0.iter().map(|piece| &**piece)
    }
}

struct Part<H: Reconfigure> {
    handle: H,
    part: fn(&StackConfig) -> Option<&H::Config>,
    set: fn(&mut StackConfig, H::Config),
}

impl<H: Reconfigure<Config: PartialEq> + Send + Sync> Piece for Part<H> {
    fn read(&self, config: &mut StackConfig) {
        (self.set)(config, self.handle.read());
    }

    fn check(&self, config: &StackConfig) -> Result<(), ConfigError> {
        (self.part)(config).map_or(Ok(()), |part| self.handle.check(part))
    }

    fn tighten(&self, config: &StackConfig) -> Remaining {
        let Some(to) = (self.part)(config) else { return Remaining::Unchanged };
        let now = self.handle.read();
        if now == *to {
            return Remaining::Unchanged;
        }
        match self.handle.course(&now, to) {
            // Calls do not depend on this change, so none is restarted.
            Course::Unseen => {
                self.handle.apply(to);
                return Remaining::Unchanged;
            }
            Course::Strictest(strictest) => {
                if strictest != now {
                    self.handle.apply(&strictest);
                }
                if strictest != *to {
                    return Remaining::Loosen;
                }
            }
            Course::AtOnce => return Remaining::OneStep,
            Course::InSteps => return Remaining::SeveralSteps,
        }
        Remaining::Done
    }

    fn apply(&self, config: &StackConfig) {
        if let Some(part) = (self.part)(config) {
            self.handle.apply(part);
        }
    }

    fn settle(&self) {
        self.handle.settle();
    }
}

/// A timeout that a configuration can set. Each call reads its timeout from the settings that the live stack publishes.
/// `change.rs` writes those, so this piece has nothing to apply.
struct Timeout {
    of: Of,
    built: Duration,
}

impl Piece for Timeout {
    fn read(&self, config: &mut StackConfig) {
        let limit = match self.of {
            Of::Call => &mut config.timeout,
            Of::Attempt => &mut config.attempt_timeout,
        };
        *limit = Some(self.built);
    }

    fn check(&self, config: &StackConfig) -> Result<(), ConfigError> {
        timeout(self.of, config).map_or(Ok(()), |limit| check_duration(self.of.field(), limit))
    }

    fn tighten(&self, _config: &StackConfig) -> Remaining {
        Remaining::Unchanged
    }

    fn apply(&self, _config: &StackConfig) {}

    fn settle(&self) {}
}

/// A timeout that no configuration sets: a closure chooses it, or it is learned.
struct OwnTimeout {
    of: Of,
    rule: &'static str,
}

impl Piece for OwnTimeout {
    fn read(&self, _config: &mut StackConfig) {}

    fn check_given(&self, config: &StackConfig) -> Result<(), ConfigError> {
        timeout(self.of, config).map_or(Ok(()), |limit| Err(ConfigError::new(self.of.field(), limit, self.rule)))
    }

    fn check(&self, _config: &StackConfig) -> Result<(), ConfigError> {
        Ok(())
    }

    fn tighten(&self, _config: &StackConfig) -> Remaining {
        Remaining::Unchanged
    }

    fn apply(&self, _config: &StackConfig) {}

    fn settle(&self) {}
}

/// Returns the timeout of calls or of attempts in a configuration.
fn timeout(of: Of, config: &StackConfig) -> Option<Duration> {
    match of {
        Of::Call => config.timeout,
        Of::Attempt => config.attempt_timeout,
    }
}
