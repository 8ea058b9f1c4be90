//! The conformance suite in directories, reached step by step.

use stratafs_tests::beds::DirBed;

stratafs_testkit::conformance!(DirBed<true>);
