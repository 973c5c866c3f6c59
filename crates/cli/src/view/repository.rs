//! Repositories.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use stillwater_controller_api::{
    GetRepositoryResponse, Health, Repository, RepositoryUsage, Retention, StatementState,
    SubmitStatementResponse, WaitingStatement,
};

use crate::output::{Field, moment, sheet, size, table};
use crate::progress::span;

pub(crate) fn list(repositories: &[Repository]) -> String {
    let header = [
        "ID",
        "NAME",
        "STATE",
        "POINTS",
        "STORED",
        "FREE",
        "HEALTH",
        "VERIFIED SINCE",
    ];
    table(header, repositories.iter().map(row))
}

fn row(repository: &Repository) -> [Field; 8] {
    let usage = repository.usage.as_ref();
    let bytes = |of: fn(&RepositoryUsage) -> u64| usage.map(|usage| size(of(usage)));
    [
        Field::text(repository.node_id),
        Field::text(&repository.name),
        Field::text(state(repository)),
        Field::maybe(usage.map(|usage| usage.point_count)),
        Field::maybe(bytes(|usage| usage.stored_bytes)),
        Field::maybe(bytes(|usage| usage.writable_bytes)),
        Field::text(health(repository)),
        Field::maybe(
            usage
                .and_then(|usage| usage.health.verified_since)
                .map(moment),
        ),
    ]
}

const fn state(repository: &Repository) -> &'static str {
    match (&repository.usage, repository.online) {
        (Some(_), _) => "online",
        (None, true) => "not answering",
        (None, false) => "offline",
    }
}

/// The worst that is known, in one phrase.
fn health(repository: &Repository) -> String {
    let Some(usage) = &repository.usage else {
        return "-".to_owned();
    };
    match &usage.health {
        health if health.degraded_point_count > 0 => {
            format!("{} points degraded", health.degraded_point_count)
        }
        health if health.lost_record_count > 0 => {
            format!("{} records lost", health.lost_record_count)
        }
        health if !health.held.is_empty() => "deletion held back".to_owned(),
        health if health.overdue_bytes > 0 => "scrub overdue".to_owned(),
        _ => "good".to_owned(),
    }
}

pub(crate) fn show(shown: &GetRepositoryResponse) -> String {
    let GetRepositoryResponse {
        repository,
        retention,
    } = shown;
    let mut lines = vec![
        ("id", repository.node_id.to_string()),
        ("name", repository.name.clone()),
        ("address", repository.address.clone()),
        ("state", state(repository).to_owned()),
        ("health", health(repository)),
    ];
    if let Some(usage) = &repository.usage {
        lines.extend(soundness(usage));
    }
    lines.extend(protection(retention));
    let mut text = sheet(&lines);
    if !retention.admins.is_empty() {
        let rows = retention.admins.iter().map(|admin| {
            [
                Field::text(&admin.label),
                Field::text(HEXLOWER.encode(&admin.key)),
                Field::text(moment(admin.since)),
            ]
        });
        text.push_str(&format!(
            "\n\n{}",
            table(["ADMINISTRATOR", "KEY", "SINCE"], rows)
        ));
    }
    if !retention.waiting.is_empty() {
        let rows = retention.waiting.iter().map(waiting_row);
        let header = ["STATEMENT", "DEMANDS", "SIGNED BY", "TAKES EFFECT"];
        text.push_str(&format!("\n\n{}", table(header, rows)));
    }
    text
}

fn waiting_row(statement: &WaitingStatement) -> [Field; 4] {
    let WaitingStatement {
        statement_id,
        demand,
        signers,
        needed_signer_count,
        effective_at,
    } = statement;
    [
        Field::text(HEXLOWER.encode(statement_id)),
        Field::text(demand),
        Field::text(format!("{} of {needed_signer_count}", signers.len())),
        Field::maybe(effective_at.map(moment)),
    ]
}

pub(crate) fn usage(repository: &Repository, usage: &RepositoryUsage) -> String {
    let taken = usage
        .stored_bytes
        .saturating_sub(usage.health.condemned_bytes);
    sheet(&[
        ("repository", repository.name.clone()),
        ("capacity", size(usage.capacity_bytes)),
        ("free for packs", size(usage.writable_bytes)),
        ("packs", size(usage.stored_bytes)),
        ("  in use", size(taken)),
        ("  condemned", size(usage.health.condemned_bytes)),
        ("quarantine", size(usage.health.quarantined_bytes)),
        ("chunks", usage.chunk_count.to_string()),
        ("points", usage.point_count.to_string()),
    ])
}

fn soundness(usage: &RepositoryUsage) -> Vec<(&'static str, String)> {
    let health = &usage.health;
    let maybe = |time: Option<jiff::Timestamp>| time.map_or_else(|| "-".to_owned(), moment);
    let mut lines = vec![
        ("points", usage.point_count.to_string()),
        ("stored", size(usage.stored_bytes)),
        ("free for packs", size(usage.writable_bytes)),
        ("verified since", maybe(health.verified_since)),
        ("scrub overdue", size(health.overdue_bytes)),
        ("damaged packs", health.damaged_pack_count.to_string()),
        ("lost records", health.lost_record_count.to_string()),
        ("degraded points", health.degraded_point_count.to_string()),
        ("last gc", maybe(health.collected_at)),
        ("format", usage.format_version.to_string()),
    ];
    if !health.held.is_empty() {
        lines.push(("held back", health.held.clone()));
    }
    for point in &health.degraded_point_ids {
        lines.push(("degraded", point.to_string()));
    }
    lines
}

