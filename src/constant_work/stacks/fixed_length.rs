//! Encodes and decodes values whose encoded length depends only on their type.
//!
//! Each type has one function for both directions. The function passes every field to a [`WireCursor`]: a writing
//! cursor writes the field, and a reading cursor overwrites the field with the next bytes. Each field is therefore
//! named once, and both directions have one order.

use crate::clock::Nanos;
use std::{mem, time::Duration};

/// The bytes that are still to be written or read.
pub(super) enum WireCursor<'bytes> {
    Write(&'bytes mut [u8]),
    Read(&'bytes [u8]),
}

/// The error of bytes that are no encoded value.
pub(super) type WireError = &'static str;

impl WireCursor<'_> {
    /// Writes these bytes, or overwrites them with the next bytes.
    pub(super) fn bytes(&mut self, bytes: &mut [u8]) -> Result<(), WireError> {
        const CUT_OFF: WireError = "the rule is truncated";
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

/// A value whose encoding always has the same length.
pub(super) trait FixedLength: Sized {
    /// The placeholder for an absent value, so that every encoding costs the same to write and to read.
    const ABSENT: Self;

    /// Passes all fields to the cursor.
    fn pass(&mut self, cursor: &mut WireCursor<'_>) -> Result<(), WireError>;
}

/// A value that can appear in lists of up to `MOST`.
pub(super) trait Listed: FixedLength {
    const MOST: usize;
}

/// Encodes structs as their fields, one after the other.
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

/// Encodes tuples as their fields, one after the other.
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

/// Encodes numbers as their bytes in little-endian order.
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

/// Encodes a type with few values, such as an enum without fields, as the index of the value in this list.
macro_rules! variants {
    ($($name:ident: $first:expr $(, $other:expr)*;)*) => { $(
        impl FixedLength for $name {
            const ABSENT: Self = $first;

            fn pass(&mut self, cursor: &mut WireCursor<'_>) -> Result<(), WireError> {
                let variants = [$first $(, $other)*];
                let mut number = variants.iter().position(|variant| variant == self).unwrap_or_default() as u8;
                number.pass(cursor)?;
                *self = *variants.get(usize::from(number)).ok_or("unknown enum variant")?;
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
        *self = number.try_into().map_err(|_| "a number is too large for this platform")?;
        Ok(())
    }
}

/// Encoded in nanoseconds.
impl FixedLength for Duration {
    const ABSENT: Self = Self::ZERO;

    fn pass(&mut self, cursor: &mut WireCursor<'_>) -> Result<(), WireError> {
        let Nanos(mut nanos) = Nanos::of(*self);
        nanos.pass(cursor)?;
        *self = Nanos(nanos).duration();
        Ok(())
    }
}

/// Encoded as a flag and the value or its placeholder.
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

/// Encoded as the number of values, the values, and placeholders up to `MOST`.
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
