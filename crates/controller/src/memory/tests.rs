use std::path::PathBuf;

use stillwater_catalog::SystemClock;
use stillwater_types::{NodeId, RequestId, Role, VcenterId, VmId};

use super::*;
use crate::node::NodeEvent;
use crate::run::{BackupWork, Outcome, RunEvent, Work};

fn open(dir: &Path) -> Memory {
    Memory::open(dir, Arc::new(SystemClock)).unwrap()
}

/// The writer lets the journal go when the last handle is gone, a moment later.
fn reopen(dir: &Path) -> Memory {
    loop {
        match Memory::open(dir, Arc::new(SystemClock)) {
            Ok(memory) => return memory,
            Err(fault) => assert_eq!(fault.reason, Reason::StorageFailed, "{fault}"),
        }
        std::thread::yield_now();
    }
}

fn joined(node: NodeId) -> NodeEvent {
    NodeEvent::Joined {
        node,
        role: Role::Proxy,
        name: "p".into(),
        address: "127.0.0.1:1".into(),
        certificate_expires_at: Timestamp::MAX,
    }
}

fn event(run: RunId, event: RunEvent) -> Event {
    Event::Run {
        run,
        event: Box::new(event),
    }
}

fn started(moref: &str) -> RunEvent {
    let vm = VmId {
        vcenter: VcenterId::from_bytes([1; 16]),
        moref: moref.into(),
    };
    let work = Work::Backup(BackupWork::new(vm, moref));
    RunEvent::Started {
        request: RequestId::mint(),
        work,
    }
}

fn end_run(memory: &Memory, moref: &str) -> RunId {
    let run = RunId::mint();
    memory
        .append_blocking(Actor::Console, event(run, started(moref)))
        .unwrap();
    let ended = RunEvent::Ended(Outcome::Cancelled);
    memory
        .append_blocking(Actor::Controller, event(run, ended))
        .unwrap();
    run
}

fn journal(dir: &Path) -> PathBuf {
    dir.join(JOURNAL_FILE)
}

#[test]
fn what_was_answered_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let (node, active) = (NodeId::mint(), RunId::mint());
    let state = memory
        .append_blocking(Actor::Console, joined(node))
        .unwrap();
    assert!(
        state.nodes.find(node).is_some(),
        "the answer holds the event"
    );
    memory
        .append_blocking(Actor::Console, event(active, started("vm-1")))
        .unwrap();
    let ended = end_run(&memory, "vm-2");
    drop(memory);
    let memory = reopen(dir.path());
    assert!(memory.state().nodes.find(node).is_some());
    assert!(memory.state().runs.find(active).is_some());
    assert!(memory.state().runs.find(ended).is_none());
    assert_eq!(
        memory.ended_run(ended).unwrap().ending,
        Some(Outcome::Cancelled)
    );
}

#[test]
fn a_refused_event_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let node = NodeId::mint();
    memory
        .append_blocking(Actor::Console, joined(node))
        .unwrap();
    let before = std::fs::metadata(journal(dir.path())).unwrap().len();
    memory
        .append_blocking(Actor::Console, joined(node))
        .unwrap_err();
    let unknown = event(RunId::mint(), RunEvent::Halted);
    let fault = memory.append_blocking(Actor::Console, unknown).unwrap_err();
    assert_eq!(fault.reason, Reason::RunNotFound);
    assert_eq!(
        std::fs::metadata(journal(dir.path())).unwrap().len(),
        before
    );
}

#[test]
fn the_projection_is_rebuilt_from_the_journal_when_it_is_gone_or_garbage() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let runs: Vec<RunId> = (0..5)
        .map(|n| end_run(&memory, &format!("vm-{n}")))
        .collect();
    let told = memory.notices(None, 99);
    let numbers: Vec<u64> = told.iter().map(|notice| notice.number).collect();
    assert_eq!(numbers, (1..=10).rev().collect::<Vec<_>>());
    assert_eq!(memory.notice(4).as_ref(), told.get(6));
    assert_eq!(memory.notices(Some(9), 2), told[2..4]);
    drop(memory);
    let rows = dir.path().join(PROJECTION_DIR);
    for damage in [
        (|rows: &Path| std::fs::remove_dir_all(rows).unwrap()) as fn(&Path),
        |rows| std::fs::write(rows.join("db"), [7; 5000]).unwrap(),
    ] {
        drop(reopen(dir.path()));
        // Opened once more only to know that the writer has let go.
        let held = reopen(dir.path());
        drop(held);
        wait_for_lock(dir.path());
        damage(&rows);
        let memory = reopen(dir.path());
        let listed: Vec<RunId> = memory
            .ended_runs(None, 9)
            .iter()
            .map(|run| run.id)
            .collect();
        assert_eq!(listed, runs.iter().rev().copied().collect::<Vec<_>>());
        assert_eq!(memory.ended_runs(Some(runs[2]), 9).len(), 2);
        assert_eq!(memory.notices(None, 99), told, "the same numbers again");
    }
}

