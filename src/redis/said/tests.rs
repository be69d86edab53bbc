//! Lines that servers sent: Redis 6.2.14, Redis 7.0.15 and Valkey 9.1.2. Hashes of scripts are cut.

use super::*;
use ::redis::parse_redis_value;

const SERVERS: [(&str, &[(&str, Said)]); 4] = [
    (
        "all three",
        &[
            ("READONLY You can't write against a read only replica.", Said::ReadOnly),
            ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Said::MasterDown),
            ("NOREPLICAS Not enough good replicas to write.", Said::NoReplicas),
            ("OOM command not allowed when used memory > 'maxmemory'.", Said::OutOfMemory),
            ("MISCONF Errors writing to the AOF file: No space left on device", Said::DiskFailure),
            ("NOAUTH Authentication required.", Said::Unauthenticated),
            ("WRONGPASS invalid username-password pair or user is disabled.", Said::Unauthenticated),
            ("MOVED 15495 127.0.0.1:7312", Said::Moved),
            ("ASK 3300 127.0.0.1:7312", Said::Ask),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Said::TryAgain),
            ("CROSSSLOT Keys in request don't hash to the same slot", Said::CrossSlot),
            ("CLUSTERDOWN Hash slot not served", Said::ClusterDown),
            ("CLUSTERDOWN The cluster is down", Said::ClusterDown),
            ("CLUSTERDOWN The cluster is down and only accepts read commands", Said::ClusterDown),
            ("NOGROUP No such key 'k' or consumer group 'g' in XREADGROUP with GROUP option", Said::NoGroup),
            (
                "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
                Said::Unblocked,
            ),
            ("BUSYGROUP Consumer Group name already exists", Said::Other),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", Said::Other),
            ("FOREIGN 1", Said::Other),
            ("ERR Invalid stream ID specified as stream command argument", Said::Other),
            ("ERR", Said::Other),
        ],
    ),
    (
        "Redis 6.2",
        &[
            ("LOADING Redis is loading the dataset in memory", Said::Loading),
            ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", Said::Busy),
            ("NOSCRIPT No matching script. Please use EVAL.", Said::NoScript),
            ("NOPERM this user has no permissions to run the 'set' command or its subcommand", Said::NotPermitted),
            (
                "ERR Error running script (call to f_87a0): @user_script:1: @user_script: 1: -READONLY You can't write \
                 against a read only replica.",
                Said::ReadOnly,
            ),
            ("@user_script: 1: -READONLY You can't write against a read only replica.", Said::ReadOnly),
            (
                "ERR Error running script (call to f_87a0): @user_script:1: @user_script: 1: -OOM command not allowed \
                 when used memory > 'maxmemory'.",
                Said::OutOfMemory,
            ),
            ("@user_script: 1: -OOM command not allowed when used memory > 'maxmemory'.", Said::OutOfMemory),
            (
                "ERR Error running script (call to f_87a0): @user_script:1: @user_script: 1: -NOREPLICAS Not enough \
                 good replicas to write.",
                Said::NoReplicas,
            ),
            (
                "ERR Error running script (call to f_87a0): @user_script:1: @user_script: 1: The user executing the \
                 script can't run this command or subcommand",
                Said::NotPermitted,
            ),
            (
                "ERR Error running script (call to f_5392): @user_script:1: @user_script: 1: The user executing the \
                 script can't access at least one of the keys mentioned in the command arguments",
                Said::NotPermitted,
            ),
            (
                "ERR Error running script (call to f_fa17): @user_script:1: WRONGTYPE Operation against a key holding \
                 the wrong kind of value",
                Said::Other,
            ),
            (
                "ERR Error running script (call to f_5c64): @user_script:1: @user_script: 1: Unknown Redis command \
                 called from Lua script",
                Said::Other,
            ),
        ],
    ),
    (
        "Redis 7.0",
        &[
            ("LOADING Redis is loading the dataset in memory", Said::Loading),
            ("BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.", Said::Busy),
            ("NOSCRIPT No matching script. Please use EVAL.", Said::NoScript),
            ("NOPERM this user has no permissions to run the 'set' command", Said::NotPermitted),
            ("NOPERM this user has no permissions to access one of the keys used as arguments", Said::NotPermitted),
            ("READONLY You can't write against a read only replica. script: 87a0, on @user_script:1.", Said::ReadOnly),
            ("READONLY Can not run script with write flag on readonly replica", Said::ReadOnly),
            (
                "MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and 'allow-stale' flag \
                 is not set on the script.",
                Said::MasterDown,
            ),
            (
                "OOM command not allowed when used memory > 'maxmemory'. script: 87a0, on @user_script:1.",
                Said::OutOfMemory,
            ),
            (
                "ERR The user executing the script can't run this command or subcommand script: 87a0, on \
                 @user_script:1.",
                Said::NotPermitted,
            ),
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value script: fa17, on @user_script:1.",
                Said::Other,
            ),
            ("ERR Unknown Redis command called from script script: 5c64, on @user_script:1.", Said::Other),
        ],
    ),
    (
        "Valkey 9",
        &[
            ("LOADING Valkey is loading the dataset in memory", Said::Loading),
            ("BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", Said::Busy),
            ("NOSCRIPT No matching script.", Said::NoScript),
            ("NOPERM User u has no permissions to run the 'set' command", Said::NotPermitted),
            ("NOPERM No permissions to access a key", Said::NotPermitted),
            ("READONLY You can't write against a read only replica. script: on @user_script:1.", Said::ReadOnly),
            (
                "ERR ACL failure in script: User u has no permissions to run the 'set' command script: on \
                 @user_script:1.",
                Said::NotPermitted,
            ),
            (
                "ERR ACL failure in script: No permissions to access a key script: on @user_script:1.",
                Said::NotPermitted,
            ),
            ("ERR Unknown command called from script script: on @user_script:1.", Said::Other),
        ],
    ),
];

/// Parses an error as the `redis` crate does.
fn read(line: &str) -> RedisError {
    let value = parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("a line that is an error");
    value.extract_error().expect_err("an error")
}

#[test]
fn the_errors_of_each_server_are_recognized() {
    for (server, lines) in SERVERS {
        for (line, said) in lines {
            assert_eq!(Said::of(&read(line)), Some(*said), "{server}: {line}");
            assert_eq!(Said::of_words(line), *said, "{server}: {line}");
        }
    }
}

#[test]
fn the_words_of_an_error_have_no_wrapping() {
    for (_, lines) in SERVERS {
        for (line, _) in lines {
            let words = words(&read(line)).expect("a server said it");
            assert!(!words.contains("Error running script") && !words.starts_with(['@', '-']), "{words}");
            assert!(line.ends_with(&words), "{words:?} of {line:?}");
        }
    }
    // Only a place in a script is removed.
    assert_eq!(bare("@user_script: odd: -READONLY no"), "@user_script: odd: -READONLY no");
    assert_eq!(bare("ERR Error running script (call to f_1"), "ERR Error running script (call to f_1");
    assert_eq!(bare(""), "");
}

#[test]
fn an_error_that_no_server_sent_is_not_recognized() {
    let error = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    assert_eq!((Said::of(&error), words(&error)), (None, None));
}
