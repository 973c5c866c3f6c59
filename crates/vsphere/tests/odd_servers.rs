//! Servers that answer as none should: each is met with a typed error and a bound.

#[path = "support/server.rs"]
mod server;

use std::time::Duration;

use server::{Answer, Server, properties, returned};
use stillwater_types::Reason;
use stillwater_vsphere::{
    Error, Since, SnapshotRef, StoragePolicies, Tag, TaggedVms, TaskRef, Told, VmRef,
    VmSurroundings,
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

fn web_only(web: Web) -> impl Fn(&str) -> Option<Answer> {
    move |request: &str| {
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
    }
}

async fn surroundings(web: Web) -> (VmSurroundings, Vec<String>) {
    let server = Server::start(web_only(web)).await;
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

/// Which VMs have tags of a category `tier`, and what was asked.
async fn tagged(web: Web) -> (Result<TaggedVms, Error>, Vec<String>) {
    let server = Server::start(web_only(web)).await;
    let client = server.connect().await.expect("connects");
    let tagged = match client.tag_names().await {
        Ok(names) => {
            client
                .tagged_vms(&names, |tag| tag.category == "tier")
                .await
        }
        Err(error) => Err(error),
    };
    let asked = server.requests.lock().expect("not poisoned").clone();
    (tagged, asked)
}

const NAMES: Web = &[
    ("POST /api/session", "201 Made", "\"hidden\""),
    (
        "GET /api/cis/tagging/tag/urn:1",
        "200 OK",
        r#"{"name": "gold", "category_id": "urn:c"}"#,
    ),
    (
        "GET /api/cis/tagging/tag/urn:2",
        "200 OK",
        r#"{"name": "lead", "category_id": "urn:c"}"#,
    ),
    (
        "GET /api/cis/tagging/tag/urn:3",
        "200 OK",
        r#"{"name": "red", "category_id": "urn:d"}"#,
    ),
    (
        "GET /api/cis/tagging/category/urn:c",
        "200 OK",
        r#"{"name": "tier"}"#,
    ),
    (
        "GET /api/cis/tagging/category/urn:d",
        "200 OK",
        r#"{"name": "colour"}"#,
    ),
    // It was deleted while they were read.
    ("GET /api/cis/tagging/tag/urn:4", "404 No", ""),
    (
        "GET /api/cis/tagging/tag",
        "200 OK",
        r#"["urn:1", "urn:2", "urn:3", "urn:4"]"#,
    ),
    ("DELETE /api/session", "204 Gone", ""),
];

#[tokio::test]
async fn the_vms_of_tags_take_one_call_for_each_tag_that_is_asked_for() {
    let all = [
        NAMES,
        &[
            (
                "POST /api/cis/tagging/tag-association/urn:1?action=list-attached-objects",
                "200 OK",
                r#"[{"type": "VirtualMachine", "id": "vm-1"}, {"type": "HostSystem", "id": "host-1"}, {"type": "VirtualMachine", "id": "vm-2"}]"#,
            ),
            (
                "POST /api/cis/tagging/tag-association/urn:2?action=list-attached-objects",
                "200 OK",
                r#"[{"type": "VirtualMachine", "id": "vm-2"}]"#,
            ),
        ],
    ];
    let (found, asked) = tagged(all.concat().leak()).await;
    let (gold, lead) = (tag("tier", "gold"), tag("tier", "lead"));
    let expected: TaggedVms = [
        (VmRef::new("vm-1"), [gold.clone()].into()),
        (VmRef::new("vm-2"), [gold, lead].into()),
    ]
    .into();
    assert_eq!(found.expect("is told"), expected);
    let count = |start: &str| asked.iter().filter(|r| r.starts_with(start)).count();
    assert_eq!(
        count("GET /api/cis/tagging/category"),
        2,
        "each once: {asked:?}"
    );
    assert_eq!(
        count("POST /api/cis/tagging"),
        2,
        "not for other tags: {asked:?}"
    );
    assert_eq!(count("DELETE /api/session"), 2);
}

#[tokio::test]
async fn a_tag_whose_vms_are_not_told_is_no_tag_without_vms() {
    for answer in ["500 No", "404 No"] {
        let web = [
            NAMES,
            &[("POST /api/cis/tagging/tag-association", answer, "")],
        ];
        let (found, _) = tagged(web.concat().leak()).await;
        assert!(matches!(found, Err(Error::Unreachable { .. })), "{found:?}");
    }
    let (found, _) = tagged(&[]).await;
    assert!(found.is_err(), "{found:?}");
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
