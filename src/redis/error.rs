use super::said::{Said, words};
use crate::error::ConfigError;
use ::redis::ErrorKind;
use std::fmt;
use thiserror::Error as ThisError;

/// Why a Redis server cannot be used. No message contains a password.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum RedisError {
    /// The URL is not valid for a Redis server.
    #[error("url = {url:?}: {reason}; must look like redis://user:password@host:6379/0")]
    Url {
        /// The URL, without what may be a password.
        url: String,
        /// The error in it.
        reason: String,
    },
    /// No server answers at the address, or not in time.
    #[error("the Redis server at {address} does not answer: {reason}; check that it runs, and the address")]
    Unreachable {
        /// The address of the server.
        address: String,
        /// The error of the attempt.
        reason: String,
    },
    /// The program that answers at the address is not a Redis server.
    #[error("the program at {address} is not a Redis server: {reason}; check the port, and redis:// or rediss://")]
    NotRedis {
        /// The address.
        address: String,
        /// The error in its answer.
        reason: String,
    },
    /// The version of the server is too old.
    #[error(
        "the Redis server at {address} is too old (version: {version}): upgrade it to {least} or later, or to Valkey"
    )]
    TooOld {
        /// The address of the server.
        address: String,
        /// The version that it reports.
        version: String,
        /// The oldest version that works.
        least: &'static str,
    },
    /// The server is part of a cluster, and has only some of the keys.
    #[error(
        "the Redis server at {address} is part of a cluster: call `.cluster(true)` on the builder, if it has that method"
    )]
    NeedsCluster {
        /// The address of the server.
        address: String,
    },
    /// The server is not part of a cluster.
    #[error("the Redis server at {address} is not part of a cluster: leave out `.cluster(true)`")]
    NotACluster {
        /// The address of the server.
        address: String,
    },
    /// The server refuses the connection. For example, the password is wrong, the database does not exist, or the
    /// server has too many clients.
    #[error(
        "the Redis server at {address} refuses the connection: {reason}; check the user, the password, the database and the server's log"
    )]
    Refused {
        /// The address of the server.
        address: String,
        /// The error of the server.
        reason: String,
    },
    /// `connect` was polled outside of a tokio runtime. `connect_lazily` needs none.
    #[error("there is no tokio runtime: call connect inside of a runtime, or connect_lazily anywhere")]
    NoRuntime,
    /// A setting that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl RedisError {
    /// Returns the error for a failed attempt to connect to this address.
    pub(crate) fn of_connecting(address: &str, error: &::redis::RedisError) -> Self {
        let (address, reason) = (address.to_owned(), words(error).unwrap_or_else(|| error.to_string()));
        match error.kind() {
            ErrorKind::RESP3NotSupported => {
                Self::TooOld { address, version: "older than 6.0".to_owned(), least: LEAST_VERSION }
            }
            ErrorKind::Io => Self::Unreachable { address, reason },
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Self::NotRedis { address, reason },
            _ => Self::Refused { address, reason },
        }
    }
}

/// The oldest version with all commands that this crate uses.
pub(crate) const LEAST_VERSION: &str = "6.2";

/// Why a call has no result, in a form that can be stored.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{detail}")]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// The error of the server, if it answered with one.
    pub(crate) said: Option<Said>,
    pub(crate) detail: String,
}

/// The kind of a [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// No server answers, or not in time.
    Unreachable,
    /// The server answers with an error. Also the kind of all other errors, such as an invalid setting.
    Refused,
    /// The answer is not one that a Redis server gives.
    Incomprehensible,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, detail: impl fmt::Display) -> Self {
        Self { kind, said: None, detail: detail.to_string() }
    }

    /// Converts the failure of a call.
    pub(crate) fn of(error: &::redis::RedisError) -> Self {
        if let Some(words) = words(error) {
            return Self { kind: FaultKind::Refused, said: Some(Said::of_words(&words)), detail: words };
        }
        let kind = match error.kind() {
            ErrorKind::Io | ErrorKind::ClusterConnectionNotFound => FaultKind::Unreachable,
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => FaultKind::Incomprehensible,
            _ => FaultKind::Refused,
        };
        Self::new(kind, error)
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        let kind = match error {
            RedisError::Unreachable { .. } => FaultKind::Unreachable,
            RedisError::NotRedis { .. } => FaultKind::Incomprehensible,
            _ => FaultKind::Refused,
        };
        Self::new(kind, error)
    }
}

