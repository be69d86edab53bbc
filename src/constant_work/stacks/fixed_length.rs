//! Encodes values in forms whose length depends on their type alone, and decodes them.
//!
//! One function of each type does both: it passes every field to a [`WireCursor`], which either writes the field or
//! overwrites it with what it reads. So each field is named once, and no order can differ.

use crate::clock::Nanos;
use std::{mem, time::Duration};

/// The rest of the bytes that values are written to, or read from.
pub(super) enum WireCursor<'bytes> {
    Write(&'bytes mut [u8]),
    Read(&'bytes [u8]),
}

/// The rule that bytes break which are no form.
pub(super) type WireError = &'static str;

impl WireCursor<'_> {
    /// Writes these bytes, or overwrites them with the next ones.
    pub(super) fn bytes(&mut self, bytes: &mut [u8]) -> Result<(), WireError> {
        const CUT_OFF: WireError = "a rule is cut off";
        match self {
            Self::Write(to) => {
                let (place, rest) = mem::take(to).split_at_mut_checked(bytes.len()).ok_or(CUT_OFF)?;
                place.copy_from_slice(bytes);
                *to = rest;
            }
            Self::Read(from) => {
                let (place, rest) = from.split_at_checked(bytes.len()).ok_or(CUT_OFF)?;
                bytes.copy_from_slice(place);
                *from = rest;
            }
        }
        Ok(())
    }
}

/// A value whose form always has the same length.
pub(super) trait FixedLength: Sized {
    /// Stands in the place of a value that is not given, so that every form costs the same to write and to read.
    const ABSENT: Self;

    /// Passes all fields to the form.
    fn pass(&mut self, cursor: &mut WireCursor<'_>) -> Result<(), WireError>;
}

/// A value of which there may be several, up to `MOST`.
pub(super) trait Listed: FixedLength {
    const MOST: usize;
}

/// Structs, as their fields one after the other.
macro_rules! structs {
    ($($name:ident { $($field:ident),+ })*) => { $(
        impl FixedLength for $name {
            const ABSENT: Self = Self { $($field: FixedLength::ABSENT),+ };

            fn pass(&mut self, cursor: &mut WireCursor<'_>) -> Result<(), WireError> {
                let Self { $($field),+ } = self;
                $($field.pass(cursor)?;)+
                Ok(())
            }
        }
    )* };
}
pub(super) use structs;

/// Tuples likewise.
macro_rules! tuples {
    ($(($($type:ident $field:ident),+))*) => { $(
        impl<$($type: FixedLength),+> FixedLength for ($($type,)+) {
            const ABSENT: Self = ($($type::ABSENT,)+);

            fn pass(&mut self, cursor: &mut WireCursor<'_>) -> Result<(), WireError> {
                let ($($field,)+) = self;
                $($field.pass(cursor)?;)+
                Ok(())
            }
        }
    )* };
}
tuples!((A a, B b) (A a, B b, C c) (A a, B b, C c, D d));

/// Numbers, as their bytes in little-endian order.
macro_rules! numbers {
    ($($number:ty)*) => { $(
        impl FixedLength for $number {
            const ABSENT: Self = 0 as Self;

            fn pass(&mut self, cursor: &mut WireCursor<'_>) -> Result<(), WireError> {
                let mut bytes = self.to_le_bytes();
                cursor.bytes(&mut bytes)?;
                *self = Self::from_le_bytes(bytes);
                Ok(())
            }
        }
    )* };
}
numbers!(u8 u32 u64 f64);

/// Enums without fields, as the number of the variant.
macro_rules! variants {
    ($($name:ident: $first:expr $(, $other:expr)*;)*) => { $(
        impl FixedLength for $name {
            const ABSENT: Self = $first;

            fn pass(&mut self, cursor: &mut WireCursor<'_>) -> Result<(), WireError> {
                let variants = [$first $(, $other)*];
                let mut number = variants.iter().position(|variant| variant == self).unwrap_or_default() as u8;
                number.pass(cursor)?;
                *self = *variants.get(usize::from(number)).ok_or("a variant is unknown")?;
                Ok(())
            }
        }
    )* };
}
pub(super) use variants;
variants! { bool: false, true; }

impl FixedLength for usize {
    const ABSENT: Self = 0;

    fn pass(&mut self, cursor: &mut WireCursor<'_>) -> Result<(), WireError> {
        let mut number = *self as u64;
        number.pass(cursor)?;
        *self = number.try_into().map_err(|_| "a number is too large")?;
        Ok(())
    }
}

/// Nanoseconds.
impl FixedLength for Duration {
    const ABSENT: Self = Self::ZERO;

    fn pass(&mut self, cursor: &mut WireCursor<'_>) -> Result<(), WireError> {
        let Nanos(mut nanos) = Nanos::of(*self);
        nanos.pass(cursor)?;
        *self = Nanos(nanos).duration();
        Ok(())
    }
}

/// Whether the value is given, and its place.
impl<T: FixedLength> FixedLength for Option<T> {
    const ABSENT: Self = None;

    fn pass(&mut self, cursor: &mut WireCursor<'_>) -> Result<(), WireError> {
        let mut is_given = self.is_some();
        is_given.pass(cursor)?;
        let mut value = self.take().unwrap_or(T::ABSENT);
        value.pass(cursor)?;
        *self = is_given.then_some(value);
        Ok(())
    }
}

/// How many values are given, and a place for each that may be.
impl<T: Listed> FixedLength for Vec<T> {
    const ABSENT: Self = Self::new();

    fn pass(&mut self, cursor: &mut WireCursor<'_>) -> Result<(), WireError> {
        let mut given = self.len() as u8;
        given.pass(cursor)?;
        let given = usize::from(given);
        if given > T::MOST {
            return Err("a list is too long");
        }
        let mut values = mem::replace(self, Self::with_capacity(given)).into_iter();
        for place in 0..T::MOST {
            let mut value = values.next().unwrap_or(T::ABSENT);
            value.pass(cursor)?;
            if place < given {
                self.push(value);
            }
        }
        Ok(())
    }
}
