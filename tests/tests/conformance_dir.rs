//! The conformance suite in directories.

use stratafs_tests::beds::DirBed;

stratafs_testkit::conformance!(DirBed);
