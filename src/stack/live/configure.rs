use super::StackConfig;
use crate::{
    error::ConfigError,
    shell::{GateStage, Leaf, ScopeStage},
};

/// A mechanism whose configuration can be changed while calls pass. A [`Gate`](crate::shell::Gate) of your own that has
/// nothing to configure implements none of the methods.
pub trait Configure {
    /// Writes down what it goes by.
    fn read(&self, _config: &mut StackConfig) {}

    /// Whether it can go by this configuration, in which every part is there that [`read`](Self::read) writes. Nothing
    /// changes.
    ///
    /// # Errors
    ///
    /// The field that is wrong.
    fn check(&self, _config: &StackConfig) -> Result<(), ConfigError> {
        Ok(())
    }

    /// Goes by this configuration, which was found to be right. No call passes meanwhile, and so it must be short.
    fn apply(&self, _config: &StackConfig) {}

    /// Does what is left to do after a change, and may take longer, while calls pass.
    fn settle(&self) {}
}

/// The mechanisms of a stage and of all that is further in.
pub trait Mechanisms {
    /// Shows each of them, from the outside in.
    fn each(&self, visit: &mut dyn FnMut(&dyn Configure));
}

impl<C> Mechanisms for Leaf<C> {
    fn each(&self, _visit: &mut dyn FnMut(&dyn Configure)) {}
}

impl<Next: Mechanisms> Mechanisms for ScopeStage<Next> {
    fn each(&self, visit: &mut dyn FnMut(&dyn Configure)) {
        self.next.each(visit);
    }
}

impl<G: Configure, Next: Mechanisms> Mechanisms for GateStage<G, Next> {
    fn each(&self, visit: &mut dyn FnMut(&dyn Configure)) {
        visit(&self.gate);
        self.next.each(visit);
    }
}
