use crate::error::ConfigError;

/// A mechanism whose configuration can change while calls pass.
pub(crate) trait Reconfigure {
    /// Its part of the configuration of a stack.
    type Config;

    /// Returns the configuration in force.
    fn read(&self) -> Self::Config;

    /// Checks that the mechanism can follow this configuration. Changes no state.
    ///
    /// # Errors
    ///
    /// The field that breaks a rule.
    fn check(&self, config: &Self::Config) -> Result<(), ConfigError>;

    /// Returns how the mechanism changes from the configuration in force to another one while calls pass.
    fn course(&self, now: &Self::Config, to: &Self::Config) -> Course<Self::Config>;

    /// Applies a checked configuration while calls pass. Other changes wait for it, and so may calls that reach the
    /// stack meanwhile. It must therefore be short.
    fn apply(&self, config: &Self::Config);

    /// Finishes the work that [`apply`](Self::apply) leaves for later. It may take longer than `apply`, because no call
    /// waits for it.
    fn settle(&self) {}
}

/// How a mechanism changes from one configuration to another while calls pass.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Course<Config> {
    /// No decision about a call depends on the difference.
    Unseen,
    /// Through this intermediate configuration. It refuses exactly the calls that the old or the new configuration
    /// refuses.
    Strictest(Config),
    /// In one step: each call sees the old or the new configuration.
    AtOnce,
    /// In several steps: a call can see some of them and not the others.
    InSteps,
}

/// The rule that a configuration breaks if it has a part for a mechanism that the stack does not have.
pub(crate) const ABSENT: &str = "must be left out: the stack was built without it";
