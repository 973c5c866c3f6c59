//! Hours, days, weeks, months and years of somebody's wall clock.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Date, ISOWeekDate, Weekday};

use crate::Zone;

/// A stretch of the calendar that one point stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Period {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

/// One certain period, such as the week that began on a Monday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    /// How long it is.
    pub period: Period,
    /// Its first day.
    pub date: Date,
    /// Its hour, and the offset from UTC in seconds: an hour that the clock shows twice is two hours.
    hour: Option<(i8, i32)>,
    /// When the hour begins, in seconds of the epoch; hours are counted back from now by it.
    hour_begins: Option<i64>,
}

impl Period {
    /// From the shortest to the longest.
    pub const ALL: [Period; 5] = [
        Period::Hour,
        Period::Day,
        Period::Week,
        Period::Month,
        Period::Year,
    ];

    /// The one in which `at` lies.
    pub fn label(self, at: Timestamp, zone: &Zone) -> Label {
        let offset = zone.time_zone().to_offset(at);
        let wall = offset.to_datetime(at);
        let date = match self {
            Period::Hour | Period::Day => wall.date(),
            Period::Week => monday(wall.date()),
            Period::Month => wall.date().first_of_month(),
            Period::Year => wall.date().first_of_year(),
        };
        let is_hour = self == Period::Hour;
        Label {
            period: self,
            date,
            hour: is_hour.then(|| (wall.hour(), offset.seconds())),
            hour_begins: is_hour.then(|| {
                let ahead = i64::from(offset.seconds());
                (at.as_second() + ahead).div_euclid(3_600) * 3_600 - ahead
            }),
        }
    }
}

fn monday(date: Date) -> Date {
    let week = date.iso_week_date();
    ISOWeekDate::new(week.year(), week.week(), Weekday::Monday).map_or(date, Date::from)
}

impl Label {
    /// Whether it is one of the last `count` periods, the one of `now` included.
    pub(super) fn is_within(&self, count: u32, now: Timestamp, zone: &Zone) -> bool {
        let present = self.period.label(now, zone);
        let back = match (self.hour_begins, present.hour_begins) {
            (Some(then), Some(now)) => (now - then) / 3_600,
            _ => {
                let (then, now) = (self.date, present.date);
                let months = |date: Date| i64::from(date.year()) * 12 + i64::from(date.month());
                match self.period {
                    Period::Hour | Period::Day => days_between(then, now),
                    Period::Week => days_between(then, now) / 7,
                    Period::Month => months(now) - months(then),
                    Period::Year => i64::from(now.year()) - i64::from(then.year()),
                }
            }
        };
        back < i64::from(count)
    }
}

fn days_between(then: Date, now: Date) -> i64 {
    now.duration_since(then).as_hours() / 24
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.period, self.hour) {
            (Period::Hour, Some((hour, offset))) => {
                let (sign, away) = (if offset < 0 { '-' } else { '+' }, offset.abs());
                let (hours, minutes) = (away / 3_600, away / 60 % 60);
                write!(
                    f,
                    "hour {}T{hour:02}{sign}{hours:02}:{minutes:02}",
                    self.date
                )
            }
            (Period::Hour | Period::Day, _) => write!(f, "day {}", self.date),
            (Period::Week, _) => write!(f, "week from {}", self.date),
            (Period::Month, _) => write!(f, "month {}", self.date.strftime("%Y-%m")),
            (Period::Year, _) => write!(f, "year {}", self.date.year()),
        }
    }
}
