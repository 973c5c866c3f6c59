//! Alarms: what a person must look at, and for how long it has been so.
//!
//! One per kind and subject. Raising one that stands changes nothing but its message, and clearing one
//! that does not stand nothing at all, so that whoever notices may say so as often as it likes. Alarms
//! are journalled: a restart forgets none. Whoever sends them on elsewhere follows [`Memory::watch`] and
//! compares, as the metrics do.

mod event;
mod service;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use stillwater_types::Fault;

use crate::event::{Actor, Part};
use crate::memory::Memory;

pub use event::{AlarmEvent, AlarmKind, Subject};
pub use service::Service;

/// How many alarms that are over are kept.
const CLEARED_MAX: usize = 512;
/// How much of a message is kept: vSphere's words have no bound, and a journal entry has one.
const MESSAGE_BYTES_MAX: usize = 2048;

/// One alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// What is wrong.
    pub kind: AlarmKind,
    /// What it is wrong with.
    pub subject: Subject,
    /// What was found, and what to do.
    pub message: String,
    /// Since when.
    pub raised_at: Timestamp,
    /// When its message changed last.
    pub changed_at: Timestamp,
    /// When it was over; none while it stands.
    pub cleared_at: Option<Timestamp>,
}

impl Alarm {
    /// Whether somebody must still look at it.
    pub fn stands(&self) -> bool {
        self.cleared_at.is_none()
    }
}

/// Every alarm that stands, and the last ones that are over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Board {
    alarms: BTreeMap<(AlarmKind, Subject), Arc<Alarm>>,
}

impl Board {
    /// Every alarm, by kind and subject.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Alarm>> + '_ {
        self.alarms.values()
    }

    /// The alarms that stand.
    pub fn standing(&self) -> impl Iterator<Item = &Arc<Alarm>> + '_ {
        self.iter().filter(|alarm| alarm.stands())
    }

    /// The alarm of that kind and subject, if it stands.
    pub fn find(&self, kind: AlarmKind, subject: &Subject) -> Option<&Arc<Alarm>> {
        let found = self.alarms.get(&(kind, subject.clone()));
        found.filter(|alarm| alarm.stands())
    }

    fn raise(&mut self, at: Timestamp, kind: AlarmKind, subject: &Subject, message: &str) {
        let since = self.find(kind, subject).map(|alarm| alarm.raised_at);
        let alarm = Alarm {
            kind,
            subject: subject.clone(),
            message: message.to_owned(),
            raised_at: since.unwrap_or(at),
            changed_at: at,
            cleared_at: None,
        };
        self.alarms.insert((kind, subject.clone()), Arc::new(alarm));
    }

    fn clear(&mut self, at: Timestamp, kind: AlarmKind, subject: &Subject) {
        if let Some(alarm) = self.find(kind, subject) {
            let over = Alarm {
                cleared_at: Some(at),
                ..Alarm::clone(alarm)
            };
            self.alarms.insert((kind, subject.clone()), Arc::new(over));
            self.forget_oldest();
        }
    }

    /// The state is copied with each batch of changes, so what is over must not pile up in it.
    fn forget_oldest(&mut self) {
        let over = |alarm: &Arc<Alarm>| alarm.cleared_at;
        if self.iter().filter_map(over).count() <= CLEARED_MAX {
            return;
        }
        let cleared = self.alarms.iter();
        let oldest = cleared
            .filter_map(|(key, alarm)| Some((over(alarm)?, key)))
            .min()
            .map(|(_, key)| key.clone());
        if let Some(key) = oldest {
            self.alarms.remove(&key);
        }
    }
}

impl Part for Board {
    type Event = AlarmEvent;

    fn check(&self, _at: Timestamp, _event: &AlarmEvent) -> Result<(), Fault> {
        Ok(())
    }

    fn apply(&mut self, at: Timestamp, event: &AlarmEvent) {
        match event {
            AlarmEvent::Raised {
                kind,
                subject,
                message,
            } => self.raise(at, *kind, subject, message),
            AlarmEvent::Cleared { kind, subject } => self.clear(at, *kind, subject),
        }
    }
}

/// Raises and clears alarms; clones share the memory.
#[derive(Clone)]
pub struct Alarms {
    memory: Memory,
}

impl Alarms {
    /// Keeps alarms in `memory`.
    pub fn new(memory: Memory) -> Self {
        Self { memory }
    }

    /// Raises an alarm, or gives the one that stands another message.
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn raise(
        &self,
        kind: AlarmKind,
        subject: Subject,
        message: impl Into<String>,
    ) -> Result<(), Fault> {
        let message = cut(message.into());
        let state = self.memory.state();
        if let Some(stands) = state.alarms.find(kind, &subject) {
            if stands.message == message {
                return Ok(());
            }
        } else {
            tracing::warn!(alarm = %kind, %subject, message, "alarm raised");
        }
        let raised = AlarmEvent::Raised {
            kind,
            subject,
            message,
        };
        self.memory.append(Actor::Controller, raised).await?;
        Ok(())
    }

    /// Clears an alarm; whether it stood.
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn clear(&self, kind: AlarmKind, subject: Subject) -> Result<bool, Fault> {
        if self.memory.state().alarms.find(kind, &subject).is_none() {
            return Ok(false);
        }
        tracing::info!(alarm = %kind, %subject, "alarm cleared");
        let cleared = AlarmEvent::Cleared { kind, subject };
        self.memory.append(Actor::Controller, cleared).await?;
        Ok(true)
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
