//! Skipping, and numbers from the environment.

use std::str::FromStr;

/// Says that a test is skipped for want of `what`.
///
/// # Panics
/// With `STRATAFS_REQUIRE_ALL` set to anything but 0 or nothing.
pub fn skip(what: &str) {
    let required = std::env::var("STRATAFS_REQUIRE_ALL").is_ok_and(|v| !v.is_empty() && v != "0");
    assert!(!required, "STRATAFS_REQUIRE_ALL is set and this is missing: {what}");
    println!("skipped: {what}");
}

/// True for root; else says that the test is skipped.
#[must_use]
pub fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("root");
    }
    root
}

/// The number in an environment variable.
///
/// # Panics
/// When it is set and no such number.
#[must_use]
pub fn number<T: FromStr>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}: not a number")))
}

/// How many cases a property test runs.
#[must_use]
pub fn cases(default: u32) -> proptest::test_runner::Config {
    let cases = number("STRATAFS_CASES").unwrap_or(default);
    proptest::test_runner::Config { cases, failure_persistence: None, ..Default::default() }
}

/// A seed: from `STRATAFS_SEED`, or the clock's.
#[must_use]
pub fn seed() -> u64 {
    number("STRATAFS_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |d| d.as_secs() ^ (u64::from(d.subsec_nanos()) << 20))
    })
}
