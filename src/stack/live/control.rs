use super::{Pieces, StackConfig, stage::Shared};
use crate::{
    error::ConfigError,
    shell::{Describe, Explanation},
};
use std::{fmt, sync::Arc};

/// Changes the configuration of a stack while calls pass. A cheap handle; made with the stack by
/// [`ClientBuilder::live`](crate::stack::ClientBuilder::live) and
/// [`ServerBuilder::live`](crate::stack::ServerBuilder::live).
///
/// It does not keep the stack's calls, and no stack needs it to live on: a stack whose control was dropped keeps its
/// last configuration.
#[derive(Clone)]
pub struct Control(Arc<Inside>);

struct Inside {
    shared: Arc<Shared>,
    stages: Arc<dyn Describe + Send + Sync>,
    pieces: Pieces,
    built: StackConfig,
}

impl Control {
    /// The control of these stages. The terms that they were built with are in force.
    pub(super) fn of(stages: Arc<dyn Describe + Send + Sync>, shared: Arc<Shared>, pieces: Pieces) -> Self {
        let mut built = StackConfig::default();
        pieces.iter().for_each(|piece| piece.read(&mut built));
        shared.terms.store(built.terms());
        Self(Arc::new(Inside { shared, stages, pieces, built }))
    }

    /// The configuration that the stack was built with: each part of it that can be changed is there.
    pub fn built(&self) -> &StackConfig {
        &self.0.built
    }

    /// The configuration in force, complete as the one that was [`built`](Self::built): what was applied last, and what
    /// was changed since by a handle of one of its mechanisms. It is read as a whole, and so waits for a change that is
    /// under way; in a pass there is none.
    pub fn config(&self) -> StackConfig {
        self.0.shared.look(|| {
            let shared = &self.0.shared;
            let mut config = StackConfig { switched_off: shared.is_off(), ..StackConfig::default() };
            self.0.pieces.iter().for_each(|piece| piece.read(&mut config));
            config.set_terms(shared.terms.load());
            config
        })
    }

    /// Whether [`apply`](Self::apply) would take this configuration. Nothing changes.
    ///
    /// # Errors
    ///
    /// A part for something that the stack does not have; a value that the mechanism's builder would refuse; numbers
    /// that contradict each other, as for [`layer`](crate::stack::ClientBuilder::layer); a number of rate limits or of
    /// tiers that is not the one that was built.
    pub fn check(&self, config: &StackConfig) -> Result<(), ConfigError> {
        self.complete(config).map(drop)
    }

    /// Follows this configuration from now on, as a whole or not at all. It may be applied again and again: what is the
    /// same stays as it is.
    ///
    /// See the [module](super) for what becomes of calls under way, and of what each mechanism holds.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check), or if it is called by what runs in a pass, such as the function that says the key of
    /// a request, or in a change, such as a waker that polls its task on the spot; the old configuration stays.
    ///
    /// # Cost
    ///
    /// It blocks its thread, and calls that come meanwhile, until the calls on other threads that are on their way
    /// through the gates have passed them, which takes as long as the user's functions there: those that say a key, a
    /// cost or a weight, or copy a request. Then it takes some stores and a short lock per mechanism. Where a quota of
    /// a limit by key has changed it looks at all buckets afterwards, while calls pass.
    pub fn apply(&self, config: &StackConfig) -> Result<(), ConfigError> {
        if self.0.shared.is_within() {
            let rule = "must not be called by what runs while a call is admitted, or in another change";
            return Err(ConfigError::new("apply", "within a call", rule));
        }
        let complete = self.complete(config)?;
        let Inside { shared, pieces, .. } = &*self.0;
        shared.change(|| {
            shared.terms.store(complete.terms());
            shared.switch(complete.switched_off);
            pieces.iter().for_each(|piece| piece.apply(&complete));
        });
        pieces.iter().for_each(|piece| piece.settle());
        Ok(())
    }

    /// What the stack does with a call by the configuration in force, read as [`config`](Self::config) is. Stages that
    /// were put around it by [`map_stages`](crate::shell::StackLayer::map_stages) are not in it.
    pub fn explain(&self) -> Explanation {
        self.0.shared.look(|| Explanation::of(&*self.0.stages))
    }

    fn complete(&self, config: &StackConfig) -> Result<StackConfig, ConfigError> {
        let complete = config.completed_by(&self.0.built)?;
        self.0.pieces.iter().try_for_each(|piece| piece.check(&complete))?;
        complete.check_together()?;
        Ok(complete)
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("config", &self.config()).finish_non_exhaustive()
    }
}
