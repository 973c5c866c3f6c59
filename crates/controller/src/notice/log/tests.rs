use std::sync::Arc;

use futures::future::try_join_all;
use stillwater_catalog::SystemClock;
use stillwater_types::{NodeId, Role};

use super::*;
use crate::event::Actor;
use crate::node::NodeEvent;

/// More than two strides.
const COUNT: u64 = 1100;

fn joined() -> NodeEvent {
    NodeEvent::Joined {
        node: NodeId::mint(),
        role: Role::Proxy,
        name: "p".into(),
        address: "127.0.0.1:1".into(),
        certificate_expires_at: Timestamp::MAX,
    }
}

async fn filled() -> (tempfile::TempDir, Log) {
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory::open(dir.path(), Arc::new(SystemClock)).unwrap();
    let appends = (0..COUNT).map(|_| memory.append(Actor::Console, joined()));
    try_join_all(appends).await.unwrap();
    (dir, Log::new(memory))
}

fn numbers(notices: &[Notice]) -> Vec<u64> {
    notices.iter().map(|notice| notice.number).collect()
}

#[tokio::test]
async fn pages_hold_all_that_is_wanted_once_and_newest_first() {
    let (_dir, log) = filled().await;
    let wanted = |notice: &Notice| notice.number.is_multiple_of(7);
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = log.page(wanted, before, None, 10).await.unwrap();
        seen.extend(numbers(&page.notices));
        assert!(page.before.is_none() || page.notices.len() == 10);
        before = page.before;
        if before.is_none() {
            break;
        }
    }
    let expected = (1..=COUNT).rev().filter(|number| number % 7 == 0);
    assert_eq!(seen, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_list_ends_where_its_time_begins_and_when_all_is_told() {
    let (_dir, log) = filled().await;
    let all = log.page(|_| true, None, None, 1100).await.unwrap();
    assert_eq!((all.notices.len(), all.before), (1100, None));
    let since = all.notices[700].at;
    let young = all.notices.iter().filter(|notice| notice.at >= since);
    let young: Vec<Notice> = young.cloned().collect();
    let page = log.page(|_| true, None, Some(since), 1100).await.unwrap();
    assert_eq!((page.notices, page.before), (young, None));
}

#[tokio::test]
async fn whoever_follows_is_told_everything_once_and_waits_for_what_comes() {
    let (_dir, log) = filled().await;
    let (mut seen, mut after) = (Vec::new(), 0);
    while after < COUNT {
        let (notices, end) = log.after(after).await.unwrap();
        seen.extend(numbers(&notices));
        after = end;
    }
    assert_eq!(seen, (1..=COUNT).collect::<Vec<_>>());
    let (next, appended) = tokio::join!(
        log.after(COUNT),
        log.memory().append(Actor::Console, joined())
    );
    appended.unwrap();
    let (notices, end) = next.unwrap();
    assert_eq!((numbers(&notices), end), (vec![COUNT + 1], COUNT + 1));
}
