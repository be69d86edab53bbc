use super::{Pieces, StackConfig, change::Change, depth, news::Outcome, shared::Shared};
use crate::{
    error::ConfigError,
    shell::{Describe, Explanation},
};
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
};

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
        Change::make_first(&shared, &pieces, &built);
        Self(Arc::new(Inside { shared, stages, pieces, built }))
    }

    /// The configuration that the stack was built with: each part of it that can be changed is there.
    pub fn built(&self) -> &StackConfig {
        &self.0.built
    }

    /// The configuration in force, complete as the one that was [`built`](Self::built): what was applied last, and what
    /// was changed since by a handle of one of its mechanisms. It is read as a whole, and so waits for a change that is
    /// under way. In a change, by what it wakes, it does not wait.
    pub fn config(&self) -> StackConfig {
        self.0.shared.look(|| self.0.shared.config(&self.0.pieces))
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
    /// a request, or in a change, such as a [`LiveLimit`](crate::rate_limit::LiveLimit) of your own; the old
    /// configuration stays.
    ///
    /// # Cost
    ///
    /// It waits for other changes, and gives way to calls that changes have made begin again eight times, for about a
    /// millisecond. It takes some stores and a short lock per mechanism, or two where the mechanism becomes stricter in
    /// one number and less strict in another. Calls that it overtakes at the gates begin again; those that come
    /// meanwhile wait only in a case that the [module](super) names. Where a quota of a limit by key has changed it
    /// looks at all buckets afterwards, or before if the change before has not. A configuration that is in force
    /// already disturbs no call.
    ///
    /// [Listeners](crate::shell::Instrument::listen) of the stack learn what was applied or refused after all that, on
    /// this thread, or on one that delivers an earlier change. A panic in one ends there. A slow one keeps this
    /// function from returning and delays no other; up to 1024 changes wait for it.
    pub fn apply(&self, config: &StackConfig) -> Result<(), ConfigError> {
        let applied = catch_unwind(AssertUnwindSafe(|| self.apply_quietly(config)));
        let news = &self.0.shared.news;
        if let Ok(Err(error)) = &applied {
            news.add(Outcome::Refused(error.clone()));
        }
        // In a change, and in a look, locks are held. The change tells it in the end.
        if !depth::is_in_change() {
            news.tell();
        }
        applied.unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn apply_quietly(&self, config: &StackConfig) -> Result<(), ConfigError> {
        if depth::is_within() {
            let rule = "must not be called by what runs while a call is admitted, or in another change";
            return Err(ConfigError::new("apply", "within a call", rule));
        }
        let complete = self.complete(config)?;
        let Inside { shared, pieces, .. } = &*self.0;
        // What the change before has left to do would be done within this one.
        pieces.iter().for_each(|piece| piece.settle());
        // A limit of the user's may panic. The other mechanisms settle all the same.
        let mut panics = vec![catch_unwind(AssertUnwindSafe(|| Change::make(shared, pieces, &complete)))];
        panics.extend(pieces.iter().map(|piece| catch_unwind(AssertUnwindSafe(|| piece.settle()))));
        panics.into_iter().find_map(Result::err).map_or(Ok(()), |panic| resume_unwind(panic))
    }

    /// What the stack does with a call by the configuration in force, read as [`config`](Self::config) is. Stages that
    /// were put around it by [`map_stages`](crate::shell::StackLayer::map_stages) are not in it.
    pub fn explain(&self) -> Explanation {
        self.0.shared.look(|| Explanation::of(&*self.0.stages))
    }

    fn complete(&self, config: &StackConfig) -> Result<StackConfig, ConfigError> {
        self.0.pieces.iter().try_for_each(|piece| piece.check_given(config))?;
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
