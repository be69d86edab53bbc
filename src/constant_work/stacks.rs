mod fixed_length;
mod rule;
mod wire;

pub use rule::StackRule;

use super::poller::build::Build;
use crate::{
    error::ConfigError,
    stack::live::{Control, StackConfig},
};
use rule::check_name;

/// The named stacks of a process, as the target of a [`Poller`](super::Poller) of [`StackRule`]s.
///
/// Every tick applies a whole configuration to each stack: that of the rule with its name, or the one that the stack
/// was built with. A stack that was changed by hand therefore returns to its rule. The rules of a snapshot apply all
/// together or not at all. The poller refuses the whole snapshot if a stack refuses its rule, if two rules name one
/// stack, or if a rule names an unknown stack.
///
/// A publisher knows no stacks, and may publish rules that they refuse. Give the publisher a
/// [check](super::PublisherBuilder::check): a `Stacks` of stacks that are built like those of the processes. Watch the
/// refusals in the [readings](super::Readings) of the pollers.
///
/// Each stack changes at one instant; several stacks change one after the other. If processes of several kinds read one
/// snapshot, it names the stacks of all of them: see [`ignore_unknown`](Self::ignore_unknown).
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use steadfast::{
///     constant_work::{FixedSource, Poller, Shape, Snapshot, StackRule, Stacks, Version},
///     load_shed::Limiter,
///     stack::live::{LoadShedConfig, StackConfig},
/// };
///
/// let limiter = Limiter::fixed(100)?;
/// let (_layer, control) = steadfast::server().load_shed(limiter.clone()).live()?;
///
/// // Room for the rules of 16 stacks. In production a `Publisher` writes it, to a file that a `FileSource` reads.
/// let shape = Shape::for_rules::<StackRule>(16)?;
/// let config = StackConfig { load_shed: Some(LoadShedConfig::new(20)), ..StackConfig::default() };
/// let mut published = Vec::new();
/// Snapshot {
///     version: Version { epoch: 1, version: 1 },
///     published_at_nanos: 0,
///     rules: vec![StackRule::new("checkout", config)?],
/// }
/// .encode(shape, &mut published)?;
///
/// let stacks = Stacks::new().with("checkout", control)?;
/// let mut poller = Poller::builder(FixedSource::new(published), shape).build(stacks)?;
/// poller.tick().await?;
/// assert_eq!(limiter.limit(), 20);
/// # Ok(())
/// # }
/// ```
///
/// # Cost
///
/// For each stack, a tick calls [`Control::apply`] once, checks the configuration twice, and searches all slots twice
/// for the name of the stack. The allocations of a tick depend on the rules and the stacks, not on the number of
/// changes.
#[derive(Debug, Default)]
pub struct Stacks {
    stacks: Vec<(String, Control)>,
    ignores_unknown: bool,
}

impl Stacks {
    /// Returns an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a stack with this name.
    ///
    /// # Errors
    ///
    /// The name must have 1 to 32 bytes, without a zero byte, and differ from the names of the other stacks.
    pub fn with(mut self, name: &str, control: Control) -> Result<Self, ConfigError> {
        check_name(name)?;
        if self.stacks.iter().any(|(other, _)| other == name) {
            return Err(ConfigError::new("stacks.name", name, "must differ from the names of the other stacks"));
        }
        self.stacks.push((name.to_owned(), control));
        Ok(self)
    }

    /// Accepts snapshots with rules for unknown stacks. Default: they are refused, because an unknown name is usually a
    /// typing error, and its limits would silently not be in force.
    pub fn ignore_unknown(self) -> Self {
        Self { ignores_unknown: true, ..self }
    }

    /// Returns the configuration of this stack in the rules, if one of them has its name.
    fn config<'rules>(rules: &'rules [StackRule], name: &str) -> Option<&'rules StackConfig> {
        // Searches to the end, so that the cost does not depend on the position.
        rules.iter().fold(None, |found, rule| if rule.name() == name { found.or(Some(rule.config())) } else { found })
    }
}

impl Build<StackRule> for Stacks {
    type Value = ();

    fn check(&mut self, rules: &[StackRule]) -> Result<(), ConfigError> {
        let mut names: Vec<&str> = Vec::with_capacity(rules.len());
        names.extend(rules.iter().filter(|rule| !rule.is_inert()).map(StackRule::name));
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ConfigError::new("stacks.name", twice[0], "must appear in one rule only"));
        }
        let is_unknown = |name: &&&str| !self.stacks.iter().any(|(known, _)| known == **name);
        if let Some(unknown) = names.iter().find(is_unknown).filter(|_| !self.ignores_unknown) {
            return Err(ConfigError::new("stacks.name", unknown, "must be the name of a stack of this process"));
        }
        let built = StackConfig::default();
        self.stacks.iter().try_for_each(|(name, control)| {
            let checked = control.check(Self::config(rules, name).unwrap_or(&built));
            checked.map_err(|error| {
                let value = format_args!("{}, for the stack {name:?}", error.value());
                ConfigError::new(error.field(), value, error.rule().to_owned())
            })
        })
    }

    fn build(&mut self, rules: &[StackRule]) {
        let built = StackConfig::default();
        for (name, control) in &self.stacks {
            // `check` has accepted this configuration, in this tick, in an earlier one or in the poller's builder. So
            // no error is expected.
            let _ = control.apply(Self::config(rules, name).unwrap_or(&built));
        }
    }
}
