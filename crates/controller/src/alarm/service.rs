//! Answers for alarms.

use async_trait::async_trait;
use stillwater_controller_api as api;
use stillwater_rpc::Peer;
use stillwater_types::Fault;

use super::{Alarm, Subject};
use crate::memory::Memory;

/// Tells what stands.
pub struct Service {
    memory: Memory,
}

impl Service {
    /// Tells of `memory`.
    pub fn new(memory: Memory) -> Self {
        Self { memory }
    }
}

#[async_trait]
impl api::AlarmService for Service {
    async fn list_alarms(
        &self,
        _peer: &Peer,
        request: api::ListAlarmsRequest,
    ) -> Result<Vec<api::Alarm>, Fault> {
        let state = self.memory.state();
        let alarms = state.alarms.iter();
        let wanted = alarms.filter(|alarm| request.include_cleared || alarm.stands());
        let mut told: Vec<api::Alarm> = wanted.map(|alarm| tell(alarm)).collect();
        told.sort_by_key(|alarm| alarm.raised_at);
        Ok(told)
    }
}

fn tell(alarm: &Alarm) -> api::Alarm {
    let Alarm {
        kind,
        subject,
        message,
        raised_at,
        changed_at,
        cleared_at,
    } = alarm;
    let (vm_id, disk_key, node_id) = match subject {
        Subject::Vm(vm) => (Some(vm.clone()), None, None),
        Subject::Disk(disk) => (Some(disk.vm.clone()), Some(disk.key), None),
        Subject::Node(node) => (None, None, Some(*node)),
    };
    api::Alarm {
        kind: kind.as_str().to_owned(),
        subject: subject.to_string(),
        vm_id,
        disk_key,
        node_id,
        message: message.clone(),
        raised_at: *raised_at,
        changed_at: *changed_at,
        cleared_at: *cleared_at,
    }
}
