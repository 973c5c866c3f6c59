//! A repository that has joined, and those who call it: keys, certificates, configuration.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use stillwater_repository::config::Config;
use stillwater_repository::{engine, join};
use stillwater_repository_api::{Authority, Client};
use stillwater_rpc::grant::{Claims, GrantSigner, Verb};
use stillwater_rpc::{Ca, Identity, NODE_VALIDITY, PendingKey, Target, connect};
use stillwater_store::{Environment, Options, Store};
use stillwater_types::{ClusterId, DatasetId, Fault, NodeId, Role, RunId};

use crate::clock::Ahead;
use crate::knock::{Knocked, Without};

/// Everything outside the disk whose power is cut.
pub struct Setting {
    dir: PathBuf,
    repository: Identity,
    controller: Identity,
    proxy: Identity,
    signer: GrantSigner,
    /// Where the repository answers.
    pub address: String,
    /// Its one dataset.
    pub dataset: DatasetId,
}

impl Setting {
    /// Makes a cluster's authority and everyone's certificates, and keeps in `dir` what a repository
    /// keeps after it joined.
    pub fn new(dir: &Path) -> Result<Self> {
        let authority = Ca::create(ClusterId::mint(), SystemTime::now())?;
        let repository = identity(&authority, Role::Repository)?;
        let signer = GrantSigner::generate()?;
        fs::create_dir_all(dir)?;
        repository.save(&config(dir, dir, "127.0.0.1:1")?.identity_dir())?;
        let key = data_encoding::HEXLOWER.encode(&signer.public_key());
        fs::write(dir.join("grant-key"), key)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        Ok(Self {
            dir: dir.to_owned(),
            repository,
            controller: identity(&authority, Role::Controller)?,
            proxy: identity(&authority, Role::Proxy)?,
            signer,
            address,
            dataset: DatasetId::mint(),
        })
    }

    /// Writes the configuration of a process whose store is in `store`.
    pub fn configure(&self, store: &Path) -> Result<PathBuf> {
        let path = self.dir.join("repository.toml");
        fs::write(&path, text(&self.dir, store, &self.address))
            .context("write the configuration")?;
        Ok(path)
    }

    /// Where the process writes its log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("repository.log")
    }

    /// Says how far the clocks of the process are ahead, if it is asked to look there.
    pub fn clock(&self) -> PathBuf {
        self.dir.join("ahead")
    }

    /// Makes the repository in `store`.
    pub fn init(&self, store: &Path, without: &Without) -> Result<()> {
        let environment = environment(store, without, None)?;
        let options = config(&self.dir, store, &self.address)?.options();
        Store::init(&environment, &options, join::owner(&self.repository))?;
        Ok(())
    }

    /// Calls as the controller.
    pub fn controller(&self) -> Result<Client> {
        self.client(&self.controller)
    }

    /// Calls as the proxy.
    pub fn proxy(&self) -> Result<Client> {
        self.client(&self.proxy)
    }

    fn client(&self, identity: &Identity) -> Result<Client> {
        let target = Target {
            address: self.address.clone(),
            role: Role::Repository,
            node: Some(self.repository.node()),
        };
        Ok(Client::new(connect(identity, target)?))
    }

    /// Lets the proxy act for a run.
    pub fn authority(&self, run: RunId, fence: u64) -> Result<Authority> {
        let in_an_hour = SystemTime::now() + Duration::from_secs(3600);
        let claims = Claims {
            grant: *NodeId::mint().as_bytes(),
            run,
            dataset: self.dataset,
            repository: self.repository.node(),
            proxy: self.proxy.node(),
            verbs: [Verb::Find, Verb::Put, Verb::Read].into(),
            expires_at: in_an_hour.duration_since(UNIX_EPOCH)?.as_secs(),
        };
        Ok(Authority {
            grant: self.signer.sign(&claims).into(),
            run_id: run,
            fence,
        })
    }
}

fn identity(authority: &Ca, role: Role) -> Result<Identity> {
    let (key, request) = PendingKey::generate()?;
    let now = SystemTime::now();
    let chain = authority.issue(&request, role, NodeId::mint(), NODE_VALIDITY, now)?;
    Ok(key.certify(&chain)?)
}

fn text(state: &Path, store: &Path, address: &str) -> String {
    // Nobody answers as the controller: a repository works on without it.
    format!(
        "listen = \"{address}\"\ncontroller = \"127.0.0.1:1\"\nstate-dir = {state:?}\n\
         [store]\ndir = {store:?}\nreserve = \"1MiB\"\nretention = \"0s\"\n"
    )
}

/// The configuration that the process of [`Setting::configure`] reads.
fn config(state: &Path, store: &Path, address: &str) -> Result<Config> {
    toml::from_str(&text(state, store, address)).context("read the configuration")
}

/// What the engine is told, here and in the process.
pub fn options() -> Result<Options> {
    let nowhere = Path::new("/");
    Ok(config(nowhere, nowhere, "127.0.0.1:1")?.options())
}

/// What a store in `dir` takes from this machine, less some barriers, and with clocks that are ahead if
/// a file says so.
pub fn environment(
    dir: &Path,
    without: &Without,
    clock: Option<&Path>,
) -> Result<Environment, Fault> {
    let mut environment = engine::environment(dir)?;
    if !without.is_nothing() {
        environment.vfs = Arc::new(Knocked::new(environment.vfs, without.clone()));
    }
    if let Some(file) = clock {
        environment.clock = Arc::new(Ahead::new(environment.clock, file));
    }
    Ok(environment)
}
