//! When a policy wants points: an RPO or cron times, and windows in which nothing starts.
//!
//! Clock changes are part of it. A fixed cron time that a gap swallows comes at the gap's end, and one
//! that a fold repeats comes once, at its first pass; times with `*` or steps in them simply follow the
//! wall clock. A window that begins or ends in a gap does so at its end; in a fold it begins at the first pass and
//! ends at the second, so that it is never shorter than it reads.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Span;

/// The tightest promise: below it snapshots of one VM would overlap.
pub const RPO_MIN: Span = Span::from_mins(1);
/// The loosest promise.
pub const RPO_MAX: Span = Span::from_days(366);
const WITHIN: Span = Span::from_hours(6);
/// Overlapping windows are walked through; more of them than this leave no time at all.
const WINDOWS_MAX: usize = 4_096;

/// When a policy wants points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "File", into = "File")]
pub struct Schedule {
    /// By age or by the clock.
    pub when: When,
    /// Whose wall clock counts.
    pub zone: Zone,
    /// When nothing starts.
    pub blackout: Vec<Blackout>,
}

/// What makes a point due.
#[derive(Debug, Clone, PartialEq)]
pub enum When {
    /// The newest point is never to be older than this; time in a blackout does not count.
    Rpo(Span),
    /// At times of the wall clock.
    Cron {
        /// Which ones.
        times: Cron,
        /// A point has to be there so long after each of them.
        within: Span,
        /// What becomes of a time that nobody was there for.
        misfire: Misfire,
    },
}

/// What becomes of a cron time that passed while nothing could start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Misfire {
    /// One run as soon as one can start, however many times have passed.
    #[default]
    Once,
    /// The next time is waited for, once `within` is over.
    Skip,
}

/// A cron expression of five fields.
#[derive(Debug, Clone)]
pub struct Cron {
    text: String,
    // A table of every field's values: too big to be carried around.
    cron: Arc<croner::Cron>,
}

/// A time zone of the IANA database, such as `Europe/Berlin`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(TimeZone);

/// A window in which nothing starts. One that ends before it begins goes on into the next day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Blackout {
    /// On which days it begins; empty is every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// When it begins, such as `08:00`.
    #[serde(with = "clock")]
    pub from: Time,
    /// When it is over.
    #[serde(with = "clock")]
    pub to: Time,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// The schedule as a policy file has it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rpo: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cron: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    misfire: Option<Misfire>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time_zone: Option<Zone>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    blackout: Vec<Blackout>,
}

/// The moments of points, as if every run succeeded at the last allowed one.
#[derive(Debug, Clone)]
pub struct Moments<'a> {
    schedule: &'a Schedule,
    next: Option<Timestamp>,
}

impl Iterator for Moments<'_> {
    type Item = Timestamp;

    fn next(&mut self) -> Option<Timestamp> {
        let at = self.next?;
        let schedule = self.schedule;
        let next = match &schedule.when {
            When::Rpo(rpo) => Some(schedule.after(at, *rpo)),
            When::Cron { .. } => schedule.next_time(at),
        };
        self.next = next
            .map(|next| schedule.allowed(next))
            .filter(|next| *next > at);
        Some(at)
    }
}

impl Schedule {
    /// Points never older than `rpo`, at any time of the day.
    pub fn rpo(rpo: Span) -> Self {
        Self {
            when: When::Rpo(rpo),
            zone: Zone::utc(),
            blackout: Vec::new(),
        }
    }

