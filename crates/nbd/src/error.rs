//! Why a connection ended before its client said so.

/// What ends a connection; the exports and other connections live on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream broke.
    #[error("lost the connection of an nbd client")]
    Stream(#[from] std::io::Error),
    /// The client does not speak the protocol.
    #[error("an nbd client breaks the protocol: {0}")]
    Protocol(&'static str),
}
