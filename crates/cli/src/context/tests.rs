use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use stillwater_rpc::{Ca, PendingKey};
use stillwater_types::{ClusterId, NodeId, Role};

use super::*;

fn identity() -> Identity {
    let ca = Ca::create(ClusterId::mint(), SystemTime::now()).expect("an authority");
    let (key, request) = PendingKey::generate().expect("a key");
    let day = Duration::from_secs(86_400);
    let chain = ca
        .issue(
            &request,
            Role::Admin,
            NodeId::mint(),
            day,
            SystemTime::now(),
        )
        .expect("a certificate");
    key.certify(&chain).expect("an identity")
}

#[test]
fn the_context_kept_last_is_the_current_one_until_another_is_chosen() {
    let dir = tempfile::tempdir().expect("a directory");
    let contexts = Contexts::at(dir.path().join("stillwater"));
    assert_eq!(contexts.names(), Ok(vec![]));
    let (one, two) = (identity(), identity());
    contexts.keep("one", "a.example:7443", &one).expect("kept");
    contexts.keep("two", "b.example:7443", &two).expect("kept");
    assert_eq!(
        contexts.names(),
        Ok(vec!["one".to_owned(), "two".to_owned()])
    );
    let open = |name| contexts.open(name).map(|context| context.controller);
    assert_eq!(open(None).as_deref(), Ok("b.example:7443"));
    assert_eq!(open(Some("one")).as_deref(), Ok("a.example:7443"));
    contexts.choose("one").expect("chosen");
    assert_eq!(
        contexts.open(None).expect("open").identity.name(),
        one.name()
    );
}

#[test]
fn nobody_else_can_read_a_context() {
    let dir = tempfile::tempdir().expect("a directory");
    let contexts = Contexts::at(dir.path().join("stillwater"));
    contexts
        .keep("one", "a.example:7443", &identity())
        .expect("kept");
    let mode = |path: &str| {
        let path = dir.path().join("stillwater").join(path);
        fs::metadata(path).expect("metadata").permissions().mode() & 0o777
    };
    assert_eq!(mode("contexts/one"), 0o700);
    for file in [
        "current",
        "contexts/one/identity.pem",
        "contexts/one/controller",
    ] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
}

#[test]
fn a_context_is_no_path_and_must_exist() {
    let dir = tempfile::tempdir().expect("a directory");
    let contexts = Contexts::at(dir.path().into());
    let reason = |name: Option<&str>| contexts.open(name).expect_err("refused").reason;
    for bad in ["", "..", "../x", "a/b", ".hidden", &"x".repeat(65)] {
        assert_eq!(reason(Some(bad)), Reason::BadField, "{bad:?}");
    }
    assert_eq!(reason(Some("absent")), Reason::NoCertificate);
    assert_eq!(reason(None), Reason::NoCertificate);
}

#[test]
fn another_clusters_context_is_not_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let contexts = Contexts::at(dir.path().into());
    let (one, two) = (identity(), identity());
    assert_eq!(contexts.check("one", one.ca_pin()), Ok(()));
    contexts.keep("one", "a.example:7443", &one).expect("kept");
    assert_eq!(contexts.check("one", one.ca_pin()), Ok(()));
    let refused = contexts.check("one", two.ca_pin()).expect_err("refused");
    assert!(refused.message.contains("--name"), "{refused}");
}
