//! What an administrator does with repositories, and with points that they keep.

use serde_json::Value;
use stillwater_controller_api::{
    CollectResult, DamagedExtent, ScrubResult, TaskKind, TaskResult, VerifyResult,
};
use stillwater_rpc::signing::{SignedStatement, SigningKey};
use stillwater_types::{Fault, Reason};

use crate::site::Site;

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect(text)
}

#[test]
fn repositories_are_listed_and_found_by_name_and_by_id() {
    let site = Site::start();
    let list = json(&site.ok(&["repository", "list", "-o", "json"]));
    assert_eq!(list[0]["usage"]["point_count"], 7);
    assert_eq!(list[0]["health"], "good");
    let id = list[0]["node_id"].as_str().expect("an id").to_owned();
    let name = list[0]["name"].as_str().expect("a name").to_owned();
    assert!(
        site.ok(&["repository", "show", &id[..13]])
            .contains("new points locked")
    );
    let shown = json(&site.ok(&["repository", "show", &id, "-o", "json"]));
    assert_eq!(shown["retention"]["floor_seconds"], 14 * 86_400);
    assert!(site.ok(&["repository", "usage", &id]).contains(&name));
    let (code, stderr) = site.fails(&["repository", "show", "nowhere"]);
    assert!(
        code == 4 && stderr.contains("stillwater repository list"),
        "{code} {stderr}"
    );
}

#[test]
fn a_scrub_ends_as_what_it_found() {
    let site = Site::start();
    let id = site.fake().upkeep.node.to_string();
    let good = ScrubResult {
        pack_count: 3,
        ..ScrubResult::default()
    };
    site.fake().upkeep.end_tasks_with(TaskResult::Scrub(good));
    let shown = json(&site.ok(&["repository", "scrub", &id, "--all", "-o", "json"]));
    assert_eq!(shown["result"]["pack_count"], 3);
    assert_eq!(shown["state"], "succeeded");
    let started = site.fake().upkeep.started();
    assert!(started[0].all && started[0].kind == TaskKind::Scrub);
    let damaged = ScrubResult {
        damaged_pack_count: 1,
        lost_record_count: 2,
        ..good
    };
    site.fake()
        .upkeep
        .end_tasks_with(TaskResult::Scrub(damaged));
    let (code, _) = site.fails(&["repository", "scrub", &id]);
    assert_eq!(code, 3);
}

#[test]
fn garbage_that_is_held_back_is_a_warning() {
    let site = Site::start();
    let id = site.fake().upkeep.node.to_string();
    let result = CollectResult {
        held: "more than 20 % at once".into(),
        held_bytes: 5 << 30,
        ..CollectResult::default()
    };
    site.fake()
        .upkeep
        .end_tasks_with(TaskResult::Collect(result));
    let output = site
        .command(&["repository", "gc", &id])
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("5.0 GiB: more than 20 % at once"), "{text}");
}

#[test]
fn a_detached_task_is_named_and_can_be_watched() {
    let site = Site::start();
    let id = site.fake().upkeep.node.to_string();
    site.fake()
        .upkeep
        .end_tasks_with(TaskResult::Collect(CollectResult::default()));
    let task = site.ok(&["repository", "gc", &id, "--detach"]);
    let shown = site.ok(&["repository", "watch", &id, task.trim()]);
    assert!(shown.contains("succeeded"), "{shown}");
    let (code, stderr) = site.fails(&["repository", "cancel", &id, task.trim()]);
    assert!(
        code == 4 && stderr.contains("TASK_NOT_FOUND"),
        "{code} {stderr}"
    );
}

