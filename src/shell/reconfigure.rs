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

    /// Follows this configuration, which was checked. No call passes meanwhile, so it must be short.
    fn apply(&self, config: &Self::Config);

    /// Does what is left to do after a change. It may take longer: calls pass meanwhile.
    fn settle(&self) {}
}

/// The rule that a part of a configuration breaks for which there is no mechanism.
pub(crate) const ABSENT: &str = "must be left out: the stack was built without it";
