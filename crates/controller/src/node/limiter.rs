//! How often somebody may fail to join.
//!
//! Only failures count: a script that enrols ten nodes with ten good tokens is no attack. The
//! secrets have 256 bits, so this protects the log and the CPU rather than the tokens.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(60);
/// Failures per minute from one address.
const PER_ADDRESS_MAX: usize = 5;
/// Failures per minute from everywhere; it also bounds the memory that this takes.
const TOTAL_MAX: usize = 60;

/// Remembers the attempts of the last minute that have not succeeded.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    attempts: VecDeque<(Instant, IpAddr)>,
}

impl Limiter {
    /// Counts an attempt, or answers how long to wait before the next.
    ///
    /// It is counted before its outcome is known, so that many at once cannot slip through.
    pub(super) fn admit(&mut self, now: Instant, from: IpAddr) -> Result<(), Duration> {
        while self
            .attempts
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW)
        {
            self.attempts.pop_front();
        }
        let from = network(from);
        let mut own = self.attempts.iter().filter(|(_, other)| *other == from);
        let blocking = match own.clone().count() >= PER_ADDRESS_MAX {
            true => own.next(),
            false if self.attempts.len() >= TOTAL_MAX => self.attempts.front(),
            false => None,
        };
        if let Some((oldest, _)) = blocking {
            return Err(WINDOW.saturating_sub(now.duration_since(*oldest)));
        }
        self.attempts.push_back((now, from));
        Ok(())
    }

    /// Takes back one attempt, because it succeeded.
    pub(super) fn forgive(&mut self, from: IpAddr) {
        let from = network(from);
        if let Some(at) = self.attempts.iter().rposition(|(_, other)| *other == from) {
            self.attempts.remove(at);
        }
    }
}

/// Who has one IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn five_failures_a_minute_are_borne_from_one_address() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        for second in 0..5 {
            assert_eq!(limiter.admit(at(second), address(1)), Ok(()));
        }
        assert_eq!(
            limiter.admit(at(5), address(1)),
            Err(Duration::from_secs(55))
        );
        assert_eq!(limiter.admit(at(5), address(2)), Ok(()));
        assert_eq!(limiter.admit(at(60), address(1)), Ok(()));
        assert_eq!(
            limiter.admit(at(60), address(1)),
            Err(Duration::from_secs(1))
        );
    }

    #[test]
    fn what_succeeds_is_not_counted() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(limiter.admit(start, address(1)), Ok(()));
            limiter.forgive(address(1));
        }
        assert!(limiter.attempts.is_empty());
    }

    #[test]
    fn many_addresses_together_are_limited_too() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        for last in 0..TOTAL_MAX as u8 {
            assert_eq!(limiter.admit(start, address(last)), Ok(()));
        }
        assert_eq!(limiter.admit(start, address(200)), Err(WINDOW));
        assert_eq!(limiter.admit(start + WINDOW, address(200)), Ok(()));
    }

    #[test]
    fn one_ipv6_network_counts_as_one_and_a_mapped_address_as_itself() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let v6 = |last: u128| IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) | last));
        for last in 0..5 {
            assert_eq!(limiter.admit(start, v6(last)), Ok(()));
        }
        assert!(limiter.admit(start, v6(77)).is_err());
        let mapped = IpAddr::V6("::ffff:192.0.2.1".parse().expect("an address"));
        assert_eq!(network(mapped), address(1));
    }
}
