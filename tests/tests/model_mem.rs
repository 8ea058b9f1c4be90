//! Views in memory against the reference model.

use proptest::proptest;
use stratafs_testkit::generate;
use stratafs_tests::beds::MemBed;
use stratafs_tests::{need, runs};

proptest! {
    #![proptest_config(need::cases(150))]

    #[test]
    fn sequences_agree((stack, ops) in generate::runs(60)) {
        runs::check::<MemBed>(&stack, &ops);
    }
}

#[test]
fn long_runs_agree() {
    runs::long::<MemBed>(100);
}
