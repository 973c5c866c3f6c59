use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use stillwater_format::commit::Signed;
use stillwater_store::vfs::RealFs;
use stillwater_store::{
    Error, Identity, MemoryCatalogue, MemoryIndex, Options, StatementState, Store, SystemClock,
};
use stillwater_types::ClusterId;
use tempfile::TempDir;

use super::*;
use crate::admin::keygen;
use crate::engine;

#[derive(Debug, Parser)]
struct Command {
    #[command(subcommand)]
    act: Act,
}

const NODE: &str = "0190a1b2-0000-7000-8000-0000000000d2";

/// Two administrators, each with a key in a file.
struct Office {
    dir: TempDir,
    keys: [[u8; 32]; 2],
}

impl Office {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = ["alice", "bob"].map(|name| keygen(&dir.path().join(name)).unwrap());
        Self { dir, keys }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn act(&self, words: &[&str]) -> Act {
        let words = [&["statement"], words].concat();
        Command::try_parse_from(words).unwrap().act
    }

    /// Alice makes a statement.
    fn new_statement(&self, out: &str, demand: &[&str]) -> Result<(), Fault> {
        let (key, out) = (self.path("alice"), self.path(out));
        let words = ["new", "--node", NODE, "--key", &key, "--out", &out];
        self.act(&[&words, demand].concat()).run()
    }

    /// Bob reads it, and signs if he says so.
    fn sign(&self, file: &str, answer: &str) -> Result<(), Fault> {
        let (file, key) = (self.path(file), self.path("bob"));
        match self.act(&["sign", &file, "--key", &key]) {
            Act::Sign(sign) => sign.run(answer.as_bytes()),
            other => panic!("{other:?}"),
        }
    }

    fn load(&self, file: &str) -> (SignedStatement, Statement) {
        load(Path::new(&self.path(file))).unwrap()
    }
}

#[track_caller]
fn check(demand: &[&str], action: &Action) {
    let office = Office::new();
    office.new_statement("out", demand).unwrap();
    let (signed, statement) = office.load("out");
    assert_eq!(
        (&statement.action, statement.node.to_string().as_str()),
        (action, NODE)
    );
    assert_eq!(signed.signatures.len(), 1);
    let text = std::fs::read_to_string(office.path("out")).unwrap();
    assert!(text.contains(&action.to_string()), "{text}");
}

#[test]
fn every_demand_is_said_as_it_was_meant() {
    let key = "0a".repeat(32);
    let millis = 7 * 86_400_000;
    check(&["set-floor", "7d"], &Action::SetFloor { millis });
    check(
        &["allow-sweep", "2GiB"],
        &Action::AllowSweep { bytes: 2 << 30 },
    );
    let to = Time::from_millis(1_800_000_000_000);
    check(
        &["advance-time", "2027-01-15T08:00:00Z"],
        &Action::AdvanceTime { to },
    );
    let label = "Carol".to_owned();
    let added = Action::AddAdmin {
        key: [10; 32],
        label,
    };
    check(&["add-admin", "Carol", &key], &added);
    check(
        &["remove-admin", &key],
        &Action::RemoveAdmin { key: [10; 32] },
    );
    let statement = [11; 16];
    check(&["veto", &"0b".repeat(16)], &Action::Veto { statement });
}

#[test]
fn a_statement_is_signed_by_whoever_read_it_and_not_written_over() {
    let office = Office::new();
    office.new_statement("out", &["set-floor", "0d"]).unwrap();
    let refused = office.sign("out", "no\n").unwrap_err();
    assert_eq!(refused.message, "nothing was signed");
    assert_eq!(office.load("out").0.signatures.len(), 1);
    office.sign("out", "yes\n").unwrap();
    office.sign("out", "yes\n").unwrap();
    let (signed, _) = office.load("out");
    let keys: Vec<_> = signed.signatures.iter().map(|given| given.key).collect();
    assert_eq!(keys, office.keys);
    let again = office.new_statement("out", &["set-floor", "1d"]);
    assert_eq!(again.unwrap_err().reason, Reason::BadField);
    assert_eq!(office.load("out").0, signed);
}

/// A store with Alice and Bob as its administrators.
fn store(office: &Office) -> Store {
    let dir = office.dir.path().join("store");
    std::fs::create_dir(&dir).unwrap();
    let env = || stillwater_store::Environment {
        catalogue: Box::new(MemoryCatalogue::default()),
        index: Arc::new(MemoryIndex::default()),
        vfs: Arc::new(RealFs::open(&dir).unwrap()),
        clock: Arc::new(SystemClock::open().unwrap()),
        ..engine::environment(&dir).unwrap()
    };
    let options = Options {
        allow_volatile: true,
        reserve_bytes: 0,
        retention: Duration::ZERO,
        ..Options::default()
    };
    let identity = Identity {
        cluster: ClusterId::mint(),
        node: NODE.parse().unwrap(),
    };
    Store::init(&env(), &options, identity).unwrap();
    let store = Store::open(env(), options).unwrap();
    for key in office.keys {
        store.enrol_admin(key, "host").unwrap();
    }
    store
}

#[test]
fn a_store_takes_what_administrators_signed_and_nothing_that_was_changed() {
    let office = Office::new();
    let store = store(&office);
    office
        .new_statement("out", &["add-admin", "Carol", &"0a".repeat(32)])
        .unwrap();
    office.sign("out", "yes\n").unwrap();
    let (signed, _) = office.load("out");
    let given = signed.signatures.iter().map(|given| Signed {
        statement: signed.statement.clone(),
        key: given.key,
        signature: given.signature,
    });
    let given: Vec<_> = given.collect();
    let mut changed = given[0].clone();
    changed.statement[40] ^= 1;
    assert!(store.submit(&changed).is_err());
    let mut forged = given[0].clone();
    forged.key = given[1].key;
    let refused = store.submit(&forged);
    assert!(
        matches!(refused, Err(Error::StatementRefused { .. })),
        "{refused:?}"
    );
    assert!(matches!(
        store.submit(&given[0]).unwrap(),
        StatementState::Waiting(_)
    ));
    assert_eq!(store.submit(&given[1]).unwrap(), StatementState::Done);
    assert_eq!(store.retention().admins.len(), 3);
}

#[test]
fn the_signature_in_the_format_is_one() {
    let document = include_str!("../../../../docs/format.md");
    let (_, section) = document.split_once("### Vector: signed statement").unwrap();
    let block = section.split("```").nth(1).unwrap();
    let digits: String = block.split_whitespace().collect();
    let payload = HEX.decode(digits.as_bytes()).unwrap();
    let entry = stillwater_format::commit::Entry::decode(13, &payload).unwrap();
    let stillwater_format::commit::Entry::Signed { signed, .. } = entry else {
        panic!("{entry:?}")
    };
    let verify = stillwater_rpc::signing::verify;
    assert!(verify(&signed.key, &signed.statement, &signed.signature));
    assert!(!verify(&[1; 32], &signed.statement, &signed.signature));
}
