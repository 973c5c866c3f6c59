//! Numbers that carry their unit, so that nobody wonders whether `30` is seconds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A size such as `"8MiB"`; `B`, `KiB`, `MiB`, `GiB`, `TiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A length of time such as `"30s"`; `ms`, `s`, `m`, `h`, `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Period(pub Duration);

const SIZES: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];
const SPANS: &[(&str, u64)] = &[
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

fn print(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let fits = |scale: u64| value >= scale && value.is_multiple_of(scale);
    match units
        .iter()
        .find(|(_, scale)| fits(*scale))
        .or(units.last())
    {
        Some((name, scale)) => write!(f, "{}{name}", value / scale),
        None => write!(f, "{value}"),
    }
}

impl FromStr for Bytes {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, SIZES).map(Self).ok_or_else(|| {
            format!("{text:?} is not a size: write \"512KiB\", \"8MiB\" or \"2GiB\"")
        })
    }
}

impl FromStr for Period {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, SPANS)
            .map(|ms| Self(Duration::from_millis(ms)))
            .ok_or_else(|| {
                format!(
                    "{text:?} is not a length of time: write \"500ms\", \"30s\", \"15m\" or \"12h\""
                )
            })
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0, SIZES, f)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(
            u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX),
            SPANS,
            f,
        )
    }
}

macro_rules! by_text {
    ($name:ident, $expecting:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}
pub(super) use by_text;

by_text!(Bytes, "a size with its unit, such as \"8MiB\"");
by_text!(Period, "a length of time with its unit, such as \"30s\"");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_and_spans_need_their_unit() {
        assert_eq!("8MiB".parse(), Ok(Bytes(8 << 20)));
        assert_eq!("0B".parse(), Ok(Bytes(0)));
        assert_eq!("4 KiB".parse(), Ok(Bytes(4096)));
        assert_eq!("30s".parse(), Ok(Period(Duration::from_secs(30))));
        assert_eq!("500ms".parse(), Ok(Period(Duration::from_millis(500))));
        for bad in [
            "",
            "8",
            "MiB",
            "-1MiB",
            "8MB",
            "8mib",
            "99999999999TiB",
            "1.5MiB",
            "8MiB ",
        ] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
        for bad in ["30", "s", "30 sec", "30S", "99999999999999999d"] {
            assert!(bad.parse::<Period>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn units_parse_what_they_print(value in any::<u64>(), shift in 0..40u32) {
            let bytes = Bytes(value >> shift << shift);
            prop_assert_eq!(bytes.to_string().parse(), Ok(bytes));
            let period = Period(Duration::from_millis(value));
            prop_assert_eq!(period.to_string().parse(), Ok(period));
        }
    }
}