    /// The moments of points from `from` on, as if every run succeeded at the last allowed one.
    pub fn moments(&self, from: Timestamp) -> Moments<'_> {
        let first = match self.when {
            When::Rpo(_) => Some(from),
            When::Cron { .. } => self.next_time(from),
        };
        Moments {
            schedule: self,
            next: first.map(|at| self.allowed(at)),
        }
    }

    /// Until when nothing starts, if `at` lies in a window.
    pub fn blackout_until(&self, at: Timestamp) -> Option<Timestamp> {
        let free = self.allowed(at);
        (free > at).then_some(free)
    }

    /// `at`, or the end of the windows that it lies in.
    pub fn allowed(&self, at: Timestamp) -> Timestamp {
        let mut free = at;
        for _ in 0..WINDOWS_MAX {
            let covering = self
                .windows(free)
                .filter(|(from, to)| (*from..*to).contains(&free))
                .map(|(_, to)| to)
                .max();
            match covering {
                Some(to) => free = to,
                None => return free,
            }
        }
        free
    }

    /// When `span` of time outside all windows has passed since `start`.
    pub fn after(&self, start: Timestamp, span: Span) -> Timestamp {
        let mut left = SignedDuration::from_secs(span.secs());
        if self.blackout.is_empty() {
            return later(start, left);
        }
        let mut at = start;
        for _ in 0..WINDOWS_MAX {
            at = self.allowed(at);
            let window = self
                .windows(at)
                .map(|(from, _)| from)
                .filter(|from| *from >= at)
                .min();
            match window {
                Some(from) if later(at, left) > from => {
                    left -= from.duration_since(at);
                    at = from;
                }
                _ => return later(at, left),
            }
        }
        later(at, left)
    }

    /// The first cron time after `last`, if the schedule has cron times.
    pub fn next_time(&self, last: Timestamp) -> Option<Timestamp> {
        match &self.when {
            When::Rpo(_) => None,
            When::Cron { times, .. } => times.after(last, &self.zone),
        }
    }

    /// All windows that touch the days around `at`: from two days before to eight days after.
    fn windows(&self, at: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> + '_ {
        let today = self.zone.date(at);
        let days = (-2..=8).filter_map(move |offset| {
            today
                .checked_add(jiff::Span::new().days(if self.blackout.is_empty() {
                    return None;
                } else {
                    offset
                }))
                .ok()
        });
        days.flat_map(move |day| {
            self.blackout
                .iter()
                .filter_map(move |window| window.on(day, &self.zone))
        })
    }
}

impl Blackout {
    /// From when to when it holds, if it begins on this day.
    fn on(&self, day: Date, zone: &Zone) -> Option<(Timestamp, Timestamp)> {
        if !self.days.is_empty() && !self.days.iter().any(|d| d.weekday() == day.weekday()) {
            return None;
        }
        let last = if self.to > self.from {
            day
        } else {
            day.tomorrow().ok()?
        };
        let from = zone.0.to_ambiguous_timestamp(day.to_datetime(self.from));
        let to = zone.0.to_ambiguous_timestamp(last.to_datetime(self.to));
        Some((from.compatible().ok()?, to.later().ok()?))
    }
}

impl Cron {
    /// The first time after `last` on the wall clock of `zone`.
    pub fn after(&self, last: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let last = last.to_zoned(zone.0.clone());
        let next = self.cron.find_next_occurrence(&last, false).ok()?;
        Some(next.timestamp())
    }
}

impl Zone {
    /// Coordinated universal time.
    pub const fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// For reckoning with `jiff`.
    pub const fn time_zone(&self) -> &TimeZone {
        &self.0
    }

    /// The date on the wall at that moment.
    pub fn date(&self, at: Timestamp) -> Date {
        self.0.to_datetime(at).date()
    }
}

impl Day {
    const fn weekday(self) -> Weekday {
        match self {
            Day::Mon => Weekday::Monday,
            Day::Tue => Weekday::Tuesday,
            Day::Wed => Weekday::Wednesday,
            Day::Thu => Weekday::Thursday,
            Day::Fri => Weekday::Friday,
            Day::Sat => Weekday::Saturday,
            Day::Sun => Weekday::Sunday,
        }
    }
}

/// Moments beyond what a timestamp holds are as good as its last one.
fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

impl TryFrom<File> for Schedule {
    type Error = String;
    fn try_from(file: File) -> Result<Self, String> {
        let File {
            rpo,
            cron,
            within,
            misfire,
            time_zone,
            blackout,
        } = file;
        let when = match (rpo, cron) {
            (Some(_), Some(_)) => {
                return Err("schedule: write either rpo or cron, not both".into());
            }
            (None, None) => {
                return Err("schedule: write rpo = \"15m\" or cron = \"0 2 * * *\"".into());
            }
            (Some(rpo), None) if within.is_some() || misfire.is_some() => {
                return Err(format!(
                    "schedule: within and misfire are for cron; with rpo = \"{rpo}\" write neither"
                ));
            }
            (Some(rpo), None) => When::Rpo(rpo),
            (None, Some(_)) if time_zone.is_none() => {
                return Err(
                    "schedule.time-zone: write whose clock counts: time-zone = \"Europe/Berlin\""
                        .into(),
                );
            }
            (None, Some(times)) => When::Cron {
                times: times.parse()?,
                within: within.unwrap_or(WITHIN),
                misfire: misfire.unwrap_or_default(),
            },
        };
        if !blackout.is_empty() && time_zone.is_none() {
            return Err(
                "schedule.time-zone: a blackout needs one: time-zone = \"Europe/Berlin\"".into(),
            );
        }
        let schedule = Self {
            when,
            zone: time_zone.unwrap_or(Zone::utc()),
            blackout,
        };
        schedule.fault().map_or(Ok(schedule), Err)
    }
}

