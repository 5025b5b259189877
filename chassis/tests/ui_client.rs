//! The mistakes of `#[chassis::client]`, each with what the compiler says of it. `TRYBUILD=overwrite` accepts new words.

#[test]
fn each_mistake_of_a_client_is_told_where_it_is_written() {
    trybuild::TestCases::new().compile_fail("tests/ui/client/*.rs");
}
