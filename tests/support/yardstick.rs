//! Measures next to a yardstick: the time the same machine needs, in the same run, for work that never changes.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};

/// Measures `ours` and `yardstick`, which process the same `bytes`. tests/bench/rust.ts reads both and keeps their ratio.
pub fn beside<A, B>(c: &mut Criterion, name: &str, bytes: u64, ours: impl FnMut() -> A, yardstick: impl FnMut() -> B) {
    let mut group: BenchmarkGroup<'_, WallTime> = c.benchmark_group(name);
    group.throughput(Throughput::Bytes(bytes));
    let (mut ours, mut yardstick) = (ours, yardstick);
    group.bench_function("ours", |b| b.iter(&mut ours));
    group.bench_function("yardstick", |b| b.iter(&mut yardstick));
    group.finish();
}
