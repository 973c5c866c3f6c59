//! Probes: how fast one way to a frozen disk is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use stillwater_disk::{DiskReader, read_ahead};
use stillwater_proxy_api::{ProbeDiskRequest, ProbeDiskResponse};
use stillwater_types::{Extent, ExtentSet, Fault, Reason};

use crate::error::{Error, Result};
use crate::reach::Reach;
use crate::slots::Slots;
use crate::transfer::Limits;

/// How long a disk may take to open, and the last requests to be answered.
const PATIENCE: Duration = Duration::from_secs(60);
/// One request whose latency is measured.
const SINGLE_BYTES: u64 = 256 * 1024;
/// So many requests are made one by one; the rest is read as a transfer reads.
const SINGLES: usize = 32;

/// Measures ways; clones share slots with transfers.
#[derive(Clone)]
pub struct Probes {
    reach: Arc<dyn Reach>,
    slots: Slots,
    limits: Limits,
}

impl Probes {
    /// Measures as transfers with these limits read.
    pub fn new(reach: Arc<dyn Reach>, slots: Slots, limits: Limits) -> Self {
        Self {
            reach,
            slots,
            limits,
        }
    }

    /// Reads areas of a disk by one way, and throws away what was read.
    ///
    /// # Errors
    /// `NO_PROXY_SLOT`, `DRAINING`, `DEADLINE`, and those of the way.
    pub async fn probe(&self, request: ProbeDiskRequest) -> Result<ProbeDiskResponse, Fault> {
        let _slot = self.slots.take()?;
        let limit = Duration::from_millis(u64::from(request.limit_millis));
        let measured = tokio::time::timeout(limit + PATIENCE, self.measure(&request, limit)).await;
        let slow = || Fault::new(Reason::Deadline, "the way to the disk hangs");
        measured.map_err(|_| slow())?.map_err(|error| error.fault())
    }

    async fn measure(
        &self,
        request: &ProbeDiskRequest,
        limit: Duration,
    ) -> Result<ProbeDiskResponse> {
        let way = self.reach.way(&request.disk, request.length_bytes)?;
        let disk = way.name();
        let begun = Instant::now();
        let opened = way.open().await;
        let reader = opened.map_err(|source| Error::Open {
            disk: disk.clone(),
            source,
        })?;
        let opened = begun.elapsed();
        let failed = |offset, error: stillwater_disk::Error| Error::Read {
            disk: disk.clone(),
            offset,
            source: Box::new(error),
        };
        // A quarter of the time for single requests, so that a slow way is measured in both manners.
        let (singles, rest) = split(&request.areas, SINGLE_BYTES, SINGLES);
        let mut latencies = Vec::with_capacity(singles.len());
        let begun = Instant::now();
        for single in singles {
            if begun.elapsed() > limit / 4 {
                break;
            }
            let sent = Instant::now();
            let read = reader.read(single).await;
            read.map_err(|error| failed(single.start, error))?;
            latencies.push(sent.elapsed());
        }
        latencies.sort();
        let left = limit.saturating_sub(begun.elapsed());
        let begun = Instant::now();
        let read = self.read(reader, rest, left).await;
        let read_bytes = read.map_err(|(offset, error)| failed(offset, error))?;
        Ok(ProbeDiskResponse {
            read_bytes,
            elapsed_micros: micros(begun.elapsed()),
            open_micros: micros(opened),
            latency_median_micros: micros(percentile(&latencies, 50)),
            latency_p99_micros: micros(percentile(&latencies, 99)),
        })
    }

    /// Reads as a transfer does; how much was read, or where it failed.
    async fn read(
        &self,
        reader: Arc<dyn DiskReader>,
        areas: ExtentSet,
        limit: Duration,
    ) -> std::result::Result<u64, (u64, stillwater_disk::Error)> {
        let begun = Instant::now();
        let mut at = areas.iter().next().map_or(0, |area| area.start);
        let mut read_bytes = 0;
        let Limits {
            request_bytes,
            requests_in_flight,
            ..
        } = self.limits;
        let mut parts = read_ahead(reader, areas, request_bytes, requests_in_flight);
        while let Some(part) = parts.next().await {
            let (offset, bytes) = part.map_err(|error| (at, error))?;
            at = offset + bytes.len() as u64;
            read_bytes += bytes.len() as u64;
            if begun.elapsed() > limit {
                break;
            }
        }
        Ok(read_bytes)
    }
}

/// The first pieces of some size, at most half of the areas, and what remains.
fn split(areas: &ExtentSet, piece: u64, count: usize) -> (Vec<Extent>, ExtentSet) {
    let total: u64 = areas.iter().map(|area| area.length).sum();
    let mut budget = total / 2;
    let (mut pieces, mut rest) = (Vec::new(), Vec::new());
    for mut area in areas.iter() {
        while pieces.len() < count && area.length >= piece && budget >= piece {
            pieces.push(Extent::new(area.start, piece));
            area = Extent::new(area.start + piece, area.length - piece);
            budget -= piece;
        }
        rest.push(area);
    }
    let end = rest.last().map_or(0, |area| area.start + area.length);
    (pieces, ExtentSet::collect(rest, end))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Of ascending times, that which so many percent do not exceed; zero without any.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    let rank = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(rank).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Duration::from_millis(100));
        assert_eq!(percentile(&times, 99), Duration::from_millis(198));
        assert_eq!(percentile(&times[..1], 99), Duration::from_millis(1));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }

    #[track_caller]
    fn check(areas: &[(u64, u64)], pieces: &[u64], rest: &[(u64, u64)]) {
        let extents = areas
            .iter()
            .map(|(start, length)| Extent::new(*start, *length));
        let (single, left) = split(&ExtentSet::collect(extents, 1 << 40), 10, 3);
        let starts: Vec<u64> = single.iter().map(|piece| piece.start).collect();
        assert_eq!(starts, pieces);
        let left: Vec<(u64, u64)> = left.iter().map(|area| (area.start, area.length)).collect();
        assert_eq!(left, rest);
    }

    #[test]
    fn no_byte_is_read_twice_and_at_most_half_of_them_one_by_one() {
        check(&[(0, 100)], &[0, 10, 20], &[(30, 70)]);
        check(&[(0, 25), (50, 25)], &[0, 10], &[(20, 5), (50, 25)]);
        check(&[(0, 9)], &[], &[(0, 9)]);
        check(&[], &[], &[]);
    }
}
