use super::{Control, LiveAttemptStage, LiveStage, Pieces, SwitchStage, shared::Shared};
use crate::{
    error::ConfigError,
    shell::{Describe, StackLayer},
};
use std::sync::Arc;

/// What the stages of a live stack are built around: shared by all of them.
#[derive(Default)]
pub(in crate::stack) struct Parts(Arc<Shared>);

impl Parts {
    /// The outermost stage.
    pub(in crate::stack) fn call<Next>(&self, next: Next) -> LiveStage<Next> {
        LiveStage { shared: self.0.clone(), next }
    }

    /// The stage around each attempt, or around what is behind a wait.
    pub(in crate::stack) fn attempt<Next>(&self, next: Next) -> LiveAttemptStage<Next> {
        LiveAttemptStage { shared: self.0.clone(), next }
    }

    /// The kill switch.
    pub(in crate::stack) fn switch<Next>(&self, next: Next) -> SwitchStage<Next> {
        SwitchStage { shared: self.0.clone(), next }
    }

    /// The layer of these stages, and its control.
    pub(in crate::stack) fn finish<St, X>(
        self,
        stages: St,
        border: X,
        pieces: Pieces,
    ) -> Result<(StackLayer<St, X>, Control), ConfigError>
    where
        St: Describe + Send + Sync + 'static,
        X: Send + Sync + 'static,
    {
        let layer = StackLayer::from_stages(stages, border);
        let control = Control::of(Arc::new(layer.root()), self.0, pieces);
        control.check(control.built())?;
        Ok((layer, control))
    }
}
