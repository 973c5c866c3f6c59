//! Bytes of a message by its name, for whoever throws bytes at a protocol.

use prost::Message;

use crate::FieldError;

/// What became of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// They are no such message.
    NoMessage,
    /// A field is malformed.
    Refused,
    /// They were taken.
    Taken,
}

/// Takes bytes as a message of that kind, and demands that what is taken is taken again as it is sent.
///
/// # Panics
/// When what was taken is refused, or is another, once it is sent.
pub fn arrive<P, T>(bytes: &[u8]) -> Arrival
where
    P: Message + Default + PartialEq + Clone + From<T>,
    T: TryFrom<P, Error = FieldError>,
{
    let Ok(message) = P::decode(bytes) else {
        return Arrival::NoMessage;
    };
    let Ok(taken) = T::try_from(message) else {
        return Arrival::Refused;
    };
    let sent = P::from(taken);
    let read = P::decode(sent.encode_to_vec().as_slice()).expect("what is sent can be read");
    let again = T::try_from(read).map(P::from);
    let name = std::any::type_name::<P>();
    match again {
        Ok(again) => assert!(again == sent, "{name} changed on its way"),
        Err(error) => panic!("{name} was taken and is refused as it is sent: {error}"),
    }
    Arrival::Taken
}

/// Lists the messages of a protocol with what they become, as a function that takes bytes for one of them.
#[macro_export]
macro_rules! arrivals {
    ($pb:ident: $($message:ident => $domain:ty),* $(,)?) => {
        /// Takes bytes as the message of that name; none if no call takes or answers it.
        pub fn arrive(message: &str, bytes: &[u8]) -> Option<$crate::arrive::Arrival> {
            match message {
                $(stringify!($message) => {
                    Some($crate::arrive::arrive::<$pb::$message, $domain>(bytes))
                })*
                _ => None,
            }
        }
    };
}
