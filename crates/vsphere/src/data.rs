//! The right to move one VM's disks, without the password.

use secrecy::SecretString;

use crate::client::{Client, Session};
use crate::server::http_client;
use crate::{Result, Trust, VmRef};

/// A session of its own for the data plane of one run.
///
/// The controller opens it and hands it to a proxy, which never sees the password. It ends with
/// [`Client::close_data_access`](crate::Client::close_data_access).
#[derive(Debug, Clone)]
pub struct DataAccess {
    /// `host` or `host:port` of the vCenter or host.
    pub address: String,
    /// The session's cookie as the `Cookie` header carries it: name, equals sign, value.
    pub cookie: SecretString,
    /// How the server's certificate is checked.
    pub trust: Trust,
    /// Inventory path of the datacenter whose datastores are meant, such as `/DC0`.
    pub datacenter: String,
}

impl DataAccess {
    /// An HTTP client that trusts as [`DataAccess::trust`] says, follows no redirect and uses no
    /// proxy of the environment. Only files of datastores are fetched with it.
    pub fn http_client(&self) -> Result<reqwest::Client> {
        http_client(&self.address, &self.trust)
    }
}

impl Client {
    /// Logs in once more, for the data plane of one run on this VM.
    pub async fn open_data_access(&self, vm: &VmRef) -> Result<DataAccess> {
        let datacenter = self.datacenter_of(vm).await?;
        let endpoint = self.endpoint();
        Ok(DataAccess {
            address: endpoint.address.clone(),
            cookie: self.login().await?,
            trust: endpoint.trust.clone(),
            datacenter,
        })
    }

    /// Keeps the session of a data plane alive: call it at least every ten minutes, since moving
    /// data does not. A session that is over is a fault of kind `NotAuthenticated`.
    pub async fn keep_data_access_alive(&self, access: &DataAccess) -> Result<()> {
        let session = Session {
            cookie: access.cookie.clone(),
        };
        self.touch(&session).await
    }

    /// Ends the session of a data plane. One that expired is no error.
    pub async fn close_data_access(&self, access: &DataAccess) -> Result<()> {
        self.end(&access.cookie).await
    }
}
