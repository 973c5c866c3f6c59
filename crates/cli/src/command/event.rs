//! `stillwater event`.

use std::cell::Cell;

use jiff::{SignedDuration, Timestamp};
use stillwater_controller_api::{
    Event as Told, EventFilter, EventSeverity, ListEventsRequest, PAGE_SIZE_MAX, WatchEventsRequest,
};
use stillwater_types::{Fault, Reason};

use super::Desk;
use crate::arguments::{Event, Format, Severity, Wanted};
use crate::exit::Outcome;
use crate::{follow, output, resolve, view};

pub(super) async fn run(desk: &Desk, event: Event) -> Result<Outcome, Fault> {
    match event {
        Event::List {
            wanted,
            since,
            limit,
        } => {
            let since = since.as_deref().map(|text| moment(text, Timestamp::now()));
            let events = list(desk, filter(desk, wanted).await?, since.transpose()?, limit).await?;
            let json = || events.iter().map(view::event::json).collect();
            output::print(desk.format, || view::event::list(&events), json)?;
        }
        Event::Watch { wanted, after } => {
            let filter = filter(desk, wanted).await?;
            tokio::select! {
                watched = watch(desk, filter, after) => watched?,
                _ = follow::interrupted() => {}
            }
        }
    }
    Ok(Outcome::Done)
}

async fn filter(desk: &Desk, wanted: Wanted) -> Result<EventFilter, Fault> {
    let Wanted {
        kind,
        severity,
        vm,
        run,
        policy,
    } = wanted;
    let run_id = match run {
        Some(run) => Some(resolve::run(&desk.session.controller, &run).await?),
        None => None,
    };
    let severity = severity.map(|severity| match severity {
        Severity::Info => EventSeverity::Info,
        Severity::Warning => EventSeverity::Warning,
        Severity::Error => EventSeverity::Error,
    });
    Ok(EventFilter {
        kinds: kind,
        severity,
        vm,
        run_id,
        policy,
    })
}

async fn list(
    desk: &Desk,
    filter: EventFilter,
    since: Option<Timestamp>,
    limit: usize,
) -> Result<Vec<Told>, Fault> {
    let mut events: Vec<Told> = Vec::new();
    let mut page_token = None;
    while events.len() < limit {
        let rest = u32::try_from(limit - events.len()).unwrap_or(u32::MAX);
        let request = ListEventsRequest {
            filter: filter.clone(),
            since,
            page_size: rest.min(PAGE_SIZE_MAX),
            page_token,
        };
        let page = desk.session.controller.list_events(request).await?;
        events.extend(page.events);
        page_token = page.next_page_token;
        if page_token.is_none() {
            break;
        }
    }
    Ok(events)
}

/// Prints what happens until nobody reads any more. What happens while the controller is away is told when it is
/// there again.
async fn watch(desk: &Desk, filter: EventFilter, after: Option<u64>) -> Result<(), Fault> {
    let controller = &desk.session.controller;
    let after = Cell::new(match after {
        Some(after) => after,
        None => newest(desk).await?,
    });
    let ask = async || {
        let request = WatchEventsRequest {
            filter: filter.clone(),
            after: Some(after.get()),
        };
        controller.watch_events(request).await
    };
    let show = |event: &Told| {
        after.set(event.number);
        output::write_on(&match desk.format {
            Format::Table => view::event::line(event),
            Format::Json => view::event::json(event).to_string(),
        })
    };
    follow::on_and_on(ask, show, output::say).await
}

/// The number of the newest event: what happens after it is new, also when the first stream breaks off.
async fn newest(desk: &Desk) -> Result<u64, Fault> {
    let newest = list(desk, EventFilter::default(), None, 1).await?;
    Ok(newest.first().map_or(0, |event| event.number))
}

/// A time, or how long before `now`.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, Fault> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    // A day has 24 hours here.
    let ago = match text
        .strip_suffix('d')
        .and_then(|days| days.parse::<i64>().ok())
    {
        Some(days) => days.checked_mul(24).map(SignedDuration::from_hours),
        None => text.parse::<SignedDuration>().ok(),
    };
    let time = ago.and_then(|ago| now.checked_sub(ago).ok());
    time.ok_or_else(|| {
        Fault::new(
            Reason::BadField,
            format!("{text:?} is no time: write one such as 2026-11-23T08:00:00Z, or how long ago, such as 2h or 3d"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let expected = expected.map(|text| text.parse::<Timestamp>().unwrap());
        assert_eq!(moment(text, now).ok(), expected, "{text}");
    }

    #[test]
    fn a_time_is_one_or_lies_so_far_back() {
        check("2026-11-22T08:00:00Z", Some("2026-11-22T08:00:00Z"));
        check("2h", Some("2026-11-23T10:00:00Z"));
        check("90m", Some("2026-11-23T10:30:00Z"));
        check("3d", Some("2026-11-20T12:00:00Z"));
        check("yesterday", None);
        check("9223372036854775807d", None);
    }
}
