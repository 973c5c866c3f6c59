//! Answers for events: convert, look, convert.

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use stillwater_controller_api as api;
use stillwater_rpc::Peer;
use stillwater_types::{Fault, NodeId, Reason};

use super::{Log, Notice, NoticeKind, Severity};
use crate::memory::State;
use crate::page;

/// Tells what happened.
pub struct Service {
    log: Log,
}

impl Service {
    /// Tells of `log`.
    pub fn new(log: Log) -> Self {
        Self { log }
    }
}

#[async_trait]
impl api::EventService for Service {
    async fn list_events(
        &self,
        _peer: &Peer,
        request: api::ListEventsRequest,
    ) -> Result<api::ListEventsResponse, Fault> {
        let wanted = Wanted::new(request.filter)?;
        let before = page::place(request.page_token.as_deref())?;
        let limit = page::limit(request.page_size);
        let wanted = move |notice: &Notice| wanted.wants(notice);
        let page = self.log.page(wanted, before, request.since, limit).await?;
        let state = self.log.memory().state();
        Ok(api::ListEventsResponse {
            events: page.notices.iter().map(|one| tell(&state, one)).collect(),
            next_page_token: page.before.map(|before| before.to_string()),
        })
    }

    async fn watch_events(
        &self,
        _peer: &Peer,
        request: api::WatchEventsRequest,
    ) -> Result<BoxStream<'static, Result<api::Event, Fault>>, Fault> {
        let wanted = Wanted::new(request.filter)?;
        let now = self.log.memory().state().entries;
        let log = self.log.clone();
        let batches = stream::unfold(Some(request.after.unwrap_or(now)), move |after| {
            let log = log.clone();
            async move {
                match log.after(after?).await {
                    Ok((notices, end)) => Some((Ok(notices), Some(end))),
                    Err(fault) => Some((Err(fault), None)),
                }
            }
        });
        let log = self.log.clone();
        let events = batches.flat_map(move |batch| {
            let told = match batch {
                Ok(notices) => {
                    let state = log.memory().state();
                    let wanted = notices.iter().filter(|notice| wanted.wants(notice));
                    wanted.map(|notice| Ok(tell(&state, notice))).collect()
                }
                Err(fault) => vec![Err(fault)],
            };
            stream::iter(told)
        });
        Ok(events.boxed())
    }
}

/// A filter that was understood.
struct Wanted {
    kinds: Vec<NoticeKind>,
    filter: api::EventFilter,
}

impl Wanted {
    fn new(filter: api::EventFilter) -> Result<Self, Fault> {
        let kinds = filter.kinds.iter().map(|kind| known(kind));
        Ok(Self {
            kinds: kinds.collect::<Result<_, _>>()?,
            filter,
        })
    }

    fn wants(&self, notice: &Notice) -> bool {
        let (told, about) = (&notice.told, &notice.told.about);
        let filter = &self.filter;
        let severity = told.kind.severity();
        (self.kinds.is_empty() || self.kinds.contains(&told.kind))
            && filter
                .severity
                .is_none_or(|least| tell_severity(severity) >= least)
            && filter.run_id.is_none_or(|run| about.run == Some(run))
            && filter
                .policy
                .as_ref()
                .is_none_or(|name| about.policy == *name)
            && filter.vm.as_ref().is_none_or(|vm| {
                let id = about.vm.as_ref().map(ToString::to_string);
                about.vm_name.to_lowercase() == vm.to_lowercase() || id.as_ref() == Some(vm)
            })
    }
}

fn known(kind: &str) -> Result<NoticeKind, Fault> {
    let found = NoticeKind::ALL.iter().find(|known| known.as_str() == kind);
    found.copied().ok_or_else(|| {
        let all: Vec<&str> = NoticeKind::ALL.iter().map(|kind| kind.as_str()).collect();
        let message = format!("{kind:?} is no kind of event; there are {}", all.join(", "));
        Fault::new(Reason::BadField, message).with("field", "filter.kinds")
    })
}

fn tell_severity(severity: Severity) -> api::EventSeverity {
    match severity {
        Severity::Info => api::EventSeverity::Info,
        Severity::Warning => api::EventSeverity::Warning,
        Severity::Error => api::EventSeverity::Error,
    }
}

/// A notice, with what is known of its node by now.
pub(super) fn tell(state: &State, notice: &Notice) -> api::Event {
    let Notice {
        number,
        at,
        by,
        told,
    } = notice;
    let about = told.about.clone();
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    // Role and id, if it is a node.
    let node = by
        .split_once('/')
        .and_then(|(_, id)| id.parse::<NodeId>().ok());
    let named = node.and_then(|node| state.nodes.find(node));
    api::Event {
        number: *number,
        kind: told.kind.as_str().to_owned(),
        severity: tell_severity(told.kind.severity()),
        at: *at,
        by: by.clone(),
        by_name: named.and_then(|node| some(node.name.clone())),
        message: told.message.clone(),
        vm_id: about.vm,
        vm_name: some(about.vm_name),
        run_id: about.run,
        point_id: about.point,
        node_id: about.node,
        policy: some(about.policy),
        alarm: some(about.alarm),
    }
}
