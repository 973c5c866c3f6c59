//! Live sessions: one client per vCenter, shared by everything that talks to it.

use std::collections::HashMap;
use std::sync::Arc;

use stillwater_types::{Fault, VcenterId};
use stillwater_vsphere::Client;

use crate::memory::Memory;
use crate::secret::Secrets;

/// Gives out the shared client of each registered vCenter; clones share the clients.
#[derive(Clone)]
pub struct Sessions {
    memory: Memory,
    secrets: Secrets,
    clients: Arc<tokio::sync::Mutex<HashMap<VcenterId, Arc<Client>>>>,
}

impl Sessions {
    /// No session yet; each begins when it is first asked for.
    pub fn new(memory: Memory, secrets: Secrets) -> Self {
        Self { memory, secrets, clients: Arc::default() }
    }

    /// The client of that vCenter, logged in. It logs in again by itself when its session ends.
    ///
    /// # Errors
    /// `VCENTER_NOT_FOUND`, and those of a login.
    pub async fn client(&self, vcenter: VcenterId) -> Result<Arc<Client>, Fault> {
        let state = self.memory.state();
        let registered = state.vcenters.find(vcenter)?;
        let mut clients = self.clients.lock().await;
        if let Some(client) = clients.get(&vcenter) {
            return Ok(client.clone());
        }
        let client = Arc::new(super::login(&self.secrets, registered).await?);
        clients.insert(vcenter, client.clone());
        Ok(client)
    }
}
