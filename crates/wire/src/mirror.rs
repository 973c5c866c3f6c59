//! Mirrors that differ in nothing but their names.
//!
//! Each macro takes the generated module first. Messages are destructured, so that a field added to
//! the protocol cannot be forgotten.

/// Structs whose fields have the same names and types on both sides.
#[macro_export]
macro_rules! alike {
    ($pb:ident: $($name:ident { $($field:ident),* $(,)? })*) => {$(
        impl From<$name> for $pb::$name {
            fn from(domain: $name) -> Self {
                let $name { $($field),* } = domain;
                Self { $($field),* }
            }
        }

        impl TryFrom<$pb::$name> for $name {
            type Error = $crate::FieldError;

            fn try_from(message: $pb::$name) -> Result<Self, Self::Error> {
                let $pb::$name { $($field),* } = message;
                Ok(Self { $($field),* })
            }
        }
    )*};
}

/// Enums whose variants have the same names on both sides, zero left out.
#[macro_export]
macro_rules! words {
    ($pb:ident: $($name:ident { $($variant:ident),* $(,)? })*) => {$(
        impl $crate::Word for $name {
            fn number(self) -> i32 {
                match self { $($name::$variant => $pb::$name::$variant as i32),* }
            }

            fn from_number(number: i32) -> Option<Self> {
                match $pb::$name::try_from(number).ok()? {
                    $pb::$name::Unspecified => None,
                    $($pb::$name::$variant => Some($name::$variant)),*
                }
            }
        }
    )*};
}

/// Messages that are one field; the other side is that field's type.
#[macro_export]
macro_rules! wraps {
    ($pb:ident: $($kind:ident $message:ident.$field:ident: $domain:ty;)*) => {$(
        $crate::wraps!(@$kind $pb $message $field $domain);
    )*};
    (@id $pb:ident $message:ident $field:ident $domain:ty) => {
        impl From<$domain> for $pb::$message {
            fn from($field: $domain) -> Self {
                Self { $field: $field.to_string() }
            }
        }

        impl TryFrom<$pb::$message> for $domain {
            type Error = $crate::FieldError;

            fn try_from(message: $pb::$message) -> Result<Self, Self::Error> {
                let $pb::$message { $field } = message;
                $crate::field::id(stringify!($field), &$field)
            }
        }
    };
    (@text $pb:ident $message:ident $field:ident $domain:ty) => {
        impl From<$domain> for $pb::$message {
            fn from($field: $domain) -> Self {
                Self { $field }
            }
        }

        impl TryFrom<$pb::$message> for $domain {
            type Error = $crate::FieldError;

            fn try_from(message: $pb::$message) -> Result<Self, Self::Error> {
                let $pb::$message { $field } = message;
                $crate::field::text(stringify!($field), $field)
            }
        }
    };
    (@message $pb:ident $message:ident $field:ident $domain:ty) => {
        impl From<$domain> for $pb::$message {
            fn from($field: $domain) -> Self {
                Self { $field: Some($field.into()) }
            }
        }

        impl TryFrom<$pb::$message> for $domain {
            type Error = $crate::FieldError;

            fn try_from(message: $pb::$message) -> Result<Self, Self::Error> {
                let $pb::$message { $field } = message;
                $crate::field::message(stringify!($field), $field)
            }
        }
    };
    (@messages $pb:ident $message:ident $field:ident $domain:ty) => {
        impl From<$domain> for $pb::$message {
            fn from($field: $domain) -> Self {
                Self { $field: $field.into_iter().map(Into::into).collect() }
            }
        }

        impl TryFrom<$pb::$message> for $domain {
            type Error = $crate::FieldError;

            fn try_from(message: $pb::$message) -> Result<Self, Self::Error> {
                let $pb::$message { $field } = message;
                $crate::field::messages(stringify!($field), $field)
            }
        }
    };
}

/// Messages without a field; the other side is `()`.
#[macro_export]
macro_rules! empty {
    ($pb:ident: $($message:ident)*) => {$(
        impl From<()> for $pb::$message {
            fn from((): ()) -> Self {
                Self {}
            }
        }

        impl TryFrom<$pb::$message> for () {
            type Error = $crate::FieldError;

            fn try_from(message: $pb::$message) -> Result<Self, Self::Error> {
                let $pb::$message {} = message;
                Ok(())
            }
        }
    )*};
}

