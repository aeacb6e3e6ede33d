//! Measures next to a yardstick: the time the same machine needs, in the same run, for work that never changes.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};

/// Other work on the same bytes, with a name for the report.
pub type Yardstick<'w> = (&'static str, &'w mut dyn FnMut());

/// Measures `ours` and `yardstick`, which process the same `bytes`. tests/bench/rust.ts reads both and keeps their ratio.
pub fn beside<A, B>(
    c: &mut Criterion,
    name: &str,
    bytes: u64,
    ours: impl FnMut() -> A,
    mut yardstick: impl FnMut() -> B,
) {
    let mut yardstick = || _ = black_box(yardstick());
    beside_all(c, name, bytes, ours, &mut [("yardstick", &mut yardstick)]);
}

/// Measures `ours` and several yardsticks.
pub fn beside_all<A>(
    c: &mut Criterion,
    name: &str,
    bytes: u64,
    mut ours: impl FnMut() -> A,
    yardsticks: &mut [Yardstick<'_>],
) {
    let mut group: BenchmarkGroup<'_, WallTime> = c.benchmark_group(name);
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("ours", |b| b.iter(&mut ours));
    for (yardstick, work) in yardsticks {
        group.bench_function(*yardstick, |b| b.iter(&mut *work));
    }
    group.finish();
}
