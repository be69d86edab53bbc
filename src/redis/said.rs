//! The error answers of a server. Each version of a server wraps and words them in its own way. Only this module knows
//! the differences.
//!
//! Redis 6.2 wraps the error of a command in a script: `ERR Error running script (call to f_...): @user_script:1:
//! @user_script: 1: -READONLY ...`. An error that a script catches and returns begins with `@user_script: 1: -`. Later
//! versions and Valkey put the code in front and the place in the script behind.

use ::redis::RedisError;

/// An error answer of a server, by its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// The server is a read-only replica.
    ReadOnly,
    /// The server is a replica without its master, and does not even serve reads.
    MasterDown,
    /// The server has fewer replicas than it needs to accept writes.
    NoReplicas,
    /// The server is loading its data from disk.
    Loading,
    /// The server has used up its memory.
    OutOfMemory,
    /// The server cannot write to its disk.
    DiskFailure,
    /// A script blocks the server.
    Busy,
    /// The server does not know the script of this hash.
    NoScript,
    /// The connection has not authenticated, or the user or the password is wrong.
    Unauthenticated,
    /// The user may not run the command or access the key.
    NotPermitted,
    /// Another server of the cluster has the key.
    Moved,
    /// Another server of the cluster is about to get the key.
    Ask,
    /// Some keys of the call have moved, and some have not.
    TryAgain,
    /// Keys of one call belong to different servers.
    CrossSlot,
    /// The cluster, or a part of it, is down.
    ClusterDown,
    /// The consumer group or its stream is gone.
    NoGroup,
    /// The server ended a blocking call: it has become a replica, or the stream is gone.
    Unblocked,
    /// Anything else.
    Other,
}

/// The codes. Permission errors from within a script have no code of their own, and are known by their words.
const CODES: [(&str, Said); 18] = [
    ("READONLY", Said::ReadOnly),
    ("MASTERDOWN", Said::MasterDown),
    ("NOREPLICAS", Said::NoReplicas),
    ("LOADING", Said::Loading),
    ("OOM", Said::OutOfMemory),
    ("MISCONF", Said::DiskFailure),
    ("BUSY", Said::Busy),
    ("NOSCRIPT", Said::NoScript),
    ("NOAUTH", Said::Unauthenticated),
    ("WRONGPASS", Said::Unauthenticated),
    ("NOPERM", Said::NotPermitted),
    ("MOVED", Said::Moved),
    ("ASK", Said::Ask),
    ("TRYAGAIN", Said::TryAgain),
    ("CROSSSLOT", Said::CrossSlot),
    ("CLUSTERDOWN", Said::ClusterDown),
    ("NOGROUP", Said::NoGroup),
    ("UNBLOCKED", Said::Unblocked),
];
/// The first words of permission errors without a code.
const NOT_PERMITTED: [&str; 2] = ["The user executing the script can't ", "ACL failure in script: "];

/// The first words of the text that Redis 6.2 puts in front of an error in a script.
const WRAPPED: &str = "ERR Error running script (call to ";
/// The first word of a place in a script. A line number, a colon and a blank follow.
const PLACE: &str = "@user_script:";

impl Said {
    /// Returns the error answer in this error, or `None` if the error does not come from a server.
    pub(crate) fn of(error: &RedisError) -> Option<Self> {
        words(error).map(|words| Self::of_words(&words))
    }

    /// Returns the error answer that a line means. A server sent the line, and `words` is the line without its leading
    /// `-`.
    pub(crate) fn of_words(words: &str) -> Self {
        let words = bare(words);
        let (code, _) = words.split_once(' ').unwrap_or((words, ""));
        let by_code = CODES.iter().find(|(other, _)| *other == code).map(|(_, said)| *said);
        by_code.unwrap_or_else(|| {
            let words = words.strip_prefix("ERR ").unwrap_or(words);
            let is_about_permission = NOT_PERMITTED.iter().any(|begin| words.starts_with(begin));
            if is_about_permission { Self::NotPermitted } else { Self::Other }
        })
    }
}

/// Returns the line that a server sent, without wrapping, or `None` if the error does not come from a server.
pub(crate) fn words(error: &RedisError) -> Option<String> {
    // If several commands were sent together, the first failed one counts.
    let errors = error.clone().into_server_errors()?;
    let (_, first) = errors.first()?;
    let line = match first.details() {
        Some(details) => format!("{} {details}", first.code()),
        None => first.code().to_owned(),
    };
    Some(bare(&line).to_owned())
}

/// Removes the text that a server wraps around the error of a command in a script.
pub(crate) fn bare(mut words: &str) -> &str {
    if let Some((_, inner)) = words.strip_prefix(WRAPPED).and_then(|rest| rest.split_once("): ")) {
        words = inner;
    }
    let is_number = |text: &str| text.trim().bytes().all(|byte| byte.is_ascii_digit());
    while let Some((place, inner)) = words.strip_prefix(PLACE).and_then(|rest| rest.split_once(": ")) {
        if !is_number(place) {
            break;
        }
        words = inner;
    }
    words.strip_prefix('-').unwrap_or(words)
}

#[cfg(test)]
mod tests;
