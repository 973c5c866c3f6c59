//! The messages of fixed size that set a session up, before frames begin.
//!
//! Each is a type, a body and zeros up to 264 bytes. The client says 43, 33, 51, 54 (and two names
//! behind it), 55, 52; the host answers 33 by 36, and 51 and 52 by themselves. At the end the client
//! says 4.

use super::Violation;
use super::bytes::{put, u32_at};

/// Every message has so many bytes.
pub const MESSAGE_BYTES: usize = 264;
/// The version that is spoken here.
pub const VERSION: u32 = 11;

/// Names that hosts were seen to take.
const CLIENT_NAME: &str = "vddk";
const OPERATION_NAME: &str = "nbdmode";

const COMPLETE: u32 = 4;
const PARAMETERS: u32 = 33;
const PARAMETERS_REPLY: u32 = 36;
const HANDSHAKE: u32 = 43;
const VERSION_TYPE: u32 = 51;
const OPEN_AIO: u32 = 52;
const CONNECTION_DATA: u32 = 54;
const FEATURES: u32 = 55;

/// A message.
pub type Message = [u8; MESSAGE_BYTES];

fn message(kind: u32) -> Message {
    let mut message = [0; MESSAGE_BYTES];
    put(&mut message, 0, kind.to_le_bytes());
    message
}

/// Begins.
pub fn handshake() -> Message {
    let mut message = message(HANDSHAKE);
    put(&mut message, 4, *b"PlainText");
    message
}

/// Asks for the session's parameters.
pub fn parameters() -> Message {
    message(PARAMETERS)
}

/// Says which version is spoken.
pub fn version() -> Message {
    let mut message = message(VERSION_TYPE);
    put(&mut message, 4, VERSION.to_le_bytes());
    message
}

/// Says who connects and what for; the two names follow the message unframed.
pub fn connection_data() -> Vec<u8> {
    let mut message = message(CONNECTION_DATA);
    put(&mut message, 4, (CLIENT_NAME.len() as u32).to_le_bytes());
    put(&mut message, 8, (OPERATION_NAME.len() as u32).to_le_bytes());
    [&message, CLIENT_NAME.as_bytes(), OPERATION_NAME.as_bytes()].concat()
}

/// Says what the client can do.
pub fn features() -> Message {
    let mut message = message(FEATURES);
    put(&mut message, 4, 3u32.to_le_bytes());
    message
}

/// Asks for frames.
pub fn open_aio() -> Message {
    message(OPEN_AIO)
}

/// Ends.
pub fn complete() -> Message {
    message(COMPLETE)
}

fn expect(message: &Message, expected: u32) -> Result<(), Violation> {
    let found = u32_at(message, 0).unwrap_or_default();
    match found == expected {
        true => Ok(()),
        false => Err(Violation::Message { expected, found }),
    }
}

/// Checks the answer to [`parameters`].
///
/// # Errors
/// When it is another message, or does not agree.
pub fn check_parameters(message: &Message) -> Result<(), Violation> {
    expect(message, PARAMETERS_REPLY)?;
    match u32_at(message, 16) {
        Some(1) => Ok(()),
        found => Err(Violation::Parameters(found.unwrap_or_default())),
    }
}

/// Reads the host's version from its answer to [`version`]. One that is newer speaks ours.
///
/// # Errors
/// When it is another message or an older version.
pub fn check_version(message: &Message) -> Result<u32, Violation> {
    expect(message, VERSION_TYPE)?;
    match u32_at(message, 4).unwrap_or_default() {
        found @ VERSION.. => Ok(found),
        found => Err(Violation::Version(found)),
    }
}

/// Checks the answer to [`open_aio`].
///
/// # Errors
/// When it is another message.
pub fn check_open_aio(message: &Message) -> Result<(), Violation> {
    expect(message, OPEN_AIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Zeros to the full size behind what a table says.
    fn padded(body: &[u8]) -> Vec<u8> {
        let mut message = body.to_vec();
        message.resize(264, 0);
        message
    }

    #[test]
    fn messages_of_the_client_are_byte_for_byte_what_the_tables_say() {
        assert_eq!(handshake()[..], padded(b"\x2b\0\0\0PlainText"));
        assert_eq!(parameters()[..], padded(&[0x21, 0, 0, 0]));
        assert_eq!(version()[..], padded(&[0x33, 0, 0, 0, 11, 0, 0, 0]));
        let mut data = padded(&[0x36, 0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0]);
        data.extend(b"vddknbdmode");
        assert_eq!(connection_data(), data);
        assert_eq!(features()[..], padded(&[0x37, 0, 0, 0, 3, 0, 0, 0]));
        assert_eq!(open_aio()[..], padded(&[0x34, 0, 0, 0]));
        assert_eq!(complete()[..], padded(&[4, 0, 0, 0]));
    }

    fn from_host(body: &[u8]) -> Message {
        padded(body).try_into().expect("264 bytes")
    }

    #[test]
    fn messages_of_the_host_are_read_as_the_tables_say() {
        let mut reply = from_host(&[0x24, 0, 0, 0]);
        assert_eq!(check_parameters(&reply), Err(Violation::Parameters(0)));
        reply[16] = 1;
        assert_eq!(check_parameters(&reply), Ok(()));
        let reply = from_host(&[0x33, 0, 0, 0, 11, 0, 0, 0]);
        assert_eq!(check_version(&reply), Ok(11));
        assert_eq!(check_open_aio(&from_host(&[0x34])), Ok(()));
    }

    #[test]
    fn a_host_that_is_too_old_or_says_something_else_is_refused() {
        let older = from_host(&[0x33, 0, 0, 0, 10, 0, 0, 0]);
        assert_eq!(check_version(&older), Err(Violation::Version(10)));
        let newer = from_host(&[0x33, 0, 0, 0, 12, 0, 0, 0]);
        assert_eq!(check_version(&newer), Ok(12));
        let other = |expected| Violation::Message { expected, found: 4 };
        let message = from_host(&[4]);
        assert_eq!(check_parameters(&message), Err(other(36)));
        assert_eq!(check_version(&message), Err(other(51)));
        assert_eq!(check_open_aio(&message), Err(other(52)));
    }
}
