use super::{Pieces, StackConfig, change::Change, depth, news::Outcome, shared::LiveShared};
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
/// Dropping the control changes nothing: the stack keeps its last configuration.
#[doc(alias("reload", "hot reload", "dynamic configuration", "kill switch"))]
#[derive(Clone)]
pub struct Control(Arc<Inside>);

struct Inside {
    shared: Arc<LiveShared>,
    stages: Arc<dyn Describe + Send + Sync>,
    pieces: Pieces,
    built: StackConfig,
}

impl Control {
    /// Makes the control of these stages, with the built settings in force.
    pub(super) fn of(stages: Arc<dyn Describe + Send + Sync>, shared: Arc<LiveShared>, pieces: Pieces) -> Self {
        let mut built = StackConfig::default();
        pieces.iter().for_each(|piece| piece.read(&mut built));
        Change::apply_built(&shared, &pieces, &built);
        Self(Arc::new(Inside { shared, stages, pieces, built }))
    }

    /// Returns the configuration that the stack was built with. It contains every part that can change.
    pub fn built(&self) -> &StackConfig {
        &self.0.built
    }

    /// Returns the configuration in force: the last one applied, plus later changes through the handles of the
    /// mechanisms. It has the parts that [`built`](Self::built) has.
    ///
    /// Waits for a running change, so that the result is one whole configuration. Within a change, for example in a
    /// user's own [`LiveLimit`](crate::rate_limit::LiveLimit), this function does not wait. The result may then contain
    /// only a part of that change.
    pub fn config(&self) -> StackConfig {
        self.0.shared.look(|| self.0.shared.config(&self.0.pieces))
    }

    /// Checks whether [`apply`](Self::apply) would accept this configuration. Changes nothing.
    ///
    /// # Errors
    ///
    /// - A part for a mechanism that the stack does not have.
    /// - A value that the mechanism's builder refuses.
    /// - Numbers that contradict each other, as for [`layer`](crate::stack::ClientBuilder::layer).
    /// - A number of rate limits that is neither zero nor the built one.
    /// - A number of quotas that differs from the built number of tiers.
    pub fn check(&self, config: &StackConfig) -> Result<(), ConfigError> {
        self.complete(config).map(drop)
    }

    /// Applies this configuration, as a whole or not at all. A missing part gets its [built](Self::built) value,
    /// regardless of earlier changes. Applying the configuration in force changes nothing and disturbs no call.
    ///
    /// The [module](super) says how calls in flight and the state of each mechanism are affected.
    ///
    /// # Errors
    ///
    /// - Those of [`check`](Self::check).
    /// - The caller runs within a pass, as the function for the key of a request does.
    /// - The caller runs within a change or a read, as a user's own [`LiveLimit`](crate::rate_limit::LiveLimit) can.
    ///
    /// After an error the old configuration stays in force.
    ///
    /// # Panics
    ///
    /// If a user's own [`LiveLimit`](crate::rate_limit::LiveLimit) panics. The change may then be incomplete: see the
    /// [limitations](super#limitations).
    ///
    /// # Cost
    ///
    /// Waits for other changes, and for reads such as [`config`](Self::config). If changes have made a call at the
    /// gates restart eight times, this function first yields to that call, for at most about a millisecond. The change
    /// takes one short lock for each mechanism, or two if the mechanism becomes stricter in one number and less strict
    /// in another. It also writes a few words of memory. Calls at the gates restart. New calls wait only in the cases
    /// that the [module](super) names. If a quota of a keyed limit changed, this function visits all buckets of that
    /// limit after the change. If the visit of the previous change has not ended, this function finishes that visit
    /// first.
    ///
    /// Afterwards [listeners](crate::shell::Instrument::listen) of the stack learn the outcome, on this thread or on a
    /// thread that is delivering an earlier outcome. A panic in a listener is caught. A slow listener may delay the
    /// return of this function, but it keeps no other change from taking effect. Up to 1024 outcomes wait for delivery.
    /// One more drops the oldest, which the listeners miss.
    pub fn apply(&self, config: &StackConfig) -> Result<(), ConfigError> {
        let applied = catch_unwind(AssertUnwindSafe(|| self.apply_quietly(config)));
        let news = &self.0.shared.news;
        if let Ok(Err(error)) = &applied {
            news.add(Outcome::Refused(error.clone()));
        }
        if depth::is_in_change() {
            // Locks are held. The outer change or read delivers the news at its end. If that one is of another stack,
            // the next change of this stack delivers it.
            depth::note_refusal();
        } else {
            depth::take_refusal();
            news.deliver();
        }
        applied.unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn apply_quietly(&self, config: &StackConfig) -> Result<(), ConfigError> {
        if depth::is_within() {
            let rule =
                "must not be called by code that runs while a call is admitted, or within another change or read";
            return Err(ConfigError::new("apply", "within a call, a change or a read", rule));
        }
        let complete = self.complete(config)?;
        let Inside { shared, pieces, .. } = &*self.0;
        // The previous change may not have settled: another thread is still doing so, or a panic stopped it. Finish
        // that work here, so that it does not run within this change.
        pieces.iter().for_each(|piece| piece.settle());
        // A user's limit may panic. The other mechanisms must settle nevertheless.
        let mut panics = vec![catch_unwind(AssertUnwindSafe(|| Change::apply(shared, pieces, &complete)))];
        panics.extend(pieces.iter().map(|piece| catch_unwind(AssertUnwindSafe(|| piece.settle()))));
        panics.into_iter().find_map(Result::err).map_or(Ok(()), |panic| resume_unwind(panic))
    }

    /// Explains the stack under the configuration in force, read as by [`config`](Self::config). Stages added by
    /// [`map_stages`](crate::shell::StackLayer::map_stages) are not included.
    pub fn explain(&self) -> Explanation {
        self.0.shared.look(|| Explanation::of(&*self.0.stages))
    }

    /// Checks a configuration, and returns it with the built value of each missing part.
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
