//! Nodes of the base, asked for by a thread that cuts and must not wait on the network itself.

use bytes::Bytes;
use stillwater_types::TreeId;
use tokio::sync::{mpsc, oneshot};

use super::fetch::Stored;
use crate::error::{Error, Result};

struct Request {
    ids: Vec<TreeId>,
    answer: oneshot::Sender<Vec<Bytes>>,
}

/// The thread's end.
pub(super) struct Asker(mpsc::Sender<Request>);

/// The end that reads from the repository.
pub(super) struct Server(mpsc::Receiver<Request>);

pub(super) fn channel() -> (Asker, Server) {
    let (requests, server) = mpsc::channel(1);
    (Asker(requests), Server(server))
}

impl Asker {
    /// Waits for nodes, in the order asked. Whoever uses them proves them.
    pub(super) fn ask(&self, ids: Vec<TreeId>) -> Result<Vec<Bytes>> {
        let (answer, answered) = oneshot::channel();
        let request = Request { ids, answer };
        self.0.blocking_send(request).map_err(|_| Error::Stopped)?;
        answered.blocking_recv().map_err(|_| Error::Stopped)
    }
}

impl Server {
    /// Answers until the thread has ended.
    pub(super) async fn run(mut self, base: &Stored) -> Result<()> {
        while let Some(Request { ids, answer }) = self.0.recv().await {
            let nodes = base.nodes(&ids).await?;
            answer.send(nodes).map_err(|_| Error::Stopped)?;
        }
        Ok(())
    }
}