/// What the error of a call shows about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// The connection works: the server has answered. Also after an error that says nothing about the connection.
    Alive,
    /// No answer came in time.
    Silent,
    /// The connection must be replaced.
    Broken,
}

/// Returns what this error shows about its connection.
pub(crate) fn means(error: &::redis::RedisError) -> Means {
    match Said::of(error) {
        // After a failover the name of the server may resolve to the new master, which a new connection then reaches.
        Some(Said::ReadOnly | Said::MasterDown) => return Means::Broken,
        // A new connection authenticates, with the credentials that are current then.
        Some(Said::Unauthenticated) => return Means::Broken,
        Some(_) => return Means::Alive,
        None => {}
    }
    match error.kind() {
        ErrorKind::Io if error.is_timeout() => Means::Silent,
        // After an invalid answer it is unknown which answer belongs to which command.
        ErrorKind::Io | ErrorKind::Parse => Means::Broken,
        _ => Means::Alive,
    }
}

/// Removes from a URL what may be a password: the part between the scheme and the last `@`, and the parameters.
///
/// If the last `@` comes after a `?`, it may be part of a parameter, so all but the scheme is removed. A text before
/// `://` that is no scheme of Redis may be part of a password, too. It is removed if the URL contains an `@`.
pub(crate) fn without_password(url: &str) -> String {
    let is_scheme = |scheme: &str| ["redis", "rediss", "redis+unix", "unix", "valkey", "valkeys"].contains(&scheme);
    let is_known = |(scheme, _): &(&str, &str)| is_scheme(scheme) || !url.contains('@');
    let (scheme, rest) =
        url.split_once("://").filter(is_known).map_or((None, url), |(scheme, rest)| (Some(scheme), rest));
    let rest = match rest.rsplit_once('@') {
        Some((before, _)) if before.contains('?') => "***".to_owned(),
        Some((_, after)) => format!("***@{}", without_parameters(after)),
        None => without_parameters(rest).to_owned(),
    };
    match scheme {
        Some(scheme) => format!("{scheme}://{rest}"),
        None => rest,
    }
}

fn without_parameters(rest: &str) -> &str {
    rest.split_once('?').map_or(rest, |(rest, _)| rest)
}

#[cfg(test)]
mod tests {
    use super::{Means, means, without_password};
    use ::redis::parse_redis_value;

    #[test]
    fn a_read_only_server_is_left_and_a_busy_server_is_kept() {
        for (line, expected) in [
            ("READONLY You can't write against a read only replica.", Means::Broken),
            (
                "ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -READONLY You can't write \
                 against a read only replica.",
                Means::Broken,
            ),
            ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Means::Broken),
            ("NOAUTH Authentication required.", Means::Broken),
            ("NOPERM No permissions to access a key", Means::Alive),
            ("LOADING Redis is loading the dataset in memory", Means::Alive),
            ("OOM command not allowed when used memory > 'maxmemory'.", Means::Alive),
            ("BUSY Valkey is busy running a script.", Means::Alive),
            ("ERR anything else", Means::Alive),
        ] {
            let value = parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("a line that is an error");
            assert_eq!(means(&value.extract_error().expect_err("an error")), expected, "{line}");
        }
    }

    #[test]
    fn a_shown_url_contains_no_part_of_a_password() {
        for (url, left) in [
            ("redis://host:6379/0", "redis://host:6379/0"),
            ("redis://user:secret@host", "redis://***@host"),
            ("redis://:sec@ret@host:1/2?protocol=resp3", "redis://***@host:1/2"),
            ("redis://:sec@ret/?@host:1", "redis://***"),
            ("redis://host?password=sec@ret", "redis://***"),
            ("unix:///socket?user=u&pass=sec@ret", "unix://***"),
            ("user:secret@host", "***@host"),
            ("user:sec://ret@host", "***@host"),
            ("sec://ret@host", "***@host"),
            ("http://host:1/0?a=b", "http://host:1/0"),
            ("unix:///socket?user=u&pass=secret", "unix:///socket"),
            ("redis://:secret?@", "redis://***"),
            ("", ""),
        ] {
            assert_eq!(without_password(url), left, "{url}");
        }
    }
}
