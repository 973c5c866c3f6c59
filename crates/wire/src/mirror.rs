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
