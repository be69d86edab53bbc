use super::StackConfig;
use crate::{
    error::{ConfigError, check_duration},
    shell::{Course, Reconfigure},
    timeout::Of,
};
use std::time::Duration;

/// A handle of each mechanism of a live stack, from the outside in, and the part of a configuration that it follows.
#[derive(Default)]
pub struct Pieces(Vec<Box<dyn Piece>>);

/// A mechanism of a live stack, whatever its type.
pub(super) trait Piece: Send + Sync {
    /// Writes down what is in force.
    fn read(&self, config: &mut StackConfig);

    /// Whether a configuration may say what it says, before what it does not say is added.
    fn check_given(&self, _config: &StackConfig) -> Result<(), ConfigError> {
        Ok(())
    }

    /// Whether the mechanism can follow its part of a complete configuration.
    fn check(&self, config: &StackConfig) -> Result<(), ConfigError>;

    /// Follows its part of a configuration that was checked, so far as it becomes stricter by that, and says what is
    /// left to do.
    fn tighten(&self, config: &StackConfig) -> Left;

    /// Does what is left to do.
    fn apply(&self, config: &StackConfig);

    /// Does what is left to do after a change.
    fn settle(&self);
}

/// What is left to do for a mechanism that has become as strict as both configurations together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing, and nothing was to be done.
    Same,
    Nothing,
    /// It becomes less strict.
    Loosen,
    /// It changes in one step, or in several: neither is stricter than the other.
    Step,
    Steps,
}

impl Pieces {
    /// Adds a mechanism, and where its part of a configuration stands.
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

    pub(in crate::stack) fn add_timeout(&mut self, of: Of, built: Duration) {
        self.0.push(Box::new(Timeout { of, built }));
    }

    pub(in crate::stack) fn add_learned_timeout(&mut self, of: Of) {
        self.0.push(Box::new(LearnedTimeout(of)));
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

    fn tighten(&self, config: &StackConfig) -> Left {
        let Some(to) = (self.part)(config) else { return Left::Same };
        let now = self.handle.read();
        if now == *to {
            return Left::Same;
        }
        match self.handle.course(&now, to) {
            // No call begins again for it.
            Course::Unseen => {
                self.handle.apply(to);
                return Left::Same;
            }
            Course::Strictest(strictest) => {
                if strictest != now {
                    self.handle.apply(&strictest);
                }
                if strictest != *to {
                    return Left::Loosen;
                }
            }
            Course::AtOnce => return Left::Step,
            Course::InSteps => return Left::Steps,
        }
        Left::Nothing
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

/// A timeout. It is a term of each call, so there is nothing to apply.
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

    fn tighten(&self, _config: &StackConfig) -> Left {
        Left::Same
    }

    fn apply(&self, _config: &StackConfig) {}

    fn settle(&self) {}
}

/// A timeout that is learned. No configuration sets it.
struct LearnedTimeout(Of);

impl Piece for LearnedTimeout {
    fn read(&self, _config: &mut StackConfig) {}

    fn check_given(&self, config: &StackConfig) -> Result<(), ConfigError> {
        let rule = "must be left out: the stack learns this timeout";
        timeout(self.0, config).map_or(Ok(()), |limit| Err(ConfigError::new(self.0.field(), limit, rule)))
    }

    fn check(&self, _config: &StackConfig) -> Result<(), ConfigError> {
        Ok(())
    }

    fn tighten(&self, _config: &StackConfig) -> Left {
        Left::Same
    }

    fn apply(&self, _config: &StackConfig) {}

    fn settle(&self) {}
}

/// The limit that a configuration gives.
fn timeout(of: Of, config: &StackConfig) -> Option<Duration> {
    match of {
        Of::Call => config.timeout,
        Of::Attempt => config.attempt_timeout,
    }
}
