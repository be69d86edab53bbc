//! Newtypes for numbers with a unit.

/// Declares a newtype over `u64` with saturating arithmetic: `amount! { /// Docs. struct Name; }`.
macro_rules! amount {
    ($(#[$attribute:meta])* struct $name:ident;) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) struct $name(pub(crate) u64);

        impl $name {
            pub(crate) const ZERO: Self = Self(0);

            #[inline]
            #[must_use]
            pub(crate) const fn saturating_add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            #[inline]
            #[must_use]
            pub(crate) const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }
    };
}

pub(crate) use amount;