#[test]
fn a_degraded_point_names_its_extents_and_is_no_success() {
    let site = Site::start();
    let point = site.point();
    let extent = DamagedExtent {
        disk_key: 2000,
        offset_bytes: 65536,
        length_bytes: 4096,
    };
    let result = VerifyResult {
        whole: false,
        read_bytes: 9,
        extents: vec![extent],
        damaged_extent_count: 1,
        damaged_bytes: 4096,
    };
    site.fake()
        .upkeep
        .end_tasks_with(TaskResult::Verify(result.clone()));
    let output = site
        .command(&["point", "verify", "--stored", &point])
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(1));
    let (text, said) = (output.stdout, output.stderr);
    let text = String::from_utf8(text).expect("text");
    assert!(text.contains("2000") && text.contains("65536"), "{text}");
    assert!(String::from_utf8_lossy(&said).contains("POINT_DEGRADED"));
    let whole = VerifyResult {
        whole: true,
        ..VerifyResult::default()
    };
    site.fake().upkeep.end_tasks_with(TaskResult::Verify(whole));
    assert!(
        site.ok(&["point", "verify", "--stored", &point])
            .contains("yes")
    );
}

#[test]
fn a_task_that_failed_is_told_with_its_reason() {
    let site = Site::start();
    let id = site.fake().upkeep.node.to_string();
    let fault = Fault::new(
        Reason::ManifestUnreadable,
        "cannot read what point x reaches",
    );
    site.fake().upkeep.fail_tasks_with(fault);
    let (code, stderr) = site.fails(&["repository", "gc", &id]);
    assert!(
        code == 1 && stderr.contains("MANIFEST_UNREADABLE"),
        "{code} {stderr}"
    );
}

#[test]
fn deleting_asks_unless_told_not_to_and_a_locked_point_is_kept() {
    let site = Site::start();
    let point = site.point();
    let (code, stderr) = site.fails(&["point", "delete", &point]);
    assert!(code == 2 && stderr.contains("--yes"), "{code} {stderr}");
    assert!(
        site.ok(&["point", "delete", &point, "--yes"])
            .contains("deleted")
    );
    let locked = Fault::new(Reason::PointLocked, "locked until 2027-01-01");
    site.fake().upkeep.refuse_deletions(locked);
    let output = site
        .command(&["point", "delete", &point, "--yes", "-o", "json"])
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(6));
    let shown = json(&String::from_utf8(output.stdout).expect("text"));
    assert_eq!(shown[0]["deleted"], false);
    assert_eq!(shown[0]["fault"]["reason"], "POINT_LOCKED");
}

#[test]
fn a_lock_is_extended_and_never_shortened() {
    let site = Site::start();
    let point = site.point();
    let shown = site.ok(&["point", "lock", &point, "--until", "2099-12-31"]);
    assert!(shown.contains("2100-01-01T00:00:00Z"), "{shown}");
    let output = site
        .command(&["point", "lock", &point, "--until", "2001-01-01"])
        .output()
        .expect("run");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("lasts longer"));
    let (code, _) = site.fails(&["point", "lock", &point]);
    assert_eq!(code, 2);
}

#[test]
fn every_signature_of_a_statement_is_handed_in() {
    let site = Site::start();
    let id = site.fake().upkeep.node.to_string();
    let file = site.dir().join("statement");
    let mut signed = SignedStatement::new(b"what is demanded".to_vec());
    std::fs::write(&file, signed.to_string()).expect("writes");
    let path = file.to_str().expect("text");
    let (code, stderr) = site.fails(&["repository", "submit", &id, path]);
    assert!(
        code == 2 && stderr.contains("statement sign"),
        "{code} {stderr}"
    );
    for _ in 0..2 {
        signed.sign(&SigningKey::generate().expect("a key"));
    }
    std::fs::write(&file, signed.to_string()).expect("writes");
    let shown = json(&site.ok(&["repository", "submit", &id, path, "-o", "json"]));
    assert_eq!(shown["state"], "done");
    let handed_in = site.fake().upkeep.statements();
    assert_eq!(handed_in.len(), 2);
    for (request, made) in handed_in.iter().zip(&signed.signatures) {
        assert_eq!(request.statement, signed.statement);
        assert_eq!((request.key, request.signature), (made.key, made.signature));
    }
}
