use super::said::{Said, words};
use crate::error::ConfigError;
use ::redis::ErrorKind;
use std::fmt;
use thiserror::Error as ThisError;

/// Why what is kept in Redis cannot be used. No text has a password in it.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum RedisError {
    /// The URL is none of a Redis server.
    #[error("{url:?} is no URL of a Redis server: {reason}; it should look like redis://user:password@host:6379/0")]
    Url {
        /// The URL, without what may be a password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No server answers there, or not in time.
    #[error("the Redis server at {address} does not answer: {reason}; is it running, and is the address right?")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What happened.
        reason: String,
    },
    /// What answers there is no Redis server.
    #[error("what answers at {address} is no Redis server: {reason}; is the port right, and redis:// or rediss://?")]
    NotRedis {
        /// Where it was looked for.
        address: String,
        /// What it said.
        reason: String,
    },
    /// The server lacks what this needs.
    #[error("the Redis server at {address} is version {version}: upgrade it to {least} or later, or to Valkey")]
    TooOld {
        /// The server.
        address: String,
        /// What it says it is.
        version: String,
        /// The least version that will do.
        least: &'static str,
    },
    /// The server is one of a cluster, each of which has only some of the keys.
    #[error(
        "the Redis server at {address} is part of a cluster: call `.cluster(true)` on the builder, where it has that"
    )]
    NeedsCluster {
        /// The server.
        address: String,
    },
    /// The server is not one of a cluster.
    #[error("the Redis server at {address} is not part of a cluster: leave out `.cluster(true)`")]
    NotACluster {
        /// The server.
        address: String,
    },
    /// The server answers, and wants none of it: a wrong password, a database that does not exist, too many clients.
    #[error(
        "the Redis server at {address} refuses the connection: {reason}; check user, password, database and its log"
    )]
    Refused {
        /// The server.
        address: String,
        /// Its words.
        reason: String,
    },
    /// `connect` was polled outside of a tokio runtime. `connect_lazily` needs none.
    #[error("there is no tokio runtime: call connect inside of one, or connect_lazily anywhere")]
    NoRuntime,
    /// A setting that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl RedisError {
    /// What is wrong with the server at this address, by the error that the connecting ended in.
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

/// The version that this was made for, and the first with all commands that it uses.
pub(crate) const LEAST_VERSION: &str = "6.2";

/// Why a call got no answer, in a form that can be kept.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{detail}")]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// The error of the server, if it answered with one.
    pub(crate) said: Option<Said>,
    pub(crate) detail: String,
}

/// See [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// No server answers, or not in time.
    Unreachable,
    /// The server answers that it cannot.
    Refused,
    /// It answers what no such server would.
    Incomprehensible,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, detail: impl fmt::Display) -> Self {
        Self { kind, said: None, detail: detail.to_string() }
    }

    /// What the failure of a call means.
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

/// What the failure of a call means for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// It works: the server has answered.
    Alive,
    /// Nothing came in time.
    Silent,
    /// It is of no use any more.
    Broken,
}

/// See [`Means`].
pub(crate) fn means(error: &::redis::RedisError) -> Means {
    match Said::of(error) {
        // After a failover the name of the server may lead to another one.
        Some(Said::ReadOnly | Said::MasterDown) => return Means::Broken,
        // A new connection says who it is.
        Some(Said::Unauthenticated) => return Means::Broken,
        Some(_) => return Means::Alive,
        None => {}
    }
    match error.kind() {
        ErrorKind::Io if error.is_timeout() => Means::Silent,
        // After nonsense it is unknown which answer belongs to which command.
        ErrorKind::Io | ErrorKind::Parse => Means::Broken,
        _ => Means::Alive,
    }
}

/// The URL without what may be a password: all that is between the scheme and the last `@`, and the parameters.
pub(crate) fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or((None, url), |(scheme, rest)| (Some(scheme), rest));
    let (secret, rest) = rest.rsplit_once('@').map_or((false, rest), |(_, rest)| (true, rest));
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    let scheme = scheme.map_or(String::new(), |scheme| format!("{scheme}://"));
    format!("{scheme}{}{rest}", if secret { "***@" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::{Means, means, without_password};
    use ::redis::parse_redis_value;

    #[test]
    fn a_server_that_may_only_be_read_is_left_and_one_that_is_busy_is_kept() {
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
    fn no_part_of_a_password_is_left_of_a_url() {
        for (url, left) in [
            ("redis://host:6379/0", "redis://host:6379/0"),
            ("redis://user:secret@host", "redis://***@host"),
            ("redis://:sec@ret/?@host:1", "redis://***@host:1"),
            ("user:secret@host", "***@host"),
            ("unix:///socket?user=u&pass=secret", "unix:///socket"),
            ("redis://:secret?@", "redis://***@"),
            ("", ""),
        ] {
            assert_eq!(without_password(url), left, "{url}");
        }
    }
}
