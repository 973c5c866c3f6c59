//! Disks of a restore point as NBD exports on this machine: every tool that reads disks reads the point, with no copy.
//!
//! The bytes come from a proxy as they are asked for, over the connection that the administrator's certificate opens.
//! NBD itself is spoken on this machine only: on a unix socket, or on loopback.

mod disk;
mod overlay;

pub(crate) use disk::ServedDisk;
pub(crate) use overlay::Overlay;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stillwater_nbd::Export;
use stillwater_types::{Fault, Reason};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

/// Where clients connect.
pub(crate) enum Door {
    /// A socket file; it goes with the server.
    Unix(UnixListener, SocketFile),
    /// A port of loopback.
    Tcp(TcpListener),
}

/// Removes the socket file at the end.
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            crate::output::say(&format!("warning: remove {}: {error}", self.0.display()));
        }
    }
}

impl Door {
    /// Opens a socket file; it must not exist.
    pub fn unix(path: &Path) -> Result<Self, Fault> {
        let listener = UnixListener::bind(path).map_err(|error| {
            let text = format!("listen on {}: {error}", path.display());
            Fault::new(Reason::BadField, text).with("field", "socket")
        })?;
        // Whoever may read a point has a certificate: the socket is its owner's alone.
        let owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        let file = SocketFile(path.to_owned());
        std::fs::set_permissions(path, owner).map_err(|error| {
            let text = format!("keep {} to its owner: {error}", path.display());
            Fault::new(Reason::BadField, text).with("field", "socket")
        })?;
        Ok(Self::Unix(listener, file))
    }

    /// Opens a port; only on loopback, because NBD asks nobody who they are.
    pub async fn tcp(address: SocketAddr) -> Result<Self, Fault> {
        let bad = |text: String| Fault::new(Reason::BadField, text).with("field", "listen");
        if !address.ip().is_loopback() {
            return Err(bad(format!(
                "{address} is not on loopback: whoever reaches it would read the disks; forward the port by ssh instead"
            )));
        }
        let listener = TcpListener::bind(address).await;
        listener
            .map(Self::Tcp)
            .map_err(|error| bad(format!("listen on {address}: {error}")))
    }

    /// How clients name an export behind it.
    pub fn uri(&self, export: &str) -> String {
        match self {
            Self::Unix(_, SocketFile(path)) => {
                format!("nbd+unix:///{export}?socket={}", path.display())
            }
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => format!("nbd://{address}/{export}"),
                Err(_) => format!("nbd:///{export}"),
            },
        }
    }

    /// Serves whoever comes, until it is dropped.
    pub async fn serve(&self, exports: &[Arc<dyn Export>]) -> Result<(), Fault> {
        loop {
            let accepted = match self {
                Self::Unix(listener, _) => listener
                    .accept()
                    .await
                    .map(|(stream, _)| spawn(stream, exports)),
                Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                    // Small answers go at once.
                    stream.set_nodelay(true).ok();
                    spawn(stream, exports);
                }),
            };
            accepted
                .map_err(|error| Fault::new(Reason::Bug, format!("accept a client: {error}")))?;
        }
    }
}

fn spawn<S>(stream: S, exports: &[Arc<dyn Export>])
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let exports = exports.to_vec();
    tokio::spawn(async move {
        if let Err(error) = stillwater_nbd::serve(stream, &exports).await {
            crate::output::say(&format!("a client went: {error}"));
        }
    });
}
