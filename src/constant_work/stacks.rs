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

/// The stacks of a process, by name: what a [`Poller`](super::Poller) of [`StackRule`]s drives.
///
/// Every tick applies to each stack, as a whole, what the rule with its name says, or else what it was built with. So a
/// stack is also set right that was changed by hand. The rules of a snapshot are in force together or not at all: one
/// that cannot be applied to its stack, or that names no stack, refuses the snapshot.
///
/// A publisher knows no stacks, and so publishes what they may refuse. Give it the
/// [check](super::PublisherBuilder::check) of stacks that are built alike, and watch the refusals in the
/// [readings](super::Readings).
///
/// Each stack changes at one instant; several stacks change one after the other. A snapshot that many kinds of
/// processes read names the stacks of all of them: see [`ignore_unknown`](Self::ignore_unknown).
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
/// Of a tick: for each stack what [`Control::apply`] costs, twice the checks of it, and one search for its name among
/// all slots. It allocates by what rules and stacks there are, not by what has changed.
#[derive(Debug, Default)]
pub struct Stacks {
    stacks: Vec<(String, Control)>,
    ignores_unknown: bool,
}

impl Stacks {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Drives this stack, too.
    ///
    /// # Errors
    ///
    /// The name must be of 1 to 32 bytes, and not that of another stack.
    pub fn with(mut self, name: &str, control: Control) -> Result<Self, ConfigError> {
        check_name(name)?;
        if self.stacks.iter().any(|(other, _)| other == name) {
            return Err(ConfigError::new("stacks.name", name, "must be that of no other stack"));
        }
        self.stacks.push((name.to_owned(), control));
        Ok(self)
    }

    /// Takes a snapshot in which there are rules for stacks that are not here. Default: it is refused, since a name
    /// that nothing bears is most often a slip, and its limit would silently not be in force.
    pub fn ignore_unknown(self) -> Self {
        Self { ignores_unknown: true, ..self }
    }

    /// The configuration of this stack in the rules.
    fn config<'rules>(rules: &'rules [StackRule], name: &str) -> Option<&'rules StackConfig> {
        // To the end, wherever it is.
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
            return Err(ConfigError::new("stacks.name", twice[0], "must be that of one rule only"));
        }
        let is_unknown = |name: &&&str| !self.stacks.iter().any(|(known, _)| known == **name);
        if let Some(unknown) = names.iter().find(is_unknown).filter(|_| !self.ignores_unknown) {
            return Err(ConfigError::new("stacks.name", unknown, "must be that of a stack of this process"));
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
            // It was checked.
            let _ = control.apply(Self::config(rules, name).unwrap_or(&built));
        }
    }
}
