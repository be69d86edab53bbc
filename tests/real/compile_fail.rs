//! What must not compile and what the compiler then says, and what must not take it long.
//!
//! The programs in `tests/ui` are checked in a package of their own, which needs none of the dependencies of the tests.

use crate::trial::trials;
use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
};

trials![
    mistakes_do_not_compile_and_the_compiler_says_what_to_do,
    layers_stacked_by_hand_take_the_compiler_no_more_than_seconds,
];

/// The seconds of processor time that the compiler may take for a program. It needs one. Where each layer multiplies
/// what the ones inside take, six need minutes.
const COMPILER_SECONDS: u32 = 30;

/// Checks one of the programs: whether it compiles, and what the compiler says.
fn check(program: &str) -> (bool, String) {
    check_by(Command::new(env!("CARGO")), program)
}

/// The same, where the compiler gives up when it has taken too long. The limit is on processor time, so that a busy
/// machine does not matter.
fn check_within_seconds(program: &str) -> (bool, String) {
    // Compiles the dependencies, which may take as long as they like.
    let (compiles, says) = check("as_it_should_be");
    assert!(compiles, "{says}");
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -S -t {COMPILER_SECONDS} && exec \"$@\""), "sh", env!("CARGO")]);
    check_by(limited, program)
}

fn check_by(mut cargo: Command, program: &str) -> (bool, String) {
    /// The packages share a folder for what is compiled, and one program is checked twice.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join(program);
    fs::create_dir_all(&package).unwrap();
    let manifest = format!(
        r#"
        [package]
        name = "program"
        edition = "2024"
        [[bin]]
        name = "program"
        path = {program:?}
        [dependencies]
        steadfast = {{ path = {root:?} }}
        tower = {{ version = "0.5", features = ["util"] }}
        [workspace]
        "#,
        program = root.join("tests/ui").join(program).with_extension("rs"),
    );
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    // The versions that the crate itself is tested with, which are there already.
    fs::copy(root.join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
    let output = cargo
        .args(["check", "--offline", "--quiet", "--color=never"])
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", package.with_file_name("ui-target"))
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[track_caller]
fn assert_refused(program: &str, words: &[&str]) {
    let (compiles, says) = check(program);
    assert!(!compiles, "{program} compiles");
    for word in words {
        assert!(says.contains(word), "the compiler does not say: {word}\n{says}");
    }
}

async fn mistakes_do_not_compile_and_the_compiler_says_what_to_do() {
    let (compiles, says) = check("as_it_should_be");
    assert!(compiles, "{says}");
    assert_refused(
        "error_that_cannot_hold_a_rejection",
        &[
            "the error type `std::io::Error` cannot hold a rejection of steadfast",
            "write `impl From<steadfast::Rejection> for std::io::Error`",
            "`.map_err(steadfast::Error::Service)`",
            "`.respond_with(|rejection| ..)`",
        ],
    );
    assert_refused("slot_filled_twice", &["no method named `timeout` found", "no method named `load_shed` found"]);
}

async fn layers_stacked_by_hand_take_the_compiler_no_more_than_seconds() {
    let (compiles, says) = check_within_seconds("six_layers_by_hand");
    assert!(compiles, "six layers do not compile within {COMPILER_SECONDS} s of processor time: {says}");
}
