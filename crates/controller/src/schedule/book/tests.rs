use super::super::fixture::*;
use super::*;
use crate::run::Stage;

fn ordered(orders: &[Order]) -> Vec<(&str, &str)> {
    let each = orders.iter();
    each.map(|order| (order.policy.name.as_str(), order.member.name.as_str()))
        .collect()
}

#[test]
fn what_a_policy_names_is_started_and_ends_and_is_due_again_before_its_promise_is_broken() {
    let mut book = book();
    book.tell_promises(&promises(&[("gold", &[1, 2])]), at(0));
    // Who is in scope at the first look has been so since the policy was applied: long due.
    let orders = book.decide(at(0));
    assert_eq!(ordered(&orders), [("gold", "web-1"), ("gold", "web-2")]);
    assert!(orders.iter().all(|order| order.repository == repository()));
    for (order, number) in orders.iter().zip(1..) {
        book.begun(order, run_id(number));
    }
    assert!(book.decide(at(5)).is_empty(), "both are on their way");
    book.ended(&whole(run(1, 1, Some("gold"), 0)), at(10));
    book.ended(&whole(run(2, 2, Some("gold"), 0)), at(10));
    assert!(book.decide(at(600)).is_empty(), "nothing is due");
    let due = book.next_wake(at(600)).expect("is due again");
    assert!(due > at(600) && due < at(3_600), "{due}");
    assert_eq!(book.decide(at(3_590)).len(), 2);
}

#[test]
fn a_vm_that_comes_into_scope_is_started_and_one_that_leaves_is_not() {
    let mut book = book();
    book.tell_promises(&promises(&[("gold", &[])]), at(0));
    assert!(book.decide(at(0)).is_empty());
    book.tell_promises(&promises(&[("gold", &[3])]), at(10));
    let orders = book.decide(at(700));
    assert_eq!(ordered(&orders), [("gold", "web-3")]);
    book.begun(&orders[0], run_id(1));
    book.tell_promises(&promises(&[("gold", &[])]), at(710));
    book.ended(&failed(run(1, 3, Some("gold"), 700)), at(720));
    assert!(book.decide(at(90_000)).is_empty());
    // It is there again, and a policy that is removed takes all its jobs with it.
    book.tell_promises(&promises(&[("gold", &[3])]), at(90_000));
    book.tell_promises(&promises(&[]), at(90_010));
    assert!(book.decide(at(180_000)).is_empty());
}

#[test]
fn what_is_in_scope_of_a_vcenter_that_does_not_answer_stays_unless_its_policy_goes() {
    let mut book = book();
    book.tell_promises(&promises(&[("gold", &[1])]), at(0));
    let silent = |policies| Promises {
        unread: [vcenter()].into(),
        untagged: BTreeSet::new(),
        ..promises(policies)
    };
    book.tell_promises(&silent(&[("gold", &[])]), at(1));
    assert_eq!(ordered(&book.clone().decide(at(2))), [("gold", "web-1")]);
    book.tell_promises(&silent(&[]), at(3));
    assert!(book.decide(at(4)).is_empty());
}

#[test]
fn a_restart_forgets_neither_points_nor_failures_nor_runs_on_their_way() {
    let mut book = book();
    book.remember(&whole(run(1, 1, Some("gold"), -600)));
    // The newest first; before they failed there was one that did not.
    for (number, started) in (2..6).zip([-60, -70, -80, -90]) {
        book.remember(&failed(run(number, 2, Some("gold"), started)));
    }
    book.remember(&whole(run(6, 2, Some("gold"), -7_000)));
    book.saw(&vm(3), repository(), at(-600));
    book.saw(&vm(5), NodeId::from_bytes([9; 16]), at(-600));
    book.tell_promises(&promises(&[("gold", &[1, 2, 3, 4, 5])]), at(0));
    let on_its_way = run(9, 4, Some("gold"), -30);
    book.tell_active([&on_its_way]);
    // Of the last one a point is known, but elsewhere.
    assert_eq!(ordered(&book.decide(at(0))), [("gold", "web-5")]);
    assert_eq!(book.running(), [run_id(9)].into());
    book.ended(&whole(on_its_way), at(1));
    assert!(book.running().is_empty());
    let failures = |book: &Book, number| {
        let ix = book.find("gold", &vm(number)).expect("is a job");
        book.state.job_at(ix).history.failures
    };
    assert_eq!(failures(&book, 2), 4);
    assert_eq!(failures(&book, 1), 0);
}

