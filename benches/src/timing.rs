//! Timing of what needs something fresh each time: the making is not timed, and is not done more often than needed.

use criterion::{BenchmarkGroup, SamplingMode, measurement::WallTime};
use std::time::{Duration, Instant};

/// Sets a group up for operations of microseconds: a sixth of a second for each.
pub fn short(group: &mut BenchmarkGroup<'_, WallTime>) {
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(120));
}

/// Sets a group up for operations that need something fresh each time, or take milliseconds.
pub fn slow(group: &mut BenchmarkGroup<'_, WallTime>) {
    short(group);
    group.sampling_mode(SamplingMode::Flat);
}

/// Times `act` on something that `make` makes fresh, at most `most` times, and scales to `iters`, as criterion's
/// `iter_custom` wants it.
pub fn fresh<T, O>(iters: u64, most: u64, make: impl Fn() -> T, act: impl Fn(&T) -> O) -> Duration {
    let done = iters.min(most);
    let mut total = Duration::ZERO;
    for _ in 0..done {
        let made = make();
        let start = Instant::now();
        let out = act(&made);
        total += start.elapsed();
        drop(out);
        drop(made);
    }
    scaled(total, iters, done)
}

/// Times `act` on the items 0, 1, ... of one thing made fresh, at most `most` of them, and scales to `iters`.
pub fn in_turn<T>(iters: u64, most: u64, make: impl Fn() -> T, mut act: impl FnMut(&T, u64)) -> Duration {
    let done = iters.min(most);
    let made = make();
    let start = Instant::now();
    for item in 0..done {
        act(&made, item);
    }
    scaled(start.elapsed(), iters, done)
}

fn scaled(total: Duration, iters: u64, done: u64) -> Duration {
    total.mul_f64(iters as f64 / done.max(1) as f64)
}
