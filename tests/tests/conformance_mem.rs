//! The conformance suite in memory.

use stratafs_tests::beds::MemBed;

stratafs_testkit::conformance!(MemBed);
