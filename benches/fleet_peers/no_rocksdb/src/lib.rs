//! A stand-in for RocksDB. limitador must compile with its disk storage but never opens it. Declares the names that
//! limitador uses, on a database type without values.

use std::{convert::Infallible, error, fmt, marker::PhantomData, path::Path};

/// A database, which does not exist.
pub struct DBWithThreadMode<Mode>(Infallible, PhantomData<Mode>);
pub type DB = DBWithThreadMode<MultiThreaded>;
pub struct MultiThreaded;

type Pair = (Box<[u8]>, Box<[u8]>);

impl<Mode> DBWithThreadMode<Mode> {
    /// Always fails.
    pub fn open(_: &Options, _: impl AsRef<Path>) -> Result<Self, Error> {
        Err(Error)
    }

    pub fn get(&self, _: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        match self.0 {}
    }

    pub fn merge(&self, _: impl AsRef<[u8]>, _: impl AsRef<[u8]>) -> Result<(), Error> {
        match self.0 {}
    }

    pub fn delete(&self, _: impl AsRef<[u8]>) -> Result<(), Error> {
        match self.0 {}
    }

    pub fn iterator(&self, _: IteratorMode) -> std::vec::IntoIter<Result<Pair, Error>> {
        match self.0 {}
    }

    pub fn prefix_iterator(&self, _: impl AsRef<[u8]>) -> std::vec::IntoIter<Result<Pair, Error>> {
        match self.0 {}
    }
}

#[derive(Default)]
pub struct Options(());

impl Options {
    pub fn set_compression_type(&mut self, _: DBCompressionType) {}

    pub fn set_compaction_filter(&mut self, _: &str, _: impl Fn(u32, &[u8], &[u8]) -> CompactionDecision) {}

    pub fn set_merge_operator_associative(
        &mut self,
        _: &str,
        _: impl Fn(&[u8], Option<&[u8]>, &MergeOperands) -> Option<Vec<u8>>,
    ) {
    }

    pub fn create_if_missing(&mut self, _: bool) {}
}

/// None.
pub struct MergeOperands(Infallible);

impl<'a> IntoIterator for &'a MergeOperands {
    type Item = &'a [u8];
    type IntoIter = std::vec::IntoIter<&'a [u8]>;

    fn into_iter(self) -> Self::IntoIter {
        match self.0 {}
    }
}

pub enum CompactionDecision {
    Keep,
    Remove,
}

pub enum DBCompressionType {
    None,
    Bz2,
}

pub enum IteratorMode {
    Start,
}

#[derive(PartialEq, Eq)]
pub enum ErrorKind {
    NotSupported,
    TimedOut,
    TryAgain,
}

#[derive(Debug)]
pub struct Error;

impl Error {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::NotSupported
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no RocksDB in this build")
    }
}

impl error::Error for Error {}
