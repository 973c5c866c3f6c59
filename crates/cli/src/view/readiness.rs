//! What every VM lacks before it can be relied on that it comes back.

use serde_json::{Value, json};
use stillwater_controller_api::{
    Consistency, Job, Point, PreflightFinding, PreflightVerdict, PreflightVmResponse, VmSummary,
};
use stillwater_types::Fault;

use super::point::consistency;
use crate::output::{Field, moment, plain, table};

/// What no VM can be judged by, since nothing of it is known here. Said once, and held against no VM.
const NOT_JUDGED: [&str; 2] = [
    "whether what runs in a vm needs hooks: a point that is no worse than file-system-consistent has no gap",
    "restore tests: a proved point has every byte, and nobody has started it",
];

/// What is known of a VM.
pub(crate) struct Facts {
    /// The VM.
    pub summary: VmSummary,
    /// What preflight found, or why it could not look.
    pub preflight: Result<PreflightVmResponse, Fault>,
    /// Its points, in any order.
    pub points: Vec<Point>,
    /// What policies promise to it.
    pub jobs: Vec<Job>,
}

/// What a VM comes to.
pub(crate) struct Judgement {
    summary: VmSummary,
    newest: Option<Point>,
    gaps: Vec<Gap>,
}

impl Judgement {
    /// Whether nothing is missing.
    pub fn is_ready(&self) -> bool {
        self.gaps.is_empty()
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Gap {
    name: String,
    subject: String,
    message: String,
}

/// Judges a VM by nothing but its facts.
pub(crate) fn judge(facts: Facts) -> Judgement {
    let mut gaps = match facts.preflight {
        Ok(found) => found.findings.into_iter().filter_map(found_gap).collect(),
        Err(fault) => vec![gap("UNREAD", &fault.message)],
    };
    let newest = facts.points.iter().max_by_key(|point| point.committed_at);
    match newest {
        None => gaps.push(gap("NO_POINT", "nothing protects it; back it up")),
        Some(newest) => gaps.extend(point_gaps(newest, &facts.points)),
    }
    gaps.extend(promise_gaps(&facts.jobs));
    Judgement {
        newest: newest.cloned(),
        summary: facts.summary,
        gaps,
    }
}

fn gap(name: &str, message: &str) -> Gap {
    Gap {
        name: name.to_owned(),
        subject: "vm".to_owned(),
        message: message.to_owned(),
    }
}

fn found_gap(finding: PreflightFinding) -> Option<Gap> {
    (finding.verdict != PreflightVerdict::Ok).then_some(Gap {
        name: finding.check,
        subject: finding.subject,
        message: finding.message,
    })
}

fn point_gaps(newest: &Point, points: &[Point]) -> Vec<Gap> {
    let mut gaps = Vec::new();
    if !newest.complete {
        let text = format!("the newest point lacks {}", newest.missing.join(", "));
        gaps.push(gap("POINT_INCOMPLETE", &text));
    }
    let proofs = || {
        points
            .iter()
            .filter_map(|point| point.verification.as_ref())
    };
    if proofs().any(|proof| proof.damaged_bytes > 0) {
        let text = "a point cannot be restored whole; `stillwater point list` names it";
        gaps.push(gap("POINT_DAMAGED", text));
    } else if proofs().next().is_none() {
        let text = "no point was ever proved; `stillwater point verify` reads every byte";
        gaps.push(gap("NEVER_PROVED", text));
    }
    if newest.consistency == Consistency::Crash {
        let text = "the newest point is as after a power cut; see `stillwater point show` for why";
        gaps.push(gap("CRASH_CONSISTENT", text));
    }
    let elsewhere = |point: &Point| point.repository_name != newest.repository_name;
    if !points.iter().any(elsewhere) {
        let text = format!(
            "every point lies in {}; a policy that writes to a second repository keeps some elsewhere",
            newest.repository_name
        );
        gaps.push(gap("NO_COPY", &text));
    }
    gaps
}

fn promise_gaps(jobs: &[Job]) -> Vec<Gap> {
    if jobs.is_empty() {
        let text =
            "no policy is for it, so nothing backs it up by itself; `stillwater policy apply`";
        return vec![gap("NO_POLICY", text)];
    }
    let broken = jobs.iter().filter(|job| job.broken_since.is_some());
    broken
        .map(|job| {
            let why = job
                .broken_by
                .as_deref()
                .unwrap_or("see `stillwater job list`");
            gap(
                "RPO_MISSED",
                &format!("{}: {} is broken: {why}", job.policy, job.promise),
            )
        })
        .collect()
}

pub(crate) fn show(judged: &[Judgement]) -> String {
    let told = judged
        .iter()
        .flat_map(|vm| vm.gaps.iter().map(move |gap| (vm, gap)));
    let rows: Vec<_> = told
        .map(|(vm, gap)| {
            [
                Field::text(&vm.summary.path),
                Field::text(&gap.name),
                Field::text(&gap.subject),
                Field::text(&gap.message),
            ]
        })
        .collect();
    let head = format!("not judged: {}", NOT_JUDGED.join("; "));
    match rows.is_empty() {
        true => format!("{head}\n\n{}", total(judged)),
        false => {
            let rows = table(["VM", "GAP", "SUBJECT", "WHAT IS MISSING"], rows);
            format!("{head}\n\n{rows}\n\n{}", total(judged))
        }
    }
}

fn total(judged: &[Judgement]) -> String {
    let ready = judged.iter().filter(|vm| vm.is_ready()).count();
    format!(
        "{} vms: {ready} ready, {} with gaps",
        judged.len(),
        judged.len() - ready
    )
}

pub(crate) fn json(judged: &[Judgement]) -> Value {
    let gap = |gap: &Gap| json!({"gap": gap.name, "subject": gap.subject, "message": gap.message});
    let vm = |vm: &Judgement| {
        json!({
            "vm": super::vm::summary_json(&vm.summary),
            "ready": vm.is_ready(),
            "newest_point": vm.newest.as_ref().map(super::point::json),
            "gaps": vm.gaps.iter().map(gap).collect::<Vec<_>>(),
        })
    };
    json!({
        "not_judged": NOT_JUDGED,
        "vms": judged.iter().map(vm).collect::<Vec<_>>(),
    })
}

/// One page that needs nothing else.
pub(crate) fn html(judged: &[Judgement], made: jiff::Timestamp) -> String {
    let items: String = NOT_JUDGED
        .iter()
        .map(|text| format!("<li>{}</li>", escaped(text)))
        .collect();
    let rows: String = judged.iter().map(html_row).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Readiness</title>\n\
         <style>body{{font-family:sans-serif}}td,th{{text-align:left;vertical-align:top;\
         padding:.3em 1em;border-bottom:1px solid #ccc}}</style></head><body>\n\
         <h1>Readiness</h1><p>{}, {}</p>\n<p>Not judged:</p><ul>{items}</ul>\n\
         <table><tr><th>VM</th><th>Newest point</th><th>Consistency</th><th>What is missing</th></tr>\n\
         {rows}</table></body></html>\n",
        moment(made),
        total(judged)
    )
}

fn html_row(vm: &Judgement) -> String {
    let newest = vm.newest.as_ref();
    let committed = newest.map_or("none".to_owned(), |point| moment(point.committed_at));
    let worth = newest.map_or("-", |point| consistency(point.consistency));
    let line = |gap: &Gap| {
        let text = format!("{} ({}): {}", gap.name, gap.subject, gap.message);
        format!("<div>{}</div>", escaped(&text))
    };
    let gaps: String = match vm.is_ready() {
        true => "nothing".to_owned(),
        false => vm.gaps.iter().map(line).collect(),
    };
    let path = escaped(&vm.summary.path);
    format!("<tr><td>{path}</td><td>{committed}</td><td>{worth}</td><td>{gaps}</td></tr>\n")
}

/// Names come from vCenters: a browser shall show them and obey none.
fn escaped(text: &str) -> String {
    let text = plain(text).replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use stillwater_controller_api::{Consistency, PointVerification};
    use stillwater_types::{PointId, Reason, RunId, VmId};

    use super::*;

    fn vm() -> VmId {
        "01020304-0506-7708-890a-0b0c0d0e0f10/vm-1"
            .parse()
            .expect("an id")
    }

    fn summary() -> VmSummary {
        VmSummary {
            vm_id: vm(),
            name: "<b>".into(),
            path: "/DC0/vm/<b>".into(),
            vcenter_name: "main".into(),
            power: "poweredOn".into(),
            change_tracking: true,
            disk_count: 1,
        }
    }

    fn point(second: i64, complete: bool, damaged: Option<u64>) -> Point {
        let at = Timestamp::from_second(second).expect("in range");
        Point {
            point_id: PointId::mint(),
            vm_id: vm(),
            vm_name: "<b>".into(),
            run_id: RunId::mint(),
            repository_name: format!("store {}", second % 2),
            committed_at: at,
            retain_until: at,
            consistency: Consistency::FileSystem,
            complete,
            disks: vec![],
            missing: vec!["disk 2001".into()],
            verification: damaged.map(|damaged_bytes| PointVerification {
                run_id: RunId::mint(),
                verified_at: at,
                damaged_bytes,
            }),
        }
    }

    fn judged(verdicts: &[PreflightVerdict], points: Vec<Point>) -> Judgement {
        let finding = |verdict: &PreflightVerdict| PreflightFinding {
            check: "TOOLS".into(),
            verdict: *verdict,
            subject: "vm".into(),
            disk_key: None,
            privilege: None,
            message: "start them".into(),
        };
        let preflight = Ok(PreflightVmResponse {
            summary: summary(),
            findings: verdicts.iter().map(finding).collect(),
        });
        judge(Facts {
            summary: summary(),
            preflight,
            points,
            jobs: vec![job(None)],
        })
    }

    fn job(broken_since: Option<Timestamp>) -> Job {
        Job {
            policy: "gold".into(),
            vm_id: vm(),
            vm_name: "<b>".into(),
            promise: "a point every hour".into(),
            rpo_seconds: Some(3600),
            last_point_at: None,
            achieved_p50_seconds: None,
            achieved_p99_seconds: None,
            achieved_most_seconds: None,
            due_at: None,
            deadline: None,
            run_id: None,
            waits_for: None,
            broken_since,
            broken_by: broken_since.map(|_| "no proxy reaches it".into()),
            failure_count: 0,
            pace: String::new(),
        }
    }

    fn names(judgement: &Judgement) -> Vec<&str> {
        judgement.gaps.iter().map(|gap| &*gap.name).collect()
    }

    #[test]
    fn each_fact_that_is_not_in_order_is_one_gap_and_nothing_else_is() {
        use PreflightVerdict::{Blocked, Ok, Warning};
        let proved = || point(1, true, Some(0));
        let elsewhere = || point(0, true, None);
        let crash = |mut point: Point| {
            point.consistency = Consistency::Crash;
            point
        };
        for (verdicts, points, expected) in [
            (&[Ok][..], vec![proved(), elsewhere()], &[][..]),
            (&[Warning], vec![proved(), elsewhere()], &["TOOLS"]),
            (&[Ok, Blocked], vec![proved(), elsewhere()], &["TOOLS"]),
            (&[Ok], vec![], &["NO_POINT"]),
            (
                &[Ok],
                vec![point(1, true, None), elsewhere()],
                &["NEVER_PROVED"],
            ),
            (&[Ok], vec![point(2, true, None), proved()], &[]),
            (
                &[Ok],
                vec![point(1, true, Some(9)), elsewhere()],
                &["POINT_DAMAGED"],
            ),
            (
                &[Ok],
                vec![point(2, false, None), proved()],
                &["POINT_INCOMPLETE"],
            ),
            (&[Ok], vec![proved(), point(0, false, None)], &[]),
            (
                &[Ok],
                vec![crash(proved()), elsewhere()],
                &["CRASH_CONSISTENT"],
            ),
            (&[Ok], vec![proved(), crash(elsewhere())], &[]),
            (&[Ok], vec![proved(), point(3, true, None)], &["NO_COPY"]),
        ] {
            let judgement = judged(verdicts, points);
            assert_eq!(names(&judgement), expected);
            assert_eq!(judgement.is_ready(), expected.is_empty());
        }
    }

    #[test]
    fn a_promise_that_nobody_made_or_that_is_broken_is_a_gap() {
        let sound = || vec![point(1, true, Some(0)), point(0, true, None)];
        let broken = Timestamp::from_second(7).ok();
        for (jobs, expected) in [
            (vec![], &["NO_POLICY"][..]),
            (vec![job(None), job(None)], &[]),
            (vec![job(None), job(broken)], &["RPO_MISSED"]),
        ] {
            let judgement = judge(Facts {
                summary: summary(),
                preflight: Ok(PreflightVmResponse {
                    summary: summary(),
                    findings: vec![],
                }),
                points: sound(),
                jobs,
            });
            assert_eq!(names(&judgement), expected);
        }
    }

    #[test]
    fn a_vm_that_cannot_be_read_is_told_and_is_not_ready() {
        let judgement = judge(Facts {
            summary: summary(),
            preflight: Err(Fault::new(Reason::VmNotFound, "it is gone")),
            points: vec![point(1, true, Some(0)), point(0, true, None)],
            jobs: vec![job(None)],
        });
        assert_eq!(judgement.gaps, [gap("UNREAD", "it is gone")]);
    }

    #[test]
    fn a_page_obeys_no_name_and_needs_nothing_else() {
        let page = html(&[judged(&[], vec![])], Timestamp::UNIX_EPOCH);
        assert!(page.contains("/DC0/vm/&lt;b&gt;") && !page.contains("<b>"));
        assert!(page.contains("NO_POINT") && page.contains("1 vms: 0 ready, 1 with gaps"));
        assert!(!page.contains("src=") && !page.contains("http"));
    }
}
