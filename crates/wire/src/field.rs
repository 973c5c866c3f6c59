//! Checks on what arrives. Each fault names the field, so that the other end can be mended.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use stillwater_types::{Fault, InvalidId, Reason};

/// A field that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    reason: Reason,
    path: String,
    why: String,
}

impl FieldError {
    /// `field` is missing or malformed.
    pub fn new(field: &str, why: impl fmt::Display) -> Self {
        Self {
            reason: Reason::BadField,
            path: field.to_owned(),
            why: why.to_string(),
        }
    }

    /// As [`FieldError::new`], for a cause that has a reason of its own.
    pub fn because(reason: Reason, field: &str, why: impl fmt::Display) -> Self {
        Self {
            reason,
            ..Self::new(field, why)
        }
    }

    /// The same error seen from the message around: `within` is the field that holds this one.
    #[must_use]
    pub fn within(mut self, within: &str) -> Self {
        self.path = format!("{within}.{}", self.path);
        self
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field {} {}", self.path, self.why)
    }
}

impl std::error::Error for FieldError {}

impl From<FieldError> for Fault {
    fn from(error: FieldError) -> Self {
        Fault::new(error.reason, error.to_string()).with("field", error.path)
    }
}

/// An enum whose numbers cross the wire.
pub trait Word: Sized {
    /// The number as the protocol has it.
    fn number(self) -> i32;

    /// Reads a number; `None` for zero and for numbers of a newer release.
    fn from_number(number: i32) -> Option<Self>;
}

/// An enum that must say something.
pub fn word<T: Word>(field: &str, number: i32) -> Result<T, FieldError> {
    T::from_number(number)
        .ok_or_else(|| FieldError::new(field, format_args!("has no meaning for {number}")))
}

/// An enum where zero means that there is nothing to say.
pub fn maybe_word<T: Word>(field: &str, number: i32) -> Result<Option<T>, FieldError> {
    (number != 0).then(|| word(field, number)).transpose()
}

/// A message that must be there.
pub fn message<P, T>(field: &str, message: Option<P>) -> Result<T, FieldError>
where
    T: TryFrom<P, Error = FieldError>,
{
    let message = message.ok_or_else(|| FieldError::new(field, "is missing"))?;
    T::try_from(message).map_err(|error| error.within(field))
}

/// A message that may be there.
pub fn maybe_message<P, T>(field: &str, message: Option<P>) -> Result<Option<T>, FieldError>
where
    T: TryFrom<P, Error = FieldError>,
{
    message
        .map(T::try_from)
        .transpose()
        .map_err(|error| error.within(field))
}

/// Any number of messages.
pub fn messages<P, T>(field: &str, messages: Vec<P>) -> Result<Vec<T>, FieldError>
where
    T: TryFrom<P, Error = FieldError>,
{
    let all: Result<_, _> = messages.into_iter().map(T::try_from).collect();
    all.map_err(|error: FieldError| error.within(field))
}

/// One of several; the field that says which must be there.
pub fn choice<T>(field: &str, choice: Option<T>) -> Result<T, FieldError> {
    choice.ok_or_else(|| FieldError::new(field, "is missing"))
}

/// An id.
pub fn id<T: FromStr<Err = InvalidId>>(field: &str, text: &str) -> Result<T, FieldError> {
    text.parse()
        .map_err(|error| FieldError::new(field, format_args!("is malformed: {error}")))
}

/// An id that may be absent.
pub fn maybe_id<T: FromStr<Err = InvalidId>>(
    field: &str,
    text: &str,
) -> Result<Option<T>, FieldError> {
    (!text.is_empty()).then(|| id(field, text)).transpose()
}

/// Any number of ids.
pub fn ids<T: FromStr<Err = InvalidId>>(
    field: &str,
    texts: &[String],
) -> Result<Vec<T>, FieldError> {
    texts.iter().map(|text| id(field, text)).collect()
}

/// A text that must say something.
pub fn text(field: &str, text: String) -> Result<String, FieldError> {
    if text.is_empty() {
        return Err(FieldError::new(field, "is missing"));
    }
    Ok(text)
}

/// A text that may be absent.
pub fn maybe_text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Exactly `N` bytes.
pub fn hash<const N: usize>(field: &str, bytes: &[u8]) -> Result<[u8; N], FieldError> {
    let found = bytes.len();
    let why = || FieldError::new(field, format_args!("must have {N} bytes and has {found}"));
    bytes.try_into().map_err(|_| why())
}

/// Ids of 32 bytes each, one after the other, at most `max` of them.
pub fn hashes(field: &str, bytes: &[u8], max: usize) -> Result<Vec<[u8; 32]>, FieldError> {
    let (ids, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(FieldError::new(field, "must be ids of 32 bytes each"));
    }
    if ids.len() > max {
        let found = ids.len();
        return Err(FieldError::new(
            field,
            format_args!("has {found} ids, at most {max} go"),
        ));
    }
    Ok(ids.to_vec())
}

/// At least one byte and at most `max`.
pub fn bytes<B: AsRef<[u8]>>(field: &str, bytes: B, max: usize) -> Result<B, FieldError> {
    match bytes.as_ref().len() {
        0 => Err(FieldError::new(field, "is missing")),
        found if found > max => Err(FieldError::new(
            field,
            format_args!("has {found} bytes, at most {max} go"),
        )),
        _ => Ok(bytes),
    }
}

/// A moment that must be there.
pub fn time(field: &str, moment: Option<prost_types::Timestamp>) -> Result<Timestamp, FieldError> {
    let moment = moment.ok_or_else(|| FieldError::new(field, "is missing"))?;
    let whole = Timestamp::new(moment.seconds, moment.nanos);
    // The protocol counts nanoseconds forward only, also before 1970.
    match whole {
        Ok(time) if moment.nanos >= 0 => Ok(time),
        _ => Err(FieldError::new(
            field,
            "is no moment between the years 1 and 9999",
        )),
    }
}

/// A moment that may be absent.
pub fn maybe_time(
    field: &str,
    moment: Option<prost_types::Timestamp>,
) -> Result<Option<Timestamp>, FieldError> {
    moment.map(|moment| time(field, Some(moment))).transpose()
}

/// How a moment is sent.
pub fn moment(time: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = (time.as_second(), time.subsec_nanosecond());
    match nanos < 0 {
        true => prost_types::Timestamp {
            seconds: seconds - 1,
            nanos: nanos + 1_000_000_000,
        },
        false => prost_types::Timestamp { seconds, nanos },
    }
}

/// A page size as the caller may ask for it: `default` when it does not say, never above `max`.
pub fn page_size(asked: u32, default: u32, max: u32) -> u32 {
    match asked {
        0 => default,
        asked => asked.min(max),
    }
}

/// A fault that is told as part of a message.
///
/// A reason of a newer release becomes `NOT_SUPPORTED` and stays readable in the details.
pub fn fault(
    reason: &str,
    message: String,
    details: std::collections::BTreeMap<String, String>,
) -> Fault {
    match Reason::parse(reason) {
        Some(reason) => Fault {
            reason,
            message,
            details,
        },
        None => Fault {
            reason: Reason::NotSupported,
            message,
            details,
        }
        .with("reason", reason),
    }
}

#[cfg(test)]
mod tests;
