//! What the compiler says about mistakes with the macros: each file in `tests/ui` makes one, and its name says which.
//!
//! The shapes that are right are compiled and run by `tests/macros`. `TRYBUILD=overwrite` writes the expected texts anew:
//! read them. The caret belongs on what the user wrote, and the text says what to type.

#[test]
fn every_mistake_is_told_at_its_place_with_what_to_type() {
    trybuild::TestCases::new().compile_fail("tests/ui/*/*.rs");
}
