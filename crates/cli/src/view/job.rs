//! Jobs: what policies promise to each VM, and how the promises stand.

use std::fmt::Write;

use serde_json::{Value, json};
use stillwater_controller_api::Job;

use crate::output::{Field, moment, table};

pub(crate) fn list(jobs: &[Job]) -> String {
    let header = [
        "POLICY",
        "VM",
        "NEWEST POINT",
        "P50",
        "P99",
        "NEXT START",
        "STATE",
    ];
    let mut text = table(header, jobs.iter().map(row));
    for job in jobs {
        // Whoever reads the table has to know what to do about a row, and sentences are too long for it.
        let why = [("broken", &job.broken_by), ("waits", &job.waits_for)];
        for (word, sentence) in why {
            if let Some(sentence) = sentence {
                // Writing to a string does not fail.
                write!(
                    text,
                    "\n{} of {}, {word}: {sentence}",
                    job.vm_name, job.policy
                )
                .ok();
            }
        }
    }
    text
}

fn row(job: &Job) -> [Field; 7] {
    [
        Field::text(&job.policy),
        Field::text(&job.vm_name),
        Field::maybe(job.last_point_at.map(moment)),
        Field::maybe(job.achieved_p50_seconds.map(span)),
        Field::maybe(job.achieved_p99_seconds.map(span)),
        Field::maybe(job.due_at.map(moment)),
        Field::text(state(job)),
    ]
}

/// What lies worst comes first.
fn state(job: &Job) -> &'static str {
    match (job.broken_since, job.run_id, &job.waits_for) {
        (Some(_), ..) => "broken",
        (None, Some(_), _) => "running",
        (None, None, Some(_)) => "waiting",
        (None, None, None) => "kept",
    }
}

fn span(seconds: u32) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

pub(crate) fn json(job: &Job) -> Value {
    json!({
        "policy": job.policy,
        "vm_id": job.vm_id.to_string(),
        "vm_name": job.vm_name,
        "promise": job.promise,
        "rpo_seconds": job.rpo_seconds,
        "state": state(job),
        "last_point_at": job.last_point_at.map(|at| at.to_string()),
        "achieved_p50_seconds": job.achieved_p50_seconds,
        "achieved_p99_seconds": job.achieved_p99_seconds,
        "achieved_most_seconds": job.achieved_most_seconds,
        "due_at": job.due_at.map(|at| at.to_string()),
        "deadline": job.deadline.map(|at| at.to_string()),
        "run_id": job.run_id.map(|run| run.to_string()),
        "waits_for": job.waits_for,
        "broken_since": job.broken_since.map(|at| at.to_string()),
        "broken_by": job.broken_by,
        "failure_count": job.failure_count,
        "pace": job.pace,
    })
}
