//! Programs that must not compile, with the messages of the compiler, and a program that must compile quickly.
//!
//! The programs in `tests/ui` are checked in a package of their own, which needs none of the dependencies of the tests.

use crate::trial::trials;
use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
};

trials![mistakes_do_not_compile_and_the_compiler_says_how_to_fix_them, layers_stacked_by_hand_compile_within_seconds,];

/// The most seconds of processor time for a program. The compiler needs one. If each layer multiplied the time of its
/// inner layers, six layers would need minutes.
const COMPILER_SECONDS: u32 = 30;

/// Compiles one of the programs. Returns whether it compiles, and the output of the compiler.
fn check(program: &str) -> (bool, String) {
    check_by(Command::new(env!("CARGO")), program)
}

/// Compiles a program with a limit on processor time, which does not depend on the load of the machine.
fn check_within_seconds(program: &str) -> (bool, String) {
    // Compiles the dependencies first, without a limit.
    let (compiles, says) = check("as_it_should_be");
    assert!(compiles, "{says}");
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -S -t {COMPILER_SECONDS} && exec \"$@\""), "sh", env!("CARGO")]);
    check_by(limited, program)
}

fn check_by(mut cargo: Command, program: &str) -> (bool, String) {
    /// The packages share a target folder, and one program is checked twice.
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
    // The locked versions of the crate's own tests, which are downloaded already.
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

async fn mistakes_do_not_compile_and_the_compiler_says_how_to_fix_them() {
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

async fn layers_stacked_by_hand_compile_within_seconds() {
    let (compiles, says) = check_within_seconds("six_layers_by_hand");
    assert!(compiles, "six layers do not compile within {COMPILER_SECONDS} s of processor time: {says}");
}
