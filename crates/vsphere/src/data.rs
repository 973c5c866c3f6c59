//! The right to move one VM's disks, without the password.

use secrecy::SecretString;

use crate::Trust;

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