#[test]
fn a_vm_that_an_administrator_backs_up_waits_and_the_point_counts() {
    let mut book = book();
    book.tell_promises(&promises(&[("gold", &[1])]), at(0));
    let own = run(1, 1, None, 0);
    book.tell_active([&own]);
    assert!(book.decide(at(1)).is_empty());
    let waits: Vec<Blocked> = book.waiting.values().copied().collect();
    assert_eq!(waits, [Blocked::VmBusy]);
    let told: Vec<_> = book.waits().into_iter().collect();
    assert!(
        told.contains(&("vm", 1)) && told.contains(&("proxy", 0)),
        "{told:?}"
    );
    book.ended(&whole(own), at(10));
    book.tell_active([]);
    assert!(book.decide(at(600)).is_empty(), "there is a point");
    assert_eq!(book.decide(at(3_590)).len(), 1);
}

#[test]
fn slots_that_others_have_are_not_given_again() {
    let mut book = book();
    book.tell_promises(&promises(&[("gold", &[1, 2, 3, 4])]), at(0));
    let mut busy = nodes();
    busy.proxies[0].taken = 2;
    busy.proxies[1].taken = 1;
    book.tell_nodes(busy.clone());
    let orders = book.decide(at(0));
    assert_eq!(orders.len(), 1);
    book.begun(&orders[0], run_id(1));
    // Its own slot does not count twice.
    busy.proxies[1].taken = 2;
    book.tell_nodes(busy);
    assert!(book.decide(at(1)).is_empty());
    // One of the two slots of each proxy is kept for VMs that have a point already.
    book.tell_nodes(nodes());
    assert_eq!(book.decide(at(2)).len(), 1);
}

#[test]
fn nothing_starts_towards_a_repository_that_is_gone_or_takes_nothing() {
    let mut book = book();
    let mut closed = nodes();
    closed.repositories[0].accepts = false;
    let gone = NodesNow {
        repositories: Vec::new(),
        ..nodes()
    };
    for without in [closed, gone] {
        book.tell_nodes(without);
        book.tell_promises(&promises(&[("gold", &[1])]), at(0));
        assert!(book.decide(at(0)).is_empty());
        let waits: Vec<&Blocked> = book.waiting.values().collect();
        assert!(
            matches!(waits[..], [Blocked::RepositoryClosed(_)]),
            "{waits:?}"
        );
    }
    book.tell_nodes(nodes());
    assert_eq!(book.decide(at(0)).len(), 1);
}

#[test]
fn an_order_of_which_no_run_came_holds_nothing_and_is_tried_again() {
    let mut book = book();
    book.tell_promises(&promises(&[("gold", &[1])]), at(0));
    let orders = book.decide(at(0));
    book.not_begun(&orders[0], at(0));
    assert!(book.decide(at(1)).is_empty(), "not at once");
    let orders = book.decide(at(61));
    assert_eq!(orders.len(), 1);
    book.begun(&orders[0], run_id(1));
    book.vanished(run_id(1), at(62));
    assert_eq!(book.decide(at(3_600)).len(), 1);
}

#[test]
fn a_point_is_never_told_younger_than_it_is_and_snapshots_are_timed() {
    let mut run = whole(run(1, 1, None, 100));
    run.path.push((at(108), Stage::Releasing));
    run.path.push((at(109), Stage::Committing));
    run.stun_micros = Some(1_500_000);
    let told = past::outcome(&run);
    assert_eq!(told.point, Some(at(101)));
    assert_eq!(told.create.as_secs(), 2);
    assert_eq!(told.remove.as_secs(), 1);
    assert_eq!(told.stun.as_millis(), 1_500);
    run.committed = None;
    assert_eq!(past::outcome(&run).point, None);
}
