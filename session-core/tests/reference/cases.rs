//! How often, from which seed, and with which mistake.

use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngSeed, TestRunner},
};

/// So many cases, always the same ones, unless the environment wants others.
fn cases(cases: u32) -> Config {
    let wanted = Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { wanted.cases } else { cases };
    let rng_seed = match wanted.rng_seed {
        RngSeed::Random => RngSeed::Fixed(0x00CA_1412),
        fixed @ RngSeed::Fixed(_) => fixed,
    };
    Config { cases, rng_seed, failure_persistence: None, ..wanted }
}

/// Runs a property on so many cases; what it panics on is shrunk. What it counts meanwhile tells
/// whether it saw anything.
pub(crate) fn for_all<S: Strategy>(cases: u32, strategy: &S, property: impl Fn(S::Value)) {
    let result = TestRunner::new(self::cases(cases)).run(strategy, |value| {
        property(value);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// Switches on the mistake that the environment names.
#[cfg(feature = "bugs")]
pub(crate) fn seed_bug() {
    use session_core::model::{Bug, seed};
    let name = std::env::var("BUG").unwrap_or_default();
    let bug = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name);
    assert!(bug.is_some() || name.is_empty(), "no such mistake: {name}");
    seed(bug);
}

#[cfg(not(feature = "bugs"))]
pub(crate) fn seed_bug() {}