#[test]
fn only_the_notices_of_the_last_entries_are_kept() {
    let rows = |number| writer::rows(&Applied::default(), number);
    assert_eq!(rows(NOTICES_KEPT - 1), []);
    let oldest = 7_u64.to_be_bytes().to_vec();
    let removed = stillwater_catalog::Write::Remove(NOTICES, oldest);
    assert_eq!(rows(NOTICES_KEPT + 7), [removed]);
}

fn wait_for_lock(dir: &Path) {
    let path = journal(dir);
    while let Err(error) = Journal::<Event>::open(&path, |_, _| {}) {
        assert!(
            matches!(error, stillwater_catalog::Error::Locked(_)),
            "{error}"
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_projection_that_lags_behind_the_journal_is_caught_up() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    end_run(&memory, "vm-1");
    drop(memory);
    wait_for_lock(dir.path());
    let rows = dir.path().join(PROJECTION_DIR);
    let kept = dir.path().join("kept");
    copy(&rows, &kept);
    let memory = reopen(dir.path());
    end_run(&memory, "vm-2");
    let marker = stillwater_catalog::Write::Put("points", vec![1], vec![2]);
    memory.projection().write(&[marker], None);
    drop(memory);
    wait_for_lock(dir.path());
    std::fs::remove_dir_all(&rows).unwrap();
    copy(&kept, &rows);
    assert_eq!(reopen(dir.path()).ended_runs(None, 9).len(), 2);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_are_each_answered_with_a_state_that_holds_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let memory = tokio::task::spawn_blocking(move || open(&path))
        .await
        .unwrap();
    let appends = (0..200).map(|_| {
        let memory = memory.clone();
        async move {
            let node = NodeId::mint();
            let state = memory.append(Actor::Console, joined(node)).await.unwrap();
            assert!(state.nodes.find(node).is_some());
        }
    });
    futures::future::join_all(appends).await;
    assert_eq!(memory.state().nodes.iter().count(), 200);
}

#[test]
fn a_vm_has_one_active_run_and_a_request_one_run() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let append = |run, what| memory.append_blocking(Actor::Console, event(run, what));
    let first = RunId::mint();
    append(first, started("vm-1")).unwrap();
    let second = append(RunId::mint(), started("vm-1")).unwrap_err();
    assert_eq!(second.reason, Reason::RunActive);
    append(RunId::mint(), started("vm-2")).unwrap();
    append(first, RunEvent::Ended(Outcome::Succeeded)).unwrap();
    append(RunId::mint(), started("vm-1")).unwrap();
}

/// Tells the time, and asks something whenever it is asked.
struct Watchful(Box<dyn Fn() + Send + Sync>);

impl Clock for Watchful {
    fn now(&self) -> Timestamp {
        (self.0)();
        Timestamp::UNIX_EPOCH
    }
}

#[test]
fn a_refusal_is_told_after_what_it_was_refused_for_can_be_seen() {
    let dir = tempfile::tempdir().unwrap();
    let request = RequestId::mint();
    let twice = |run| match started("vm-1") {
        RunEvent::Started { work, .. } => event(run, RunEvent::Started { request, work }),
        _ => unreachable!(),
    };
    let (first, first_answer) = change(Actor::Console, twice(RunId::mint()));
    let (second, second_answer) = change(Actor::Console, twice(RunId::mint()));
    let (third, third_answer) = change(Actor::Console, event(RunId::mint(), started("vm-2")));
    let refused = Arc::new(std::sync::Mutex::new(second_answer));
    let early = Arc::clone(&refused);
    let clock = Watchful(Box::new(move || {
        let told = early.lock().unwrap().try_recv();
        assert!(told.is_err(), "refused for a run that nobody can see yet");
    }));
    let journal = Journal::open(&dir.path().join(JOURNAL_FILE), |_, _| {}).unwrap();
    let projection = writer::open_projection(
        &dir.path().join(PROJECTION_DIR),
        dir.path().join(JOURNAL_FILE),
        &writer::Fold::default(),
    );
    let (publish, published) = watch::channel(Arc::default());
    let (sender, queue) = mpsc::channel(3);
    for change in [first, second, third] {
        sender.try_send(change).unwrap();
    }
    drop(sender);
    Writer {
        journal,
        projection: Arc::new(projection),
        state: Arc::default(),
        publish,
        clock: Arc::new(clock),
    }
    .run(queue);
    assert!(first_answer.blocking_recv().unwrap().is_ok());
    assert!(refused.lock().unwrap().try_recv().unwrap().is_err());
    assert!(third_answer.blocking_recv().unwrap().is_ok());
    assert!(published.borrow().runs.of_request(request).is_some());
}

#[test]
fn an_event_that_is_too_large_is_refused_alone() {
    let dir = tempfile::tempdir().unwrap();
    let memory = open(dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (good, huge) = runtime.block_on(async {
        let huge = "x".repeat(2 << 20);
        tokio::join!(
            memory.append(Actor::Console, event(RunId::mint(), started("vm-1"))),
            memory.append(Actor::Console, event(RunId::mint(), started(&huge))),
        )
    });
    assert!(good.is_ok());
    assert_eq!(huge.unwrap_err().reason, Reason::Bug);
    let after = memory.append_blocking(Actor::Console, event(RunId::mint(), started("vm-2")));
    assert_eq!(after.unwrap().runs.iter().count(), 2);
}
