//! Time as the kernel charges it to this process.

use std::time::Duration;

use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of all threads of the process, in user and kernel mode.
pub struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let now = clock_gettime(ClockId::ProcessCPUTime);
        let nanos = u32::try_from(now.tv_nsec).expect("less than a second");
        Duration::new(
            u64::try_from(now.tv_sec).expect("no time before zero"),
            nanos,
        )
    }

    fn end(&self, start: Duration) -> Duration {
        self.start().saturating_sub(start)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a benchmark runs for less than 2^53 ns"
    )]
    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &PerCpuSecond
    }
}

/// As wall time is told, with the unit of a rate named as what it is.
struct PerCpuSecond;

impl ValueFormatter for PerCpuSecond {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical, values)
    }

    fn scale_throughputs(
        &self,
        _: f64,
        throughput: &Throughput,
        values: &mut [f64],
    ) -> &'static str {
        let (amount, unit) = match throughput {
            Throughput::Bytes(bytes) => (*bytes as f64 / 1e6, "MB/CPU s"),
            Throughput::Elements(count) => (*count as f64 / 1e6, "M/CPU s"),
            _ => return "not told",
        };
        for value in values {
            *value = amount * 1e9 / *value;
        }
        unit
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values)
    }
}
