//! Live sessions: one client per vCenter, shared by everything that talks to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use stillwater_seal::Purpose;
use stillwater_types::{Fault, Reason, VcenterId};
use stillwater_vsphere::{Client, Endpoint, Fingerprint};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{Trust, Vcenter};
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::secret::Secrets;

/// vCenter ends a session after 30 idle minutes by default, and transfers of disk data do not count
/// as use: ten minutes would do, half of it bears one lost call.
const KEEP_ALIVE: Duration = Duration::from_secs(5 * 60);

/// A login in progress or done: whoever asks meanwhile waits for the same one.
type Slot = Arc<OnceCell<Client>>;

/// Gives out the shared client of each registered vCenter; clones share the clients.
#[derive(Clone)]
pub struct Sessions {
    memory: Memory,
    secrets: Secrets,
    metrics: Metrics,
    slots: Arc<Mutex<HashMap<VcenterId, Slot>>>,
}

impl Sessions {
    /// No session yet; each begins when it is first asked for.
    pub fn new(memory: Memory, secrets: Secrets, metrics: Metrics) -> Self {
        Self {
            memory,
            secrets,
            metrics,
            slots: Arc::default(),
        }
    }

    /// The client of that vCenter, logged in. It logs in again by itself when its session ends.
    ///
    /// # Errors
    /// `VCENTER_NOT_FOUND`, and those of a login.
    pub async fn client(&self, vcenter: VcenterId) -> Result<Client, Fault> {
        let state = self.memory.state();
        let registered = state.vcenters.find(vcenter)?;
        let slot = self.slots().entry(vcenter).or_default().clone();
        slot.get_or_try_init(|| self.login(registered))
            .await
            .cloned()
    }

    /// The client of that vCenter if it is logged in already.
    pub fn live(&self, vcenter: VcenterId) -> Option<Client> {
        self.slots().get(&vcenter)?.get().cloned()
    }

    /// Logs in with the stored password, apart from the shared session.
    pub async fn login(&self, vcenter: &Vcenter) -> Result<Client, Fault> {
        let context = vcenter.vcenter.as_bytes();
        let password = self
            .secrets
            .open(Purpose::VcenterPassword, context, &vcenter.password)?;
        let endpoint = Endpoint {
            address: vcenter.address.clone(),
            username: vcenter.username.clone(),
            password: password_text(password)?,
            trust: vcenter.trust.clone().into(),
        };
        self.connect(endpoint)
            .await
            .map_err(|fault| fault.with("vcenter", &vcenter.name))
    }

    /// Logs in and counts it.
    pub(super) async fn connect(&self, endpoint: Endpoint) -> Result<Client, Fault> {
        let connected = Client::connect(endpoint).await.map_err(Fault::from);
        self.metrics.login(connected.as_ref().err());
        connected
    }

    /// Takes a session that was opened before its vCenter was registered.
    pub(super) fn adopt(&self, vcenter: VcenterId, client: Client) {
        let slot = Slot::new(OnceCell::new_with(Some(client)));
        self.slots().insert(vcenter, slot);
    }

    /// Ends the session of a vCenter that is no longer registered.
    pub(super) async fn forget(&self, vcenter: VcenterId) {
        let slot = self.slots().remove(&vcenter);
        if let Some(client) = slot.as_ref().and_then(|slot| slot.get()) {
            end(vcenter, client).await;
        }
    }

    /// Keeps every session alive until `cancel`, then ends them all.
    pub async fn keep_alive(&self, cancel: CancellationToken) {
        while cancel
            .run_until_cancelled(tokio::time::sleep(KEEP_ALIVE))
            .await
            .is_some()
        {
            for (vcenter, client) in self.clients() {
                if let Err(error) = client.keep_alive().await {
                    // The next call logs in again; whoever needs it then hears of the failure.
                    let fault = Fault::from(error);
                    tracing::warn!(vcenter.id = %vcenter, error = %fault, "session is not alive");
                }
            }
        }
        for (vcenter, client) in self.clients() {
            end(vcenter, &client).await;
        }
    }

    fn clients(&self) -> Vec<(VcenterId, Client)> {
        let slots = self.slots();
        slots
            .iter()
            .filter_map(|(id, slot)| Some((*id, slot.get()?.clone())))
            .collect()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<VcenterId, Slot>> {
        // Every change is one insert or remove, so a panic elsewhere leaves nothing half done.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session that is not ended is one of the few that vCenter allows, for half an hour.
pub(super) async fn end(vcenter: VcenterId, client: &Client) {
    if let Err(error) = client.logout().await {
        let fault = Fault::from(error);
        tracing::info!(vcenter.id = %vcenter, error = %fault, "session could not be ended");
    }
}

fn password_text(bytes: Zeroizing<Vec<u8>>) -> Result<SecretString, Fault> {
    std::str::from_utf8(&bytes)
        .map(SecretString::from)
        .map_err(|_| {
            Fault::new(
                Reason::SecretUnreadable,
                "the sealed password is not a text",
            )
        })
}

impl From<Trust> for stillwater_vsphere::Trust {
    fn from(trust: Trust) -> Self {
        match trust {
            Trust::Ca(pem) => Self::Ca(pem.into_bytes()),
            Trust::Pin(pin) => Self::Fingerprint(Fingerprint::from_bytes(pin.0)),
        }
    }
}
