//! `init`: a new cluster's ids and keys, made once.

use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use stillwater_catalog::{Clock, SystemClock};
use stillwater_rpc::grant::GrantSigner;
use stillwater_rpc::{Ca, NODE_VALIDITY, PendingKey};
use stillwater_seal::RecoveryKey;
use stillwater_service::config::{host_name, is_address};
use stillwater_types::{ClusterId, NodeId, Role};
use zeroize::Zeroizing;

use crate::charter::{Charter, Keys, Terms};
use crate::config::Config;
use crate::error::Error;
use crate::event::Actor;
use crate::home::{Cluster, Home};
use crate::kek;
use crate::memory::Memory;
use crate::node::mint;
use crate::secret::Secrets;

/// A cluster that is made but not in force: [`Draft::finish`] puts it in force.
///
/// In between the keys are handed over, so that no cluster can be in force whose recovery key
/// nobody has seen.
pub struct Draft {
    home: Home,
    setup: Cluster,
    /// What is told once.
    pub handover: Handover,
}

/// What an administrator is told once.
pub struct Handover {
    /// The cluster.
    pub cluster: ClusterId,
    /// Restores everything from the repositories alone.
    pub recovery_key: Zeroizing<String>,
    /// Lets the first administrator in.
    pub admin_token: Zeroizing<String>,
    /// Until when it does.
    pub admin_token_expires_at: Timestamp,
}

impl Draft {
    /// Makes the cluster's ids and keys beside where they will be in force. Blocks on the disk.
    ///
    /// # Errors
    /// [`Error::Initialised`] when the directory holds a cluster.
    pub fn make(
        config: &Config,
        advertise: Option<&str>,
        name: Option<&str>,
    ) -> Result<Self, Error> {
        let advertise = address(config, advertise)?;
        let home = Home::take(&config.state_dir)?;
        let setup = home.setup()?;
        let secrets = Secrets::new(kek::read_or_make(&config.kek())?);
        let now = SystemClock.now();
        let terms = Terms {
            node: NodeId::mint(),
            name: name
                .or(config.name.as_deref())
                .map_or_else(host_name, str::to_owned),
            advertise,
            created_at: now,
        };
        let recovery = RecoveryKey::generate()?;
        let keys = Keys {
            authority: Arc::new(Ca::create(ClusterId::mint(), now.into())?),
            grants: Arc::new(GrantSigner::generate()?),
            recovery: recovery.public()?,
        };
        certify(&keys.authority, terms.node, now.into())?.save(&setup.identity())?;
        let (admin_token, expires_at) = first_token(&setup, &keys.authority, &terms.advertise)?;
        Charter::seal(terms, &keys, &secrets)?.write(&setup.charter())?;
        let handover = Handover {
            cluster: keys.authority.cluster(),
            recovery_key: recovery.to_text()?,
            admin_token,
            admin_token_expires_at: expires_at,
        };
        Ok(Self {
            home,
            setup,
            handover,
        })
    }

    /// Puts the cluster in force.
    pub fn finish(self) -> Result<(), Error> {
        self.home.finish(self.setup).map(|_| ())
    }
}

/// Makes a token for an administrator who lost every other way in. The controller must be stopped:
/// its journal has one writer, and whoever can stop it may read its keys anyway.
pub fn admin_token(config: &Config) -> Result<(Zeroizing<String>, Timestamp), Error> {
    let home = Home::take(&config.state_dir)?;
    let cluster = home.cluster()?;
    let charter = Charter::read(&cluster.charter())?;
    let secrets = Secrets::new(kek::read(&config.kek())?);
    let keys = charter.open(&secrets)?;
    let advertise = config.advertise.as_deref().unwrap_or(&charter.advertise);
    first_token(&cluster, &keys.authority, advertise)
}

fn first_token(
    cluster: &Cluster,
    authority: &Ca,
    advertise: &str,
) -> Result<(Zeroizing<String>, Timestamp), Error> {
    let memory = Memory::open(&cluster.memory(), Arc::new(SystemClock))?;
    let (token, event, expires_at) = mint(advertise, authority, Role::Admin, memory.now())?;
    memory.append_blocking(Actor::Console, event)?;
    Ok((token.to_text(), expires_at))
}

fn certify(
    authority: &Ca,
    node: NodeId,
    now: SystemTime,
) -> Result<stillwater_rpc::Identity, Error> {
    let (key, request) = PendingKey::generate()?;
    let chain = authority.issue(&request, Role::Controller, node, NODE_VALIDITY, now)?;
    Ok(key.certify(&chain)?)
}

fn address(config: &Config, advertise: Option<&str>) -> Result<String, Error> {
    let address = advertise
        .or(config.advertise.as_deref())
        .ok_or(Error::NoAddress)?;
    match is_address(address) {
        true => Ok(address.to_owned()),
        false => Err(Error::BadAddress(address.to_owned())),
    }
}