impl Schedule {
    /// What is wrong with it, and what to write instead.
    fn fault(&self) -> Option<String> {
        // Any moment does: what is asked is whether the schedule leaves any time, ever.
        let some_day = Timestamp::UNIX_EPOCH;
        match &self.when {
            When::Rpo(rpo) if !(RPO_MIN..=RPO_MAX).contains(rpo) => {
                return Some(format!(
                    "schedule.rpo: write a time from {RPO_MIN} to {RPO_MAX}, such as rpo = \"15m\""
                ));
            }
            When::Cron { times, .. } if times.after(some_day, &self.zone).is_none() => {
                return Some(format!(
                    "schedule.cron: {times} never comes: write a date that the calendar has"
                ));
            }
            When::Cron { within, .. } if *within < RPO_MIN || *within > RPO_MAX => {
                return Some(format!(
                    "schedule.within: write a time from {RPO_MIN} to {RPO_MAX}, such as within = \"6h\""
                ));
            }
            _ => {}
        }
        if self.blackout.len() > 64 {
            return Some("schedule.blackout: write at most 64 windows".into());
        }
        let free = self.allowed(some_day).duration_since(some_day);
        (free > SignedDuration::from_hours(24 * 8))
            .then(|| "schedule.blackout: the windows leave no time: write shorter ones".to_owned())
    }
}

impl From<Schedule> for File {
    fn from(schedule: Schedule) -> Self {
        let (rpo, cron, within, misfire) = match schedule.when {
            When::Rpo(rpo) => (Some(rpo), None, None, None),
            When::Cron {
                times,
                within,
                misfire,
            } => (None, Some(times.text), Some(within), Some(misfire)),
        };
        Self {
            rpo,
            cron,
            within,
            misfire,
            time_zone: Some(schedule.zone),
            blackout: schedule.blackout,
        }
    }
}

impl FromStr for Cron {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // Five fields and no more: a sixth one means seconds to some and years to others.
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser.parse(text).map_err(|err| {
            format!(
                "schedule.cron: {text:?} is no cron time ({err}): write minute, hour, day, month and weekday, such as \"0 2 * * *\""
            )
        })?;
        Ok(Self {
            text: text.to_owned(),
            cron: Arc::new(cron),
        })
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Zone {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        TimeZoneDatabase::bundled()
            .get(text)
            .map(Self)
            .map_err(|_| format!("{text:?} is no time zone: write \"Europe/Berlin\" or \"UTC\""))
    }
}

impl TryFrom<String> for Zone {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.to_string()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Day::Mon => "mon",
            Day::Tue => "tue",
            Day::Wed => "wed",
            Day::Thu => "thu",
            Day::Fri => "fri",
            Day::Sat => "sat",
            Day::Sun => "sun",
        })
    }
}

impl fmt::Display for Blackout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days.is_empty() {
            f.write_str("daily")?;
        }
        let days: Vec<String> = self.days.iter().map(Day::to_string).collect();
        let clock = |time: &Time| time.strftime("%H:%M").to_string();
        write!(
            f,
            "{} {}-{}",
            days.join(","),
            clock(&self.from),
            clock(&self.to)
        )
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            When::Rpo(rpo) => write!(f, "never older than {rpo}"),
            When::Cron {
                times,
                within,
                misfire,
            } => {
                let missed = match misfire {
                    Misfire::Once => "once",
                    Misfire::Skip => "skip",
                };
                write!(f, "at {times} within {within}, missed: {missed}")
            }
        }
    }
}

/// `08:00` and nothing else.
mod clock {
    use jiff::civil::Time;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(time: &Time, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&time.strftime("%H:%M"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Time, D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?} is no time of the day: write \"08:00\" to \"23:59\""
            ))
        })
    }

    fn parse(text: &str) -> Option<Time> {
        let (hour, minute) = text.split_once(':')?;
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(hour) || !digits(minute) {
            return None;
        }
        Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
    }
}

#[cfg(test)]
mod tests;
