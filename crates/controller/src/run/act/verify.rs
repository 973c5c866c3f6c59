//! Proving a point: a proxy with the key reads all of it and writes nothing.

use stillwater_proxy_api as proxy_api;
use stillwater_rpc::grant::Verb;
use stillwater_types::{Fault, TransferId};

use super::Act;
use super::transfer::Ordered;
use crate::run::cause::Cause;
use crate::run::event::{Damage, RunEvent};
use crate::run::transport::Account;

/// What a verification tells for a transport: it reaches nothing but the repository.
pub(super) const STORED: &str = "stored";

/// What a proxy found damaged of a disk.
pub(super) struct Damages {
    pub(super) bytes: u64,
    pub(super) chunk_count: u64,
    pub(super) areas: Vec<proxy_api::DamagedArea>,
}

impl Act {
    pub(super) fn order_verification(&self, key: i32) -> Result<Ordered, Fault> {
        let root = self.stored_root(key)?;
        Ok(Ordered {
            work: proxy_api::Work::Verify(proxy_api::Verify { root }),
            verbs: [Verb::Read].into(),
            ways: vec![STORED],
            lease: None,
            fallbacks: Vec::new(),
            account: Account::default(),
        })
    }
}

/// What is to be journalled of damage; nothing when there is none.
pub(super) fn damage(disk: i32, transfer: TransferId, found: Damages) -> Option<RunEvent> {
    let Damages {
        bytes,
        chunk_count,
        areas,
    } = found;
    let damage = Damage { bytes, chunk_count };
    (damage != Damage::default()).then(|| RunEvent::DamageFound {
        disk,
        transfer,
        damage,
        parts: areas.into_iter().map(|area| part(disk, area)).collect(),
    })
}

fn part(disk: i32, damaged: proxy_api::DamagedArea) -> Cause {
    let proxy_api::DamagedArea { area, fault } = damaged;
    let message = format!(
        "disk {disk} is damaged at {}, {} bytes: {}",
        area.start, area.length, fault.message
    );
    let told = Fault { message, ..fault };
    let told = told.with("disk", disk).with("offset_bytes", area.start);
    told.with("length_bytes", area.length).into()
}
