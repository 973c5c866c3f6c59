//! Servers that answer as none should: each is met with a typed error and a bound.

#[path = "support/server.rs"]
mod server;

use std::time::Duration;

use server::{Answer, Server, properties, returned};
use stillwater_types::Reason;
use stillwater_vsphere::{
    Error, Since, SnapshotRef, StoragePolicies, Tag, TaskRef, Told, VmRef, VmSurroundings,
};

/// A call, its answer, and what the error says.
type Bad = (&'static str, fn() -> Answer, &'static str);

/// How connecting fails when one call is answered so.
async fn connected(call: &'static str, answer: fn() -> Answer) -> Error {
    let server = Server::start(move |request| request.contains(call).then(answer)).await;
    server.connect().await.map(drop).expect_err("refused")
}

#[tokio::test]
async fn a_right_answer_connects() {
    let server = Server::start(|_| None).await;
    assert_eq!(
        server.connect().await.expect("connects").about().full_name,
        "odd"
    );
}

#[tokio::test]
async fn answers_that_are_none_are_refused() {
    let bad: [Bad; 6] = [
        (
            "vimServiceVersions",
            || (String::new(), "<html/>".into()),
            "urn:vim25",
        ),
        (
            "<RetrieveServiceContent",
            || returned("<about/>"),
            "rootFolder",
        ),
        ("<Login", || returned("<key>1</key>"), "no session cookie"),
        (
            "<Login",
            || (String::new(), "<!DOCTYPE a><a/>".into()),
            "document type",
        ),
        (
            "<Login",
            || {
                (
                    "HTTP/1.1 302 Found\r\nlocation: https://127.0.0.1:1/\r\n".into(),
                    String::new(),
                )
            },
            "302",
        ),
        (
            "<Login",
            || (String::new(), "x".repeat(65 * 1024 * 1024)),
            "larger than 64 MiB",
        ),
    ];
    for (call, answer, words) in bad {
        let error = connected(call, answer).await;
        assert!(
            matches!(error, Error::BadAnswer { .. }),
            "{words}: {error:?}"
        );
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_task_that_does_not_end_is_given_up_and_named() {
    let running = |request: &str| {
        request.contains("<RetrievePropertiesEx").then(|| {
            returned(
                r#"<objects><obj type="Task">task-1</obj><propSet><name>info.state</name><val>running</val></propSet></objects>"#,
            )
        })
    };
    let server = Server::start(running).await;
    let client = server.connect().await.expect("connects");
    let task = TaskRef::new("task-1");
    let error = client
        .wait_task(&task, Duration::from_millis(200))
        .await
        .expect_err("too long");
    assert!(
        matches!(&error, Error::TaskTimeout { task: told, .. } if *told == task),
        "{error:?}"
    );
    assert_eq!(error.fault().reason, Reason::VcenterTaskTimeout);
    let all = server.requests.lock().expect("not poisoned");
    assert!(
        all.iter()
            .filter(|request| request.contains("task-1"))
            .count()
            > 1
    );
}

#[tokio::test]
async fn a_task_without_a_state_is_an_error_and_not_a_success() {
    let empty = |request: &str| {
        request
            .contains("<RetrievePropertiesEx")
            .then(|| returned(r#"<objects><obj type="Task">task-1</obj></objects>"#))
    };
    let client = Server::start(empty)
        .await
        .connect()
        .await
        .expect("connects");
    let outcome = client
        .wait_task(&TaskRef::new("task-1"), Duration::from_secs(60))
        .await;
    assert!(
        matches!(outcome, Err(Error::BadAnswer { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_change_map_that_makes_no_progress_is_given_up() {
    let stuck = |request: &str| {
        request
            .contains("<QueryChangedDiskAreas")
            .then(|| returned("<startOffset>0</startOffset><length>0</length>"))
    };
    let server = Server::start(stuck).await;
    let client = server.connect().await.expect("connects");
    let (vm, snapshot) = (VmRef::new("vm-1"), SnapshotRef::new("snapshot-1"));
    let map = client
        .changed_areas(&vm, &snapshot, 2000, Since::Beginning, 1 << 40)
        .await;
    assert!(
        matches!(map, Err(Error::BadChangeMap { key: 2000, .. })),
        "{map:?}"
    );
    let all = server.requests.lock().expect("not poisoned");
    assert_eq!(
        all.iter()
            .filter(|request| request.contains("<QueryChanged"))
            .count(),
        1
    );
}

/// Answers to requests by what their first line begins with.
type Web = &'static [(&'static str, &'static str, &'static str)];

async fn surroundings(web: Web) -> (VmSurroundings, Vec<String>) {
    let respond = move |request: &str| {
        if request.contains("<RetrievePropertiesEx") {
            return Some(properties("VirtualMachine", "vm-1", &[]));
        }
        let found = web.iter().find(|(start, _, _)| request.starts_with(start));
        match found {
            Some((_, status, body)) => Some((format!("HTTP/1.1 {status}\r\n"), (*body).into())),
            None if request.contains(" /api") || request.contains(" /rest") => {
                Some(("HTTP/1.1 404 No\r\n".into(), String::new()))
            }
            None => None,
        }
    };
    let server = Server::start(respond).await;
    let client = server.connect().await.expect("connects");
    let around = client.vm_surroundings(&VmRef::new("vm-1")).await;
    let asked = server.requests.lock().expect("not poisoned").clone();
    (around.expect("surroundings"), asked)
}

fn tag(category: &str, name: &str) -> Tag {
    Tag {
        category: category.into(),
        name: name.into(),
    }
}

#[tokio::test]
async fn tags_and_policies_are_read_and_the_session_is_ended() {
    const WEB: Web = &[
        ("POST /api/session", "201 Made", "\"hidden\""),
        (
            "POST /api/cis/tagging/tag-association?action=list-attached-tags",
            "200 OK",
            "[\"urn:1\"]",
        ),
        (
            "GET /api/cis/tagging/tag/urn:1",
            "200 OK",
            r#"{"name": "gold", "category_id": "urn:c"}"#,
        ),
        (
            "GET /api/cis/tagging/category/urn:c",
            "200 OK",
            r#"{"name": "tier"}"#,
        ),
        (
            "GET /api/vcenter/vm/vm-1/storage/policy",
            "200 OK",
            r#"{"vm_home": "p", "disks": {}}"#,
        ),
        ("DELETE /api/session", "204 Gone", ""),
    ];
    let (around, asked) = surroundings(WEB).await;
    assert_eq!(around.tags, Told::Known(vec![tag("tier", "gold")]));
    let home = Some("p".to_owned());
    let policies = StoragePolicies {
        home,
        disks: vec![],
    };
    assert_eq!(around.storage_policies, Told::Known(policies));
    let ended = asked
        .iter()
        .filter(|r| r.starts_with("DELETE /api/session"));
    assert_eq!(ended.count(), 1);
}

#[tokio::test]
async fn an_older_server_is_asked_in_its_own_dialect() {
    const WEB: Web = &[
        (
            "POST /rest/com/vmware/cis/session",
            "200 OK",
            r#"{"value": "hidden"}"#,
        ),
        (
            "POST /rest/com/vmware/cis/tagging/tag-association?~action=list-attached-tags",
            "200 OK",
            r#"{"value": []}"#,
        ),
    ];
    let (around, asked) = surroundings(WEB).await;
    assert_eq!(around.tags, Told::Known(vec![]));
    // It has no policies: that is told, and the tags are there.
    assert!(matches!(around.storage_policies, Told::Unknown(_)));
    assert!(
        asked
            .iter()
            .any(|r| r.starts_with("DELETE /rest/com/vmware/cis/session"))
    );
}

#[tokio::test]
async fn a_server_without_the_other_interface_is_no_failure() {
    for web in [
        &[][..],
        &[("POST /api/session", "401 No", "")],
        &[("POST /api/session", "200 OK", "<html>")],
    ] {
        let (around, _) = surroundings(web).await;
        match around.tags {
            Told::Unknown(why) => assert!(why.contains("no session"), "{why}"),
            Told::Known(tags) => panic!("{tags:?}"),
        }
    }
}
