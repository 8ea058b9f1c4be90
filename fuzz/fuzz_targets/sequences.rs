//! Operation sequences on a view in memory against the reference model: every outcome and the tree at the end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stratafs_testkit::generate::{self, Known};
use stratafs_testkit::rng::Tape;
use stratafs_tests::beds::MemBed;
use stratafs_tests::runs;

const OPERATIONS: usize = 40;

fuzz_target!(|data: &[u8]| {
    let numbers: Vec<u32> =
        data.chunks_exact(2).map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]])) << 16).collect();
    let mut tape = Tape::new(&numbers);
    let stack = generate::stack(&mut tape);
    let known = Known::of_stack(&stack);
    let ops: Vec<_> = (0..OPERATIONS).map(|_| generate::op(&mut tape, &known)).collect();
    runs::check::<MemBed>(&stack, &ops);
});
