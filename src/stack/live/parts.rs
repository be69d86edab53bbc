use super::{Control, LiveAttemptStage, LiveStage, Pieces, SwitchStage, shared::LiveShared};
use crate::{
    error::ConfigError,
    shell::{Describe, StackLayer},
};
use std::sync::Arc;

/// Builds the stages of a live stack around their shared state.
#[derive(Default)]
pub(in crate::stack) struct Parts(Arc<LiveShared>);

impl Parts {
    /// Makes the stage around the whole call. Only the observer's stage is further out.
    pub(in crate::stack) fn call<Next>(&self, next: Next) -> LiveStage<Next> {
        LiveStage { shared: self.0.clone(), next }
    }

    /// Makes the stage that starts later passes. In a client it is around each attempt. In a server it is around the
    /// stages inside the rate limit, because calls may wait at that limit.
    pub(in crate::stack) fn attempt<Next>(&self, next: Next) -> LiveAttemptStage<Next> {
        LiveAttemptStage { shared: self.0.clone(), next }
    }

    /// Makes the kill switch.
    pub(in crate::stack) fn switch<Next>(&self, next: Next) -> SwitchStage<Next> {
        SwitchStage { shared: self.0.clone(), next }
    }

    /// Makes the layer of these stages, and its control. Checks the built configuration.
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
