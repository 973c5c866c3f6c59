//! Numbers that carry their unit, as a policy file writes them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A length of time in whole seconds, such as `"15m"`; `s`, `m`, `h`, `d`, `w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(u32);

/// Bytes in a second, such as `"200MB/s"`; `KB`, `MB`, `GB` and `KiB`, `MiB`, `GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate(u64);

const SPANS: &[(&str, u64)] = &[
    ("w", 604_800),
    ("d", 86_400),
    ("h", 3_600),
    ("m", 60),
    ("s", 1),
];
const RATES: &[(&str, u64)] = &[
    ("GiB/s", 1 << 30),
    ("GB/s", 1_000_000_000),
    ("MiB/s", 1 << 20),
    ("MB/s", 1_000_000),
    ("KiB/s", 1 << 10),
    ("KB/s", 1_000),
    ("B/s", 1),
];

impl Span {
    /// A length of time of so many seconds.
    pub const fn from_secs(secs: u32) -> Self {
        Self(secs)
    }

    /// A length of time of so many minutes.
    pub const fn from_mins(mins: u32) -> Self {
        Self(mins * 60)
    }

    /// A length of time of so many hours.
    pub const fn from_hours(hours: u32) -> Self {
        Self(hours * 3_600)
    }

    /// A length of time of so many days of 24 hours.
    pub const fn from_days(days: u32) -> Self {
        Self(days * 86_400)
    }

    /// Whole seconds.
    pub const fn secs(self) -> i64 {
        self.0 as i64
    }

    /// As the standard library has it.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }
}

impl Rate {
    /// So many bytes in a second.
    pub const fn from_bytes(bytes_per_second: u64) -> Self {
        Self(bytes_per_second)
    }

    /// Bytes in a second.
    pub const fn bytes_per_second(self) -> u64 {
        self.0
    }
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

fn print(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let whole = units
        .iter()
        .find(|(_, scale)| value >= *scale && value.is_multiple_of(*scale));
    match whole.or(units.last()) {
        Some((name, scale)) => write!(f, "{}{name}", value / scale),
        None => write!(f, "{value}"),
    }
}

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, SPANS)
            .and_then(|secs| u32::try_from(secs).ok())
            .map(Self)
            .ok_or_else(|| {
                format!("{text:?} is not a length of time: write \"15m\", \"4h\" or \"30d\"")
            })
    }
}

impl FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, RATES)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a rate: write \"200MB/s\" or \"1GiB/s\""))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(u64::from(self.0), SPANS, f)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0, RATES, f)
    }
}

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl TryFrom<String> for Rate {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_reads_what_it_prints() {
        for (text, secs) in [
            ("90s", 90),
            ("15m", 900),
            ("4h", 14_400),
            ("2w", 1_209_600),
            ("0s", 0),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.secs(), span.to_string().as_str()), (secs, text));
        }
        for bad in ["", "15", "m", "1.5h", "-1h", "15 m", "200000d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rate_reads_what_it_prints() {
        for text in ["200MB/s", "1GiB/s", "3B/s"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert!("200MB".parse::<Rate>().is_err());
    }
}
