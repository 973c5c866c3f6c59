//! How the proxy comes to the bytes of the disk.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use stillwater_tests::cluster::{Role, rows, text, wait};
use stillwater_tests::{Cluster, Lab};

/// By which way the proxy reads the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// The datastore is mounted on the proxy: a file, as the peers read one.
    File,
    /// From the host by HTTPS, whose TLS the peers do not pay.
    Folder,
}

impl Way {
    /// How tables call it.
    pub const fn name(self) -> &'static str {
        match self {
            Way::File => "a mounted datastore",
            Way::Folder => "from the host by HTTPS",
        }
    }

    /// Lets the proxy go this way.
    pub fn open(self, lab: &Lab, cluster: &mut Cluster) -> Result<()> {
        if self == Way::Folder {
            return Ok(());
        }
        let datastore = json!({"datastore": "lab-ds"});
        let mount = text(&lab.control("POST", "/mounts", Some(&datastore))?, "path")?;
        let config = format!("[transports]\ndatastores = {{ lab-ds = {mount:?} }}");
        cluster.stop_role(Role::Proxy)?;
        cluster.configure(Role::Proxy, &config)?;
        cluster.start_role(Role::Proxy)?;
        wait("the proxy reaches it", Duration::from_secs(60), || {
            let nodes = rows(&cluster.json(&["node", "list"])?);
            let reaches = |node: &Value| !rows(&node["reach"]["datastores"]).is_empty();
            Ok(nodes.iter().any(reaches).then_some(()))
        })
    }

    /// A run that went otherwise measured something else.
    pub fn check(self, run: &Value) -> Result<()> {
        let transport = match self {
            Way::File => "file",
            Way::Folder => "folder",
        };
        for disk in rows(&run["disks"]) {
            ensure!(
                disk["transport"] == transport,
                "not by {transport}: {disk:#}"
            );
        }
        Ok(())
    }
}
