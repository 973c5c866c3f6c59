//! `stillwater point`.

use std::io::IsTerminal;

use jiff::Timestamp;
use stillwater_controller_api::{
    LockPointRequest, Run, StartKind, StartRunRequest, StartTaskRequest, StartVerifyPoint, TaskKind,
};
use stillwater_types::{Fault, PointId, Reason, RequestId, TaskId};

use super::run::conclude;
use super::{Desk, serve, task};
use crate::arguments::{LockEnd, LockPoint, Point, VerifyPoints};
use crate::exit::Outcome;
use crate::{output, resolve, view};

pub(super) async fn run(desk: &Desk, point: Point) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    match point {
        Point::List { vm, limit } => {
            let points = resolve::points(controller, vm, limit).await?;
            let json = || points.iter().map(view::point::json).collect();
            output::print(desk.format, || view::point::list(&points), json)?;
        }
        Point::Show {
            point,
            config: true,
        } => {
            let point = resolve::point(controller, &point).await?;
            let kept = controller.get_point_configuration(point).await?;
            let json = || view::configuration::json(&kept);
            output::print(desk.format, || view::configuration::show(&kept), json)?;
        }
        Point::Show { point, config: _ } => {
            let point = resolve::point(controller, &point).await?;
            let shown = controller.get_point(point).await?;
            let json = || view::point::shown_json(&shown);
            output::print(desk.format, || view::point::show(&shown), json)?;
        }
        Point::Serve(asked) => return serve::run(desk, asked).await,
        Point::Verify(asked) => return verify(desk, asked).await,
        Point::Lock(asked) => lock(desk, asked).await?,
        Point::Delete { points, yes } => return delete(desk, &points, yes).await,
    }
    Ok(Outcome::Done)
}

async fn verify(desk: &Desk, asked: VerifyPoints) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    if asked.stored {
        let [point] = asked.points.as_slice() else {
            let text =
                "--stored takes one point at a time; `stillwater repository scrub` reads all";
            return Err(Fault::new(Reason::BadField, text));
        };
        return verify_stored(desk, point, asked.detach).await;
    }
    let mut wanted = Vec::new();
    for point in &asked.points {
        wanted.push(resolve::point(controller, point).await?);
    }
    if asked.points.is_empty() {
        let points = resolve::points(controller, asked.vm, usize::MAX).await?;
        wanted.extend(points.iter().map(|point| point.point_id));
    }
    if wanted.is_empty() {
        let text = "there is no such restore point; `stillwater point list` names them";
        return Err(Fault::new(Reason::PointNotFound, text));
    }
    let mut started = Vec::with_capacity(wanted.len());
    for point_id in wanted {
        let request = StartRunRequest {
            request_id: RequestId::mint(),
            kind: StartKind::VerifyPoint(StartVerifyPoint { point_id }),
        };
        started.push(controller.start_run(request).await?);
    }
    let json = |runs: &[Run]| runs.iter().map(view::run::json).collect();
    conclude(desk, started, !asked.detach, json).await
}

/// What the repository can do by itself.
async fn verify_stored(desk: &Desk, point: &str, detach: bool) -> Result<Outcome, Fault> {
    let point = resolve::point(&desk.session.controller, point).await?;
    let request = StartTaskRequest {
        task_id: TaskId::mint(),
        kind: TaskKind::Verify,
        node_id: None,
        point_id: Some(point),
        all: false,
    };
    task::conduct(desk, request, detach).await
}

async fn lock(desk: &Desk, asked: LockPoint) -> Result<(), Fault> {
    let controller = &desk.session.controller;
    let until = end(&asked.end, Timestamp::now())?;
    let point_id = resolve::point(controller, &asked.point).await?;
    let locked = controller
        .lock_point(LockPointRequest { point_id, until })
        .await?;
    let text = || format!("locked until {}", output::moment(locked.retain_until));
    output::print(desk.format, text, || view::point::json(&locked))?;
    if locked.retain_until > until {
        output::say("the lock that it had lasts longer and stays");
    }
    Ok(())
}

/// When a lock shall end. A date means its whole day, in UTC.
fn end(asked: &LockEnd, now: Timestamp) -> Result<Timestamp, Fault> {
    let bad = |text: &str, error: jiff::Error| {
        Fault::new(
            Reason::BadField,
            format!("read {text:?} as the end of a lock: {error}"),
        )
    };
    match (&asked.until, &asked.span) {
        (Some(text), _) => match text.parse::<Timestamp>() {
            Ok(moment) => Ok(moment),
            Err(_) => text
                .parse::<jiff::civil::Date>()
                .and_then(jiff::civil::Date::tomorrow)
                .and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC))
                .map(|moment| moment.timestamp())
                .map_err(|error| bad(text, error)),
        },
        (None, Some(text)) => {
            let span: jiff::Span = text.parse().map_err(|error| bad(text, error))?;
            let end = now.to_zoned(jiff::tz::TimeZone::UTC).checked_add(span);
            end.map(|end| end.timestamp())
                .map_err(|error| bad(text, error))
        }
        (None, None) => Err(Fault::new(Reason::BadField, "give --until or --for")),
    }
}

/// Deletes points, each on its own: one that is locked keeps no other.
async fn delete(desk: &Desk, points: &[String], yes: bool) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    let mut found = Vec::with_capacity(points.len());
    for point in points {
        found.push(resolve::point(controller, point).await?);
    }
    if !yes {
        confirm(&found)?;
    }
    let mut refused = None;
    let mut results = Vec::with_capacity(found.len());
    for point in found {
        let outcome = controller.delete_point(point).await;
        results.push((point, outcome.clone()));
        if let Err(fault) = outcome {
            refused.get_or_insert(fault.with("point", point));
        }
    }
    let text = || view::point::deleted(&results);
    output::print(desk.format, text, || view::point::deleted_json(&results))?;
    refused.map_or(Ok(Outcome::Done), Err)
}

fn confirm(points: &[PointId]) -> Result<(), Fault> {
    let refusal = |message: &str| Err(Fault::new(Reason::BadField, message));
    if !std::io::stdin().is_terminal() {
        return refusal(
            "deleting asks first and stdin is no terminal; repeat with --yes if you mean it",
        );
    }
    output::say(&format!(
        "delete {} restore points for good? type yes",
        points.len()
    ));
    let mut answer = String::new();
    match std::io::stdin().read_line(&mut answer) {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        Ok(_) => refusal("nothing was deleted"),
        Err(error) => Err(Fault::new(
            Reason::BadField,
            format!("read the answer: {error}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(until: Option<&str>, span: Option<&str>, expected: Option<&str>) {
        let asked = LockEnd {
            until: until.map(str::to_owned),
            span: span.map(str::to_owned),
        };
        let now = "2026-11-22T10:00:00Z".parse().expect("a moment");
        let found = end(&asked, now).ok().map(|end| end.to_string());
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn a_lock_ends_with_a_day_at_a_moment_or_after_a_span() {
        check(Some("2027-01-31"), None, Some("2027-02-01T00:00:00Z"));
        check(
            Some("2027-01-31T12:00:00+01:00"),
            None,
            Some("2027-01-31T11:00:00Z"),
        );
        check(None, Some("30d"), Some("2026-12-22T10:00:00Z"));
        check(None, Some("8w"), Some("2027-01-17T10:00:00Z"));
        check(None, Some("90"), None);
        check(Some("soon"), None, None);
        check(None, None, None);
    }
}
