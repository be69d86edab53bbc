//! What must not compile, and what the compiler then says.
//!
//! The texts in `tests/ui/*.stderr` are those of the Rust release that the crate is developed with.

#[test]
fn mistakes_do_not_compile_and_the_compiler_says_what_to_do() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
