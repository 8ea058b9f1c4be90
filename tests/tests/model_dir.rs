//! Views in directories against the reference model.

use proptest::proptest;
use stratafs_testkit::generate;
use stratafs_tests::beds::DirBed;
use stratafs_tests::{need, runs};

proptest! {
    #![proptest_config(need::cases(60))]

    #[test]
    fn sequences_agree((stack, ops) in generate::runs(60)) {
        runs::check::<DirBed>(&stack, &ops);
    }
}

#[test]
fn long_runs_agree() {
    runs::long::<DirBed>(40);
}
