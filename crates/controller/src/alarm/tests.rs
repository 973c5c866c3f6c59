use std::sync::Arc;

use stillwater_catalog::SystemClock;
use stillwater_types::{DiskId, VcenterId, VmId};

use super::*;

fn vm(moref: &str) -> VmId {
    VmId {
        vcenter: VcenterId::from_bytes([7; 16]),
        moref: moref.into(),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn raised(moref: &str, message: &str) -> AlarmEvent {
    AlarmEvent::Raised {
        kind: AlarmKind::LeftoverSnapshot,
        subject: vm(moref).into(),
        message: message.into(),
    }
}

fn cleared(moref: &str) -> AlarmEvent {
    AlarmEvent::Cleared {
        kind: AlarmKind::LeftoverSnapshot,
        subject: vm(moref).into(),
    }
}

fn board(history: &[AlarmEvent]) -> Board {
    let mut board = Board::default();
    for (second, event) in history.iter().enumerate() {
        board.apply(at(i64::try_from(second).expect("short")), event);
    }
    board
}

#[track_caller]
fn check(history: &[AlarmEvent], expected: Option<(i64, i64, &str)>) {
    let board = board(history);
    let found = board.find(AlarmKind::LeftoverSnapshot, &vm("vm-1").into());
    let found = found.map(|a| (a.raised_at, a.changed_at, a.message.as_str()));
    assert_eq!(
        found,
        expected.map(|(raised, changed, m)| (at(raised), at(changed), m))
    );
}

#[test]
fn an_alarm_stands_since_it_was_raised_first_with_its_last_message() {
    check(&[], None);
    check(&[raised("vm-1", "a")], Some((0, 0, "a")));
    check(
        &[raised("vm-1", "a"), raised("vm-1", "b")],
        Some((0, 1, "b")),
    );
    check(&[raised("vm-1", "a"), cleared("vm-1")], None);
    check(&[cleared("vm-1")], None);
    let again = [raised("vm-1", "a"), cleared("vm-1"), raised("vm-1", "b")];
    check(&again, Some((2, 2, "b")));
    check(&[raised("vm-1", "a"), cleared("vm-2")], Some((0, 0, "a")));
}

#[test]
fn what_is_over_is_kept_but_does_not_pile_up() {
    let mut history = vec![raised("vm-stays", "a")];
    for n in 0..CLEARED_MAX + 10 {
        let name = format!("vm-{n:05}");
        history.extend([raised(&name, "a"), cleared(&name)]);
    }
    let board = board(&history);
    assert_eq!(board.iter().count(), CLEARED_MAX + 1);
    assert_eq!(board.standing().count(), 1);
    // The oldest went.
    let oldest: Vec<_> = board.iter().filter(|a| !a.stands()).collect();
    assert_eq!(oldest[0].subject, vm("vm-00010").into());
}

#[test]
fn an_event_reads_the_same_for_ever() {
    let kind = AlarmKind::ChangeMapLied;
    let subject = Subject::from(DiskId {
        vm: vm("vm-1"),
        key: 2000,
    });
    let event = AlarmEvent::Cleared { kind, subject };
    let json = r#"{"cleared":{"kind":"CHANGE_MAP_LIED","subject":{"disk":{"vm":{"vcenter":"07070707-0707-0707-0707-070707070707","moref":"vm-1"},"key":2000}}}}"#;
    assert_eq!(serde_json::to_string(&event).expect("serializes"), json);
    assert_eq!(
        serde_json::from_str::<AlarmEvent>(json).expect("parses"),
        event
    );
}

#[test]
fn every_kind_has_a_page_and_every_page_a_kind() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations/alarms");
    let pages = std::fs::read_dir(dir).expect("the pages");
    let mut names: Vec<String> = pages
        .map(|page| {
            page.expect("a page")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    names.sort();
    let kinds = AlarmKind::ALL.iter().map(|kind| format!("{kind}.md"));
    let mut expected: Vec<String> = kinds.collect();
    expected.sort();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn alarms_outlive_a_restart_and_are_journalled_only_when_they_change() {
    let dir = tempfile::tempdir().expect("a directory");
    let subject = Subject::from(vm("vm-1"));
    let kind = AlarmKind::ConsolidationNeeded;
    {
        let memory = Memory::open(dir.path(), Arc::new(SystemClock)).expect("opens");
        let alarms = Alarms::new(memory.clone());
        assert!(!alarms.clear(kind, subject.clone()).await.expect("clears"));
        alarms
            .raise(kind, subject.clone(), "a")
            .await
            .expect("raises");
        let first = memory.state();
        alarms
            .raise(kind, subject.clone(), "a")
            .await
            .expect("raises");
        assert!(
            Arc::ptr_eq(&first, &memory.state()),
            "nothing was journalled"
        );
        alarms
            .raise(kind, subject.clone(), "é".repeat(5000))
            .await
            .expect("raises");
    }
    let memory = reopened(dir.path());
    let kept = memory
        .state()
        .alarms
        .find(kind, &subject)
        .cloned()
        .expect("stands");
    assert!(kept.message.len() <= MESSAGE_BYTES_MAX + '…'.len_utf8());
    let alarms = Alarms::new(memory.clone());
    assert!(alarms.clear(kind, subject.clone()).await.expect("clears"));
    assert_eq!(memory.state().alarms.standing().count(), 0);
    assert_eq!(memory.state().alarms.iter().count(), 1);
}

/// The writer's thread lets go of the journal a moment after its last handle went.
fn reopened(dir: &std::path::Path) -> Memory {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match Memory::open(dir, Arc::new(SystemClock)) {
            Ok(memory) => return memory,
            Err(fault) if std::time::Instant::now() > until => panic!("{fault}"),
            Err(_) => std::thread::yield_now(),
        }
    }
}
