//! Replaces what the slots of a stack contain, for the builder methods `exempt` and `whole_body`.

use super::{
    live::Pieces,
    own::{Admitting, Own},
    slot::{Gated, Limit, LiveSlot, Off, Slot},
};
use crate::{
    error::ConfigError,
    load_level::LoadLevel,
    rate_limit::RateLimit,
    retry::Retry,
    shell::{AdmissionStage, AtOnce},
    timeout::Patience,
};

/// Replaces what each slot of a stack contains: an admission, a timeout, or nothing. A gate counts as an admission that
/// decides at once. A retry stays as it is.
pub trait Adapter: Clone {
    /// The replacement of an admission.
    type Admission<A>;

    /// The replacement of an empty slot.
    type Empty: Slot;

    /// The replacement of a timeout.
    type Timeout<P: Patience>: Slot;

    /// Replaces an admission.
    fn admission<A>(&self, admission: A) -> Self::Admission<A>;

    /// Replaces an empty slot.
    fn empty(&self) -> Self::Empty;

    /// Replaces a timeout.
    fn timeout<P: Patience>(&self, limit: Limit<P>) -> Self::Timeout<P>;
}

/// A slot that an [`Adapter`] can change.
pub trait Adapt<W: Adapter>: Slot {
    /// The slot after the change.
    type Adapted: Slot;

    /// Changes the slot.
    fn adapt(self, by: &W) -> Self::Adapted;
}

/// A slot with an admission, or with a gate, which counts as one.
pub trait AdmissionSlot: Slot {
    /// The admission.
    type Admission;

    /// Returns the admission. No slot of this crate returns an error here.
    fn admission(self) -> Result<Self::Admission, ConfigError>;
}

/// A slot whose admission is replaced when the stack is built.
#[derive(Clone, Copy, Debug)]
pub struct Adapted<S, W> {
    slot: S,
    by: W,
}

impl<S: AdmissionSlot, W: Adapter> AdmissionSlot for Adapted<S, W> {
    type Admission = W::Admission<S::Admission>;

    fn admission(self) -> Result<Self::Admission, ConfigError> {
        Ok(self.by.admission(self.slot.admission()?))
    }
}

impl<S: AdmissionSlot, W: Adapter> Slot for Adapted<S, W> {
    type Stage<Next> = AdmissionStage<W::Admission<S::Admission>, Next>;

    fn build<Next>(self, next: Next) -> Result<Self::Stage<Next>, ConfigError> {
        Ok(AdmissionStage::with(self.admission()?, next))
    }
}

impl<S: AdmissionSlot + LiveSlot, W: Adapter> LiveSlot for Adapted<S, W> {
    fn add_to(self, pieces: &mut Pieces) -> Result<Self, ConfigError> {
        Ok(Self { slot: self.slot.add_to(pieces)?, by: self.by })
    }
}

impl<G> AdmissionSlot for Gated<G> {
    type Admission = AtOnce<G>;

    fn admission(self) -> Result<AtOnce<G>, ConfigError> {
        Ok(AtOnce(self.0))
    }
}

impl<A> AdmissionSlot for Admitting<A> {
    type Admission = A;

    fn admission(self) -> Result<A, ConfigError> {
        Ok(self.0)
    }
}

impl<L, C, J> AdmissionSlot for RateLimit<L, C, J> {
    type Admission = Self;

    fn admission(self) -> Result<Self, ConfigError> {
        Ok(self)
    }
}

impl<W, C> AdmissionSlot for LoadLevel<W, C> {
    type Admission = Self;

    fn admission(self) -> Result<Self, ConfigError> {
        Ok(self)
    }
}

impl<S: AdmissionSlot> AdmissionSlot for Own<S> {
    type Admission = S::Admission;

    fn admission(self) -> Result<S::Admission, ConfigError> {
        self.0.admission()
    }
}

macro_rules! adapt_admissions {
    ($([$($parameter:ident),*] $slot:ty;)*) => {$(
        impl<By: Adapter, $($parameter),*> Adapt<By> for $slot
        where
            $slot: AdmissionSlot,
        {
            type Adapted = Adapted<Self, By>;

            fn adapt(self, by: &By) -> Self::Adapted {
                Adapted { slot: self, by: by.clone() }
            }
        }
    )*};
}

adapt_admissions! {
    [G] Gated<G>;
    [A] Admitting<A>;
    [L, C, J] RateLimit<L, C, J>;
    [W, C] LoadLevel<W, C>;
    [S] Own<S>;
    [S, W] Adapted<S, W>;
}

impl<W: Adapter> Adapt<W> for Off {
    type Adapted = W::Empty;

    fn adapt(self, by: &W) -> W::Empty {
        by.empty()
    }
}

impl<P: Patience, W: Adapter> Adapt<W> for Limit<P> {
    type Adapted = W::Timeout<P>;

    fn adapt(self, by: &W) -> W::Timeout<P> {
        by.timeout(self)
    }
}

impl<P, W: Adapter> Adapt<W> for Retry<P> {
    type Adapted = Self;

    fn adapt(self, _by: &W) -> Self {
        self
    }
}
