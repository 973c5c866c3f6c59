//! Where a VM runs, and what is within reach there.

use crate::client::Client;
use crate::reference::Moref;
use crate::{DatastoreKind, DatastoreRef, HostRef, Result, VmRef};

const PRODUCT: &str = "summary.config.product";

/// Where a VM runs, and what is within reach there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Its host.
    pub host: HostRef,
    /// The host's name.
    pub host_name: String,
    /// Such as `8.0.2`; empty when the server has never seen the host connected.
    pub version: String,
    /// The host's build number; none when it is not told.
    pub build: Option<u32>,
    /// What the host mounts.
    pub datastores: Vec<DatastoreRef>,
    /// Whether files of the VM itself lie on vSAN.
    pub is_on_vsan: bool,
}

impl Client {
    /// Where a VM runs; none when it is on no host.
    pub async fn seat(&self, vm: &VmRef) -> Result<Option<Seat>> {
        let read = self.read_vm(vm, &["runtime.host", "datastore"]).await?;
        let Some(host) = read.moref("runtime.host")? else {
            return Ok(None);
        };
        let mut is_on_vsan = false;
        for moref in read.morefs("datastore")? {
            let datastore = self.datastore(&DatastoreRef::new(moref.value)).await?;
            is_on_vsan |= datastore.kind == DatastoreKind::Vsan;
        }
        let seat = self.seat_on(&host).await?;
        Ok(Some(Seat { is_on_vsan, ..seat }))
    }

    async fn seat_on(&self, host: &Moref) -> Result<Seat> {
        let read = self.read(host, &["name", "datastore", PRODUCT]).await?;
        let product = |field: &str| read.get(PRODUCT)?.optional(field);
        let datastores = read.morefs("datastore")?.into_iter();
        Ok(Seat {
            host: HostRef::new(&host.value),
            host_name: read.text("name").unwrap_or_default(),
            version: product("version").unwrap_or_default(),
            build: product("build").and_then(|build| build.parse().ok()),
            datastores: datastores
                .map(|moref| DatastoreRef::new(moref.value))
                .collect(),
            is_on_vsan: false,
        })
    }
}
