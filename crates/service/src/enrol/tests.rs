use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use stillwater_rpc::{Ca, NODE_VALIDITY};
use stillwater_types::{ClusterId, NodeId};

use super::*;

const ADDRESS: &str = "controller.example:7443";

/// A cluster's authority and a node that wants to be a repository of it.
struct Site {
    ca: Ca,
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        Self {
            ca: authority(),
            dir: tempfile::tempdir().expect("a directory"),
        }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn token(&self, role: Role) -> String {
        let token = Token::mint(ADDRESS, self.ca.spki_pin(), role).expect("a token");
        token.to_text().to_string()
    }

    /// Enrols with a controller that answers a certificate of `role` by `authority`.
    async fn enrol(&self, text: &str, authority: &Ca, role: Role) -> Result<Identity, Fault> {
        let ask = async |_: Token, request: Vec<u8>| answer(authority, &request, role);
        enrol(Role::Repository, &self.state(), text, ask, |_| Ok(())).await
    }

    /// That `text` is refused before the controller is asked.
    async fn refuses(&self, text: &str, expected: Reason) {
        let asked = AtomicBool::new(false);
        let ask = async |_: Token, request: Vec<u8>| {
            asked.store(true, Ordering::Relaxed);
            answer(&self.ca, &request, Role::Repository)
        };
        let refused = enrol(Role::Repository, &self.state(), text, ask, |_| Ok(())).await;
        assert_eq!(refused.map_err(|fault| fault.reason).err(), Some(expected));
        assert!(!asked.into_inner(), "the token was used up");
    }

    fn has_joined(&self) -> bool {
        Identity::exists(&identity_dir(&self.state()))
    }
}

fn authority() -> Ca {
    Ca::create(ClusterId::mint(), SystemTime::now()).expect("an authority")
}

fn answer(authority: &Ca, request: &[u8], role: Role) -> Result<Enrolled, Fault> {
    let now = SystemTime::now();
    let certificate_chain = authority.issue(request, role, NodeId::mint(), NODE_VALIDITY, now)?;
    Ok(Enrolled {
        certificate_chain,
        files: vec![("grant-key", b"00ff".to_vec())],
    })
}

#[tokio::test]
async fn a_node_that_joined_finds_itself_its_files_and_its_controller_again() {
    let site = Site::new();
    let text = format!("{}\n", site.token(Role::Repository));
    let joined = site.enrol(&text, &site.ca, Role::Repository).await;
    let joined = joined.expect("joined");
    let kept = Identity::load(&identity_dir(&site.state())).expect("kept");
    assert_eq!(kept.name(), joined.name());
    assert_eq!(read(&site.state(), "grant-key"), Ok("00ff".to_owned()));
    let found = |configured| controller(configured, &site.state()).expect("known");
    let target = found(None);
    assert_eq!(
        (target.address.as_str(), target.role, target.node),
        (ADDRESS, Role::Controller, None)
    );
    assert_eq!(found(Some("moved.example:1")).address, "moved.example:1");
}

#[tokio::test]
async fn a_token_that_does_not_fit_is_not_used_up() {
    let site = Site::new();
    site.refuses("swt1.garbage", Reason::TokenInvalid).await;
    for role in [Role::Controller, Role::Proxy, Role::Admin] {
        site.refuses(&site.token(role), Reason::TokenInvalid).await;
    }
    assert!(!site.state().exists(), "a refused join left something");
}

#[tokio::test]
async fn a_node_that_has_joined_stays_who_it_is() {
    let site = Site::new();
    let token = site.token(Role::Repository);
    let first = site.enrol(&token, &site.ca, Role::Repository).await;
    let first = first.expect("joined");
    site.refuses(&site.token(Role::Repository), Reason::BadField)
        .await;
    let kept = Identity::load(&identity_dir(&site.state())).expect("kept");
    assert_eq!(kept.node(), first.node());
}

#[tokio::test]
async fn an_answer_of_another_cluster_or_for_another_role_is_not_believed() {
    let (site, stranger) = (Site::new(), authority());
    let token = site.token(Role::Repository);
    for (authority, role) in [(&stranger, Role::Repository), (&site.ca, Role::Proxy)] {
        let refused = site.enrol(&token, authority, role).await;
        let reason = refused.map_err(|fault| fault.reason).err();
        assert_eq!(reason, Some(Reason::CertificateUntrusted), "{role}");
        assert!(!site.state().exists(), "{role} left something");
    }
}

#[tokio::test]
async fn a_node_that_cannot_settle_has_not_joined() {
    let site = Site::new();
    let ask = async |_: Token, request: Vec<u8>| answer(&site.ca, &request, Role::Repository);
    let settle = |_: &Identity| Err(Fault::new(Reason::StorageUnfit, "no room"));
    let text = site.token(Role::Repository);
    let refused = enrol(Role::Repository, &site.state(), &text, ask, settle).await;
    let reason = refused.map_err(|fault| fault.reason).err();
    assert_eq!(reason, Some(Reason::StorageUnfit));
    assert!(!site.has_joined());
}

#[tokio::test]
async fn the_files_are_there_when_the_identity_is_and_it_is_not_when_they_cannot_be() {
    let site = Site::new();
    state::prepare(&site.state()).expect("made");
    // A directory in the place of the last file: what is kept before it was kept, the identity not.
    let blocked = site.state().join(CONTROLLER_FILE);
    fs::create_dir(&blocked).expect("made");
    let token = site.token(Role::Repository);
    let refused = site.enrol(&token, &site.ca, Role::Repository).await;
    let reason = refused.map_err(|fault| fault.reason).err();
    assert_eq!(reason, Some(Reason::StorageFailed));
    assert!(site.state().join("grant-key").exists() && !site.has_joined());
    fs::remove_dir(&blocked).expect("removed");
    let joined = site.enrol(&token, &site.ca, Role::Repository).await;
    assert!(joined.is_ok() && site.has_joined());
}

#[tokio::test]
async fn the_node_settles_under_its_new_name_before_it_has_it() {
    let site = Site::new();
    let ask = async |_: Token, request: Vec<u8>| answer(&site.ca, &request, Role::Repository);
    let dir = identity_dir(&site.state());
    let (told, settled) = std::sync::mpsc::channel();
    let settle = move |identity: &Identity| {
        told.send((identity.node(), Identity::exists(&dir)))
            .map_err(|_| Fault::new(Reason::Bug, "nobody listens"))
    };
    let text = site.token(Role::Repository);
    let joined = enrol(Role::Repository, &site.state(), &text, ask, settle).await;
    let node = joined.expect("joined").node();
    assert_eq!(settled.recv(), Ok((node, false)));
}