/// Structs whose fields have the same names on both sides, each with how it crosses:
///
/// `plain` as it is · `id`, `maybe_id`, `ids` as text · `word`, `maybe_word` as a number · `text` must
/// say something, `words` a list of them · `maybe_text` is empty for none · `time`, `maybe_time` · `hash` a fixed number of
/// bytes, `hashes` any number of such · `bytes[MAX]` at least one and at most so many · `message`,
/// `maybe_message`, `messages` as converted themselves, `message_or_default` when it may be left out · `maybe_fault`,
/// `faults` that are told · `page[(DEFAULT, MAX)]` a number of rows, zero for the default.
#[macro_export]
macro_rules! mirror {
    ($pb:ident: $($name:ident { $($kind:ident $([$max:expr])? $field:ident),* $(,)? })*) => {$(
        impl From<$name> for $pb::$name {
            fn from(domain: $name) -> Self {
                let $name { $($field),* } = domain;
                Self { $($field: $crate::mirror!(@send $kind $field)),* }
            }
        }

        impl TryFrom<$pb::$name> for $name {
            type Error = $crate::FieldError;

            fn try_from(message: $pb::$name) -> Result<Self, Self::Error> {
                let $pb::$name { $($field),* } = message;
                Ok(Self { $($field: $crate::mirror!(@take $kind $([$max])? $field)),* })
            }
        }
    )*};
    (@send plain $field:ident) => { $field };
    (@take plain $field:ident) => { $field };
    (@send id $field:ident) => { $field.to_string() };
    (@take id $field:ident) => { $crate::field::id(stringify!($field), &$field)? };
    (@send maybe_id $field:ident) => { $field.map(|id| id.to_string()).unwrap_or_default() };
    (@take maybe_id $field:ident) => { $crate::field::maybe_id(stringify!($field), &$field)? };
    (@send ids $field:ident) => { $field.iter().map(|id| id.to_string()).collect() };
    (@take ids $field:ident) => { $crate::field::ids(stringify!($field), &$field)? };
    (@send word $field:ident) => { $crate::Word::number($field) };
    (@take word $field:ident) => { $crate::field::word(stringify!($field), $field)? };
    (@send words $field:ident) => { $field.into_iter().map($crate::Word::number).collect() };
    (@take words $field:ident) => {
        $field
            .into_iter()
            .map(|number| $crate::field::word(stringify!($field), number))
            .collect::<Result<_, _>>()?
    };
    (@send maybe_word $field:ident) => { $field.map($crate::Word::number).unwrap_or_default() };
    (@take maybe_word $field:ident) => { $crate::field::maybe_word(stringify!($field), $field)? };
    (@send text $field:ident) => { $field };
    (@take text $field:ident) => { $crate::field::text(stringify!($field), $field)? };
    (@send maybe_text $field:ident) => { $field.unwrap_or_default() };
    (@take maybe_text $field:ident) => { $crate::field::maybe_text($field) };
    (@send time $field:ident) => { Some($crate::field::moment($field)) };
    (@take time $field:ident) => { $crate::field::time(stringify!($field), $field)? };
    (@send maybe_time $field:ident) => { $field.map($crate::field::moment) };
    (@take maybe_time $field:ident) => { $crate::field::maybe_time(stringify!($field), $field)? };
    (@send hash $field:ident) => { $field.to_vec().into() };
    (@take hash $field:ident) => { $crate::field::hash(stringify!($field), &$field)? };
    (@send hashes $field:ident) => { $field.iter().map(|hash| hash.to_vec().into()).collect() };
    (@take hashes $field:ident) => {
        $field
            .iter()
            .map(|hash| $crate::field::hash(stringify!($field), hash))
            .collect::<Result<_, _>>()?
    };
    (@send bytes $field:ident) => { $field };
    (@take bytes[$max:expr] $field:ident) => {
        $crate::field::bytes(stringify!($field), $field, $max)?
    };
    (@send message $field:ident) => { Some($field.into()) };
    (@take message $field:ident) => { $crate::field::message(stringify!($field), $field)? };
    (@send message_or_default $field:ident) => { Some($field.into()) };
    (@take message_or_default $field:ident) => {
        $crate::field::maybe_message(stringify!($field), $field)?.unwrap_or_default()
    };
    (@send maybe_message $field:ident) => { $field.map(Into::into) };
    (@take maybe_message $field:ident) => {
        $crate::field::maybe_message(stringify!($field), $field)?
    };
    (@send messages $field:ident) => { $field.into_iter().map(Into::into).collect() };
    (@take messages $field:ident) => { $crate::field::messages(stringify!($field), $field)? };
    (@send maybe_fault $field:ident) => { $field.map(Into::into) };
    (@take maybe_fault $field:ident) => { $field.map(Into::into) };
    (@send faults $field:ident) => { $field.into_iter().map(Into::into).collect() };
    (@take faults $field:ident) => { $field.into_iter().map(Into::into).collect() };
    (@send page $field:ident) => { $field };
    (@take page[$sizes:expr] $field:ident) => {{
        let (default, max) = $sizes;
        $crate::field::page_size($field, default, max)
    }};
}

/// A fault that is told as a message with a reason, a text and details.
#[macro_export]
macro_rules! told_fault {
    ($pb:ident: $message:ident) => {
        impl From<stillwater_types::Fault> for $pb::$message {
            fn from(fault: stillwater_types::Fault) -> Self {
                let stillwater_types::Fault {
                    reason,
                    message,
                    details,
                } = fault;
                let reason = reason.as_str().to_owned();
                Self {
                    reason,
                    message,
                    details,
                }
            }
        }

        impl From<$pb::$message> for stillwater_types::Fault {
            fn from(told: $pb::$message) -> Self {
                let $pb::$message {
                    reason,
                    message,
                    details,
                } = told;
                $crate::field::fault(&reason, message, details)
            }
        }
    };
}
