//! The errors that a server answers with. Each server wraps and words them in its own way; they are told apart here
//! only.
//!
//! Redis 6.2 wraps what a command in a script fails with: `ERR Error running script (call to f_...): @user_script:1:
//! @user_script: 1: -READONLY ...`. An error that a script catches and returns begins with `@user_script: 1: -`. Later
//! versions and Valkey put the code in front and the place of the script behind.

use ::redis::RedisError;

/// An error that a server answers with, by its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It is a replica, and may only be read.
    ReadOnly,
    /// It is a replica without its master, and may not even be read.
    MasterDown,
    /// It has fewer replicas than it needs in order to write.
    NoReplicas,
    /// It reads its data from disk.
    Loading,
    /// Its memory is used up.
    OutOfMemory,
    /// It cannot write to its disk.
    DiskFailure,
    /// A script keeps it from anything else.
    Busy,
    /// It does not know the script of this hash.
    NoScript,
    /// The connection has not said who it is, or with a wrong password.
    Unauthenticated,
    /// The user may not do that.
    NotPermitted,
    /// Another server of the cluster has the key.
    Moved,
    /// Another server of the cluster is about to have the key.
    Ask,
    /// Some keys of the call have moved, and some have not.
    TryAgain,
    /// Keys of one call belong to different servers.
    CrossSlot,
    /// The cluster, or a part of it, does not work.
    ClusterDown,
    /// The consumer group or its stream is gone.
    NoGroup,
    /// A call that waited was ended: the server has become a replica, or the stream is gone.
    Unblocked,
    /// Anything else.
    Other,
}

/// The codes. Errors that tell of permissions from within a script have none, and are known by their words.
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
const NOT_PERMITTED: [&str; 2] = ["The user executing the script can't ", "ACL failure in script: "];

const WRAPPED: &str = "ERR Error running script (call to ";
const PLACE: &str = "@user_script:";

impl Said {
    /// The error of a server in this one. `None`: no server said it.
    pub(crate) fn of(error: &RedisError) -> Option<Self> {
        words(error).map(|words| Self::of_words(&words))
    }

    /// By the line that a server sent, without the `-` in front.
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

/// The line that a server sent, without what is wrapped around it. `None`: no server said it.
pub(crate) fn words(error: &RedisError) -> Option<String> {
    // Of several commands sent together the first that failed counts.
    let errors = error.clone().into_server_errors()?;
    let (_, first) = errors.first()?;
    let line = match first.details() {
        Some(details) => format!("{} {details}", first.code()),
        None => first.code().to_owned(),
    };
    Some(bare(&line).to_owned())
}

/// The words without what a server wraps around the error of a command in a script.
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
