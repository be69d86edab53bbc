use crate::error::ConfigError;

/// A mechanism whose configuration can change while calls pass.
pub(crate) trait Reconfigure {
    /// Its piece of the configuration of a stack.
    type Config;

    /// The configuration in force.
    fn read(&self) -> Self::Config;

    /// Whether the mechanism can follow this configuration. Nothing changes.
    ///
    /// # Errors
    ///
    /// The field that is wrong.
    fn check(&self, config: &Self::Config) -> Result<(), ConfigError>;

    /// How calls that pass meanwhile are taken from the configuration in force to another one.
    fn course(&self, now: &Self::Config, to: &Self::Config) -> Course<Self::Config>;

    /// Follows this configuration, which was checked. Calls pass meanwhile. A change may wait for it, so it must be
    /// short.
    fn apply(&self, config: &Self::Config);

    /// Does what is left to do after a change. It may take longer: calls pass meanwhile.
    fn settle(&self) {}
}

/// How a mechanism comes from one configuration to another while calls pass.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Course<Config> {
    /// No decision about a call depends on what differs.
    Unseen,
    /// By way of this one. It refuses what either of the two refuses, and nothing else, so that a call which it admits
    /// is admitted by both.
    Strictest(Config),
    /// At once: each call is decided by the one or by the other.
    AtOnce,
    /// In several steps, each of them at once. A call that sees one of them may not see the others.
    InSteps,
}

/// The rule that a part of a configuration breaks for which there is no mechanism.
pub(crate) const ABSENT: &str = "must be left out: the stack was built without it";