fn protection(retention: &Retention) -> Vec<(&'static str, String)> {
    let days = |seconds: u64| match seconds % 86_400 {
        0 => format!("{} d", seconds / 86_400),
        _ => span(seconds),
    };
    let lag = retention.wall_time.duration_since(retention.trusted_time);
    let mut lines = vec![
        ("new points locked", days(retention.floor_seconds)),
        ("  configured", days(retention.configured_floor_seconds)),
        ("  demanded", days(retention.demanded_floor_seconds)),
        ("trusted time", moment(retention.trusted_time)),
        (
            "  behind",
            span(u64::try_from(lag.as_secs()).unwrap_or_default()),
        ),
    ];
    if !retention.frozen.is_empty() {
        lines.push(("deletion frozen", retention.frozen.clone()));
    }
    lines
}

pub(crate) fn json(repository: &Repository) -> Value {
    let usage = repository.usage.as_ref();
    json!({
        "node_id": repository.node_id.to_string(),
        "name": repository.name,
        "address": repository.address,
        "state": state(repository),
        "health": health(repository),
        "usage": usage.map(usage_json),
        "fault": repository.fault.as_ref().map(super::run::fault),
    })
}

fn usage_json(usage: &RepositoryUsage) -> Value {
    json!({
        "writable_bytes": usage.writable_bytes,
        "capacity_bytes": usage.capacity_bytes,
        "stored_bytes": usage.stored_bytes,
        "chunk_count": usage.chunk_count,
        "point_count": usage.point_count,
        "format_version": usage.format_version,
        "health": health_json(&usage.health),
    })
}

fn health_json(health: &Health) -> Value {
    let degraded = health.degraded_point_ids.iter().map(ToString::to_string);
    json!({
        "verified_since": health.verified_since.map(|time| time.to_string()),
        "overdue_bytes": health.overdue_bytes,
        "damaged_pack_count": health.damaged_pack_count,
        "lost_record_count": health.lost_record_count,
        "degraded_point_ids": degraded.collect::<Vec<_>>(),
        "degraded_point_count": health.degraded_point_count,
        "condemned_bytes": health.condemned_bytes,
        "quarantined_bytes": health.quarantined_bytes,
        "collected_at": health.collected_at.map(|time| time.to_string()),
        "held": health.held,
    })
}

/// The repository's own fields, and what it protects.
pub(crate) fn shown_json(shown: &GetRepositoryResponse) -> Value {
    let retention = &shown.retention;
    let admins = retention.admins.iter().map(|admin| {
        json!({
            "key": HEXLOWER.encode(&admin.key),
            "label": admin.label,
            "since": admin.since.to_string(),
        })
    });
    let mut value = json(&shown.repository);
    value["retention"] = json!({
        "floor_seconds": retention.floor_seconds,
        "configured_floor_seconds": retention.configured_floor_seconds,
        "demanded_floor_seconds": retention.demanded_floor_seconds,
        "trusted_time": retention.trusted_time.to_string(),
        "wall_time": retention.wall_time.to_string(),
        "frozen": retention.frozen,
        "admins": admins.collect::<Vec<_>>(),
        "waiting": retention.waiting.iter().map(waiting_json).collect::<Vec<_>>(),
    });
    value
}

fn waiting_json(statement: &WaitingStatement) -> Value {
    let signers = statement.signers.iter().map(|key| HEXLOWER.encode(key));
    json!({
        "statement_id": HEXLOWER.encode(&statement.statement_id),
        "demand": statement.demand,
        "signers": signers.collect::<Vec<_>>(),
        "needed_signer_count": statement.needed_signer_count,
        "effective_at": statement.effective_at.map(|time| time.to_string()),
    })
}

pub(crate) fn submitted(answer: &SubmitStatementResponse) -> String {
    match (&answer.waiting, answer.state) {
        (Some(waiting), _) => {
            let WaitingStatement {
                demand,
                signers,
                needed_signer_count,
                effective_at,
                ..
            } = waiting;
            let when = match effective_at {
                Some(moment) => format!("takes effect on {}", self::moment(*moment)),
                None => format!("is signed by {} of {needed_signer_count}", signers.len()),
            };
            crate::output::plain(&format!("{demand}: waits, {when}"))
        }
        (None, state) => format!("the statement is {}", statement_state(state)),
    }
}

pub(crate) fn submitted_json(answer: &SubmitStatementResponse) -> Value {
    json!({
        "state": statement_state(answer.state),
        "waiting": answer.waiting.as_ref().map(waiting_json),
    })
}

const fn statement_state(state: StatementState) -> &'static str {
    match state {
        StatementState::Waiting => "waiting",
        StatementState::Done => "done",
        StatementState::Vetoed => "vetoed",
    }
}
