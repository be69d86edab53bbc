//! Encodes values in forms whose length depends on their type alone, and decodes them.
//!
//! One function of each type does both: it passes every field to a [`Form`], which either writes the field or
//! overwrites it with what it reads. So each field is named once, and no order can differ.

use crate::clock::Nanos;
use std::{mem, time::Duration};

/// The rest of the bytes that values are written to, or read from.
pub(super) enum Form<'bytes> {
    Write(&'bytes mut [u8]),
    Read(&'bytes [u8]),
}

/// The rule that bytes break which are no form.
pub(super) type Wrong = &'static str;

impl Form<'_> {
    /// Writes these bytes, or overwrites them with the next ones.
    pub(super) fn bytes(&mut self, bytes: &mut [u8]) -> Result<(), Wrong> {
        const CUT_OFF: Wrong = "a rule is cut off";
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
pub(super) trait Fixed: Sized {
    /// Stands in the place of a value that is not given, so that every form costs the same to write and to read.
    const ABSENT: Self;

    /// Passes all fields to the form.
    fn pass(&mut self, form: &mut Form<'_>) -> Result<(), Wrong>;
}

/// A value of which there may be several, up to `MOST`.
pub(super) trait Listed: Fixed {
    const MOST: usize;
}

/// Structs, as their fields one after the other.
macro_rules! structs {
    ($($name:ident { $($field:ident),+ })*) => { $(
        impl Fixed for $name {
            const ABSENT: Self = Self { $($field: Fixed::ABSENT),+ };

            fn pass(&mut self, form: &mut Form<'_>) -> Result<(), Wrong> {
                let Self { $($field),+ } = self;
                $($field.pass(form)?;)+
                Ok(())
            }
        }
    )* };
}
pub(super) use structs;

/// Tuples likewise.
macro_rules! tuples {
    ($(($($type:ident $field:ident),+))*) => { $(
        impl<$($type: Fixed),+> Fixed for ($($type,)+) {
            const ABSENT: Self = ($($type::ABSENT,)+);

            fn pass(&mut self, form: &mut Form<'_>) -> Result<(), Wrong> {
                let ($($field,)+) = self;
                $($field.pass(form)?;)+
                Ok(())
            }
        }
    )* };
}
tuples!((A a, B b) (A a, B b, C c) (A a, B b, C c, D d));

/// Numbers, as their bytes in little-endian order.
macro_rules! numbers {
    ($($number:ty)*) => { $(
        impl Fixed for $number {
            const ABSENT: Self = 0 as Self;

            fn pass(&mut self, form: &mut Form<'_>) -> Result<(), Wrong> {
                let mut bytes = self.to_le_bytes();
                form.bytes(&mut bytes)?;
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
        impl Fixed for $name {
            const ABSENT: Self = $first;

            fn pass(&mut self, form: &mut Form<'_>) -> Result<(), Wrong> {
                let variants = [$first $(, $other)*];
                let mut number = variants.iter().position(|variant| variant == self).unwrap_or_default() as u8;
                number.pass(form)?;
                *self = *variants.get(usize::from(number)).ok_or("a variant is unknown")?;
                Ok(())
            }
        }
    )* };
}
pub(super) use variants;
variants! { bool: false, true; }

impl Fixed for usize {
    const ABSENT: Self = 0;

    fn pass(&mut self, form: &mut Form<'_>) -> Result<(), Wrong> {
        let mut number = *self as u64;
        number.pass(form)?;
        *self = number.try_into().map_err(|_| "a number is too large")?;
        Ok(())
    }
}

/// Nanoseconds.
impl Fixed for Duration {
    const ABSENT: Self = Self::ZERO;

    fn pass(&mut self, form: &mut Form<'_>) -> Result<(), Wrong> {
        let Nanos(mut nanos) = Nanos::of(*self);
        nanos.pass(form)?;
        *self = Nanos(nanos).duration();
        Ok(())
    }
}

/// Whether the value is given, and its place.
impl<T: Fixed> Fixed for Option<T> {
    const ABSENT: Self = None;

    fn pass(&mut self, form: &mut Form<'_>) -> Result<(), Wrong> {
        let mut is_given = self.is_some();
        is_given.pass(form)?;
        let mut value = self.take().unwrap_or(T::ABSENT);
        value.pass(form)?;
        *self = is_given.then_some(value);
        Ok(())
    }
}

/// How many values are given, and a place for each that may be.
impl<T: Listed> Fixed for Vec<T> {
    const ABSENT: Self = Self::new();

    fn pass(&mut self, form: &mut Form<'_>) -> Result<(), Wrong> {
        let mut given = self.len() as u8;
        given.pass(form)?;
        let given = usize::from(given);
        if given > T::MOST {
            return Err("a list is too long");
        }
        let mut values = mem::replace(self, Self::with_capacity(given)).into_iter();
        for place in 0..T::MOST {
            let mut value = values.next().unwrap_or(T::ABSENT);
            value.pass(form)?;
            if place < given {
                self.push(value);
            }
        }
        Ok(())
    }
}
