//! From a fresh channel to an open disk: one message after the other.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Error;
use super::error::{Act, Code, Result, Violation};
use super::frame::{self, Access, HEADER_BYTES, Header, Kind, Opened};
use super::session::{self, MESSAGE_BYTES, Message};

/// Frames of this module take the operations before this one.
pub(super) const FIRST_OPERATION: u32 = 4;
/// How much of an error's payload is shown.
const SHOWN_BYTES_MAX: usize = 32;

/// Sets a session up and opens the disk at `path`.
pub(super) async fn open<S>(stream: &mut S, path: &str, access: Access) -> Result<Opened>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    begin(stream).await?;
    call(stream, Act::OpenSession, 0, &frame::open_session(0)).await?;
    call(stream, Act::OpenSession, 1, &frame::socket_options(1)).await?;
    call(stream, Act::OpenSession, 2, &frame::resource_pool(2)).await?;
    let request = frame::open_file(3, path, access);
    let payload = call(stream, Act::OpenFile, 3, &request).await?;
    Ok(Opened::decode(&payload, access)?)
}

async fn begin<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<()> {
    send(stream, &session::handshake()).await?;
    send(stream, &session::parameters()).await?;
    session::check_parameters(&message(stream).await?)?;
    send(stream, &session::version()).await?;
    let version = session::check_version(&message(stream).await?)?;
    tracing::debug!(version, "the host speaks nfc");
    send(stream, &session::connection_data()).await?;
    send(stream, &session::features()).await?;
    send(stream, &session::open_aio()).await?;
    Ok(session::check_open_aio(&message(stream).await?)?)
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes).await.map_err(Error::lost)?;
    stream.flush().await.map_err(Error::lost)
}

async fn message<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Message> {
    let mut message = [0; MESSAGE_BYTES];
    stream.read_exact(&mut message).await.map_err(Error::lost)?;
    Ok(message)
}

/// Sends a frame and reads the payload of its reply, which has the same type.
async fn call<S>(stream: &mut S, act: Act, operation: u32, request: &[u8]) -> Result<Vec<u8>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send(stream, request).await?;
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await.map_err(Error::lost)?;
    let header = Header::decode(&header)?;
    let mut payload = vec![0; header.payload_bytes as usize];
    stream.read_exact(&mut payload).await.map_err(Error::lost)?;
    if header.operation != operation {
        return Err(Violation::UnknownOperation(header.operation).into());
    }
    match header.kind {
        Kind::Error => Err(refused(act, &payload)),
        kind if asks(request, kind) => Ok(payload),
        kind => Err(Violation::WrongReply {
            operation,
            found: kind.number(),
        }
        .into()),
    }
}

/// Whether a request is of this type.
fn asks(request: &[u8], kind: Kind) -> bool {
    super::bytes::u32_at(request, 4) == Some(kind.number())
}

/// What an error frame says.
pub(super) fn refused(act: Act, payload: &[u8]) -> Error {
    let shown = payload.get(..SHOWN_BYTES_MAX).unwrap_or(payload);
    let code = Code {
        number: super::bytes::u32_at(payload, 0),
        payload: data_encoding::HEXLOWER.encode(shown),
    };
    Error::Refused { act, code }
}
