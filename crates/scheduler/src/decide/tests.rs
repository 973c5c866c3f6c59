use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use stillwater_policy::{Schedule, Span};

use super::*;
use crate::fixture::{GIB, Small, at, failed, good, proxy, schedule, second, starts};
use crate::{
    DatastoreFacts, HostFacts, Lane, ProxyFacts, RepositoryFacts, Rhythm, Transport, VmLoad,
};

const NO_STUN: Duration = Duration::from_millis(100);
/// A run of an hourly job is due well before this, and its promise not broken yet.
const DUE: i64 = 3_500;

#[track_caller]
fn check_blocked(change: impl Fn(&mut Small), expected: impl Fn(&Small) -> Blocked) {
    let mut small = Small::new();
    let policy = small.hourly();
    let job = small.protected(policy, 1);
    change(&mut small);
    let decision = decide(&small.state, second(DUE));
    assert_eq!(decision.actions, []);
    assert_eq!(decision.waiting, [(job, expected(&small))]);
}

#[test]
fn a_disk_goes_to_the_best_transport_and_the_next_one_to_the_least_load() {
    let mut small = Small::new();
    let policy = small.hourly();
    let load = small.load(1, &[(0, 10), (1, 8), (1, 6)]);
    small.state.job(policy, load, second(0));
    let lanes = starts(&small.step(second(DUE))).remove(0).lanes;
    let [attaches, reads] = small.proxies;
    let told: Vec<_> = lanes
        .iter()
        .map(|lane| (lane.proxy, lane.disks.clone()))
        .collect();
    assert_eq!(
        told,
        [
            (attaches, vec![2_000]),
            (reads, vec![2_001]),
            // Both have one lane; the second one was given less.
            (reads, vec![2_002]),
        ]
    );
}

#[test]
fn the_best_transport_goes_before_load_until_it_is_full() {
    let mut small = Small::new();
    let policy = small.hourly();
    let [attaches, reads] = small.proxies;
    let given: Vec<ProxyIx> = (1..=5)
        .map(|number| {
            small.protected(policy, number);
            starts(&small.step(second(DUE)))[0].lanes[0].proxy
        })
        .collect();
    assert_eq!(given, [attaches, attaches, attaches, attaches, reads]);
}

#[test]
fn disks_without_a_slot_of_their_own_wait_in_a_lane_of_the_run() {
    let mut small = Small::new();
    let policy = small.hourly();
    let reach = small
        .datastores
        .map(|datastore| (datastore, Transport::Nfc));
    small.state.proxy(proxy(1, 0, Standing::Online, &reach));
    small.state.proxy(proxy(2, 2, Standing::Online, &reach));
    let load = small.load(1, &[(0, 5), (0, 9), (1, 3), (1, 1)]);
    let job = small.state.job(policy, load, second(0));
    // Tight promises keep one of two slots; this job has no point yet.
    let lanes = starts(&small.step(second(DUE))).remove(0).lanes;
    let disks: Vec<_> = lanes.iter().map(|lane| lane.disks.clone()).collect();
    assert_eq!(disks, [vec![2_001, 2_000, 2_002, 2_003]]);
    small
        .state
        .finished(job, &good(second(DUE), NO_STUN), second(DUE + 60));
    let lanes = starts(&small.step(second(2 * DUE))).remove(0).lanes;
    let disks: Vec<_> = lanes.iter().map(|lane| lane.disks.clone()).collect();
    assert_eq!(disks, [vec![2_001], vec![2_000, 2_002, 2_003]]);
}

#[test]
fn nothing_starts_unless_everything_that_it_needs_is_free() {
    let one_of = |most| DatastoreFacts {
        snapshots_max: most,
        has_room: true,
    };
    check_blocked(
        |small| {
            small.state.host("esx2", HostFacts { snapshots_max: 0 });
        },
        |small| Blocked::HostSnapshots(small.hosts[1]),
    );
    check_blocked(
        |small| {
            small.state.datastore("ds1", one_of(0));
        },
        |small| Blocked::DatastoreSnapshots(small.datastores[0]),
    );
    check_blocked(
        |small| {
            let full = DatastoreFacts {
                has_room: false,
                ..one_of(9)
            };
            small.state.datastore("ds1", full);
        },
        |small| Blocked::DatastoreFull(small.datastores[0]),
    );
    let repository = |sessions_max, accepts| RepositoryFacts {
        sessions_max,
        accepts,
    };
    check_blocked(
        |small| {
            small.state.repository("main", repository(9, false));
        },
        |small| Blocked::RepositoryClosed(small.repository),
    );
    check_blocked(
        |small| {
            small.state.repository("main", repository(0, true));
        },
        |small| Blocked::RepositorySessions(small.repository),
    );
    check_blocked(
        |small| {
            for number in [1, 2] {
                let reach = [(small.datastores[0], Transport::Nfc)];
                small
                    .state
                    .proxy(proxy(number, 0, Standing::Online, &reach));
            }
        },
        |small| Blocked::ProxySlots(small.datastores[0]),
    );
    check_blocked(
        |small| {
            for (number, standing) in [(1, Standing::Draining), (2, Standing::Lost)] {
                let reach = [(small.datastores[0], Transport::Nfc)];
                small.state.proxy(proxy(number, 4, standing, &reach));
            }
        },
        |small| Blocked::NoProxy(small.datastores[0]),
    );
    check_blocked(
        |small| {
            let ix = small.hourly();
            let terms = small.state.policy_at(ix).clone();
            small.state.policy(crate::PolicyTerms {
                runs_max: 0,
                ..terms
            });
        },
        |small| Blocked::PolicyLimit(small.state.jobs[0].policy),
    );
}

#[test]
fn a_vm_is_in_one_run_at_a_time_also_under_two_policies() {
    let mut small = Small::new();
    let (one, two) = (
        small.hourly(),
        small.policy("second", Schedule::rpo(Span::from_hours(1)), 5),
    );
    let first = small.protected(one, 1);
    let other = small.protected(two, 1);
    let decision = small.step(second(DUE));
    assert_eq!(starts(&decision).len(), 1);
    assert_eq!(decision.waiting, [(other, Blocked::VmBusy)]);
    assert_eq!(small.step(second(DUE)).waiting, [(other, Blocked::VmBusy)]);
    small
        .state
        .finished(first, &good(second(DUE), NO_STUN), second(DUE + 5));
    assert_eq!(starts(&small.step(second(DUE + 5)))[0].job, other);
}

/// Slots for one run at a time.
fn narrow() -> Small {
    let mut small = Small::new();
    let reach = small
        .datastores
        .map(|datastore| (datastore, Transport::Nfc));
    small.state.proxy(proxy(1, 1, Standing::Online, &reach));
    small.state.proxy(proxy(2, 0, Standing::Online, &reach));
    small
}

#[test]
fn the_earliest_promise_comes_first() {
    let mut small = narrow();
    let policy = small.hourly();
    let jobs = [1, 2, 3].map(|number| small.protected(policy, number));
    for (job, point) in jobs.iter().zip([30, 10, 20]) {
        small.state.seen(*job, second(point));
    }
    let first = starts(&small.step(second(DUE))).remove(0);
    assert_eq!(first.job, jobs[1]);
}

#[test]
fn when_there_is_not_enough_policies_share_by_priority_and_nobody_starves() {
    let mut small = narrow();
    let often = small.policy("often", Schedule::rpo(Span::from_mins(5)), 9);
    let seldom = small.policy("seldom", Schedule::rpo(Span::from_hours(2)), 3);
    for number in 0..20 {
        small.protected(often, number);
        small.protected(seldom, number + 100);
    }
    // Each run takes 100 seconds on the one slot: twenty promises of five minutes cannot be kept.
    let mut runs: BTreeMap<PolicyIx, u32> = BTreeMap::new();
    for turn in 100..900 {
        let now = second(turn * 100);
        for start in starts(&small.step(now)) {
            // How long runs take is learnt first: until then everybody is charged alike.
            let policy = small.state.job_at(start.job).policy;
            *runs.entry(policy).or_default() += u32::from(turn >= 300);
            small
                .state
                .finished(start.job, &good(now, NO_STUN), second(turn * 100 + 99));
        }
    }
    let (often, seldom) = (runs[&often], runs[&seldom]);
    // A quarter of 600 turns is its share, and a little less than it asks for.
    assert!((135..=155).contains(&seldom), "{often} {seldom}");
    assert!(often > 400, "{often} {seldom}");
}

#[test]
fn a_late_run_gets_its_datastores_though_others_need_only_one_of_them() {
    let mut small = Small::new();
    let one = DatastoreFacts {
        snapshots_max: 1,
        has_room: true,
    };
    small.state.datastore("ds1", one);
    small.state.datastore("ds2", one);
    let policy = small.hourly();
    let both = small.load(1, &[(0, 10), (1, 10)]);
    let both = small.state.job(policy, both, second(0));
    small.state.seen(both, second(0));
    // Two VMs that take turns on one datastore each, always overlapping.
    let [left, right] = [(2, 0), (3, 1)].map(|(number, datastore)| {
        let load = small.load(number, &[(datastore, 1)]);
        small.state.job(policy, load, second(0))
    });
    let outcome = |secs: i64| good(second(secs - 3_590), NO_STUN);
    let start_of = |small: &mut Small, secs: i64| -> Vec<JobIx> {
        starts(&small.step(second(secs)))
            .iter()
            .map(|start| start.job)
            .collect()
    };
    small.state.host("esx2", HostFacts { snapshots_max: 0 });
    assert_eq!(start_of(&mut small, 3_000), [left]);
    small.state.host("esx2", HostFacts { snapshots_max: 9 });
    let jobs = start_of(&mut small, 3_010);
    assert_eq!(jobs, [right]);
    // The left one ends: its datastore is held back for the one that needs both, and is late.
    small.state.finished(left, &outcome(3_900), second(3_900));
    assert_eq!(start_of(&mut small, 3_900), []);
    small.state.finished(right, &outcome(3_950), second(3_950));
    assert_eq!(start_of(&mut small, 3_950), [both]);
}

#[test]
fn a_slot_is_kept_for_a_promise_that_cannot_wait() {
    let mut small = Small::new();
    let daily = small.policy("daily", Schedule::rpo(Span::from_hours(24)), 5);
    let minute = small.policy("minute", Schedule::rpo(Span::from_mins(1)), 5);
    let tight = small.protected(minute, 200);
    for number in 0..20 {
        let load = small.load(number, &[(0, 50)]);
        small.state.job(daily, load, second(-3_600));
    }
    let started = starts(&small.step(second(2)));
    assert!(started.iter().all(|start| start.job != tight));
    let free: u32 = small
        .proxies
        .map(|proxy| {
            let (used, slots) = small.state.slots_of(proxy);
            slots - used
        })
        .iter()
        .sum();
    assert_eq!(free, 2, "one of each proxy");
    let started = starts(&small.step(second(30)));
    assert_eq!(started[0].job, tight);
}

#[test]
fn lanes_of_a_lost_proxy_go_on_elsewhere_and_a_draining_one_gets_nothing_new() {
    let mut small = Small::new();
    let policy = small.hourly();
    let job = small.protected(policy, 1);
    small.step(second(DUE));
    let [attaches, reads] = small.proxies;
    assert_eq!(small.state.slots_of(attaches).0, 1);
    let reach = small.state.proxy_at(attaches).reach.clone();
    let standing = |small: &mut Small, standing| {
        small.state.proxy(proxy(1, 4, standing, &reach));
    };
    standing(&mut small, Standing::Draining);
    assert_eq!(small.step(second(DUE)).actions, [], "what runs goes on");
    small.protected(policy, 2);
    let other = starts(&small.step(second(DUE))).remove(0);
    assert_eq!(other.lanes[0].proxy, reads);
    standing(&mut small, Standing::Lost);
    let moved = Action::Move {
        job,
        lane: 0,
        from: attaches,
        to: reads,
    };
    assert_eq!(small.step(second(DUE + 1)).actions, [moved]);
    assert_eq!(small.state.slots_of(attaches).0, 0);
    assert_eq!(small.state.slots_of(reads).0, 2);
    assert_eq!(small.step(second(DUE + 2)).actions, []);
    small
        .state
        .finished(job, &good(second(DUE), NO_STUN), second(DUE + 9));
    assert_eq!(small.state.slots_of(reads).0, 1);
}

#[test]
fn nothing_starts_in_a_blackout_and_the_promise_stands_still() {
    let mut small = Small::new();
    let office =
        schedule("rpo = '1h'\ntime-zone = 'UTC'\nblackout = [{ from = '00:30', to = '02:30' }]");
    let policy = small.policy("office", office, 5);
    let job = small.protected(policy, 1);
    // An hour outside of the window after midnight: half past two and half an hour.
    assert_eq!(small.state.deadline(job), at("2026-03-02T03:00:00Z"));
    // Another one is long overdue, and waits all the same.
    let load = small.load(2, &[(0, 10)]);
    let overdue = small.state.job(policy, load, second(-86_400));
    for minute in [30, 31, 149] {
        assert_eq!(
            decide(&small.state, second(minute * 60)).actions,
            [],
            "{minute}"
        );
    }
    let started = starts(&decide(&small.state, second(150 * 60)));
    assert_eq!(started[0].job, overdue);
}

#[test]
fn what_would_be_due_in_a_blackout_is_due_before_it() {
    let mut small = Small::new();
    let office =
        schedule("rpo = '2h'\ntime-zone = 'UTC'\nblackout = [{ from = '01:55', to = '09:00' }]");
    let policy = small.policy("office", office, 5);
    let job = small.protected(policy, 1);
    assert_eq!(small.state.deadline(job), at("2026-03-02T09:05:00Z"));
    let due = small.state.due(job);
    assert!((second(5_000)..second(6_900)).contains(&due), "{due}");
}

#[test]
fn a_first_run_takes_nothing_of_what_is_kept_for_promises_that_hold() {
    let mut small = Small::new();
    let minute = small.policy("minute", Schedule::rpo(Span::from_mins(1)), 5);
    for number in 0..20 {
        let load = small.load(number, &[(0, 50)]);
        small.state.job(minute, load, second(-3_600));
    }
    let started = starts(&small.step(second(2)));
    assert!(started.len() < 8, "{}", started.len());
    let used = small.proxies.map(|proxy| small.state.slots_of(proxy).0);
    assert_eq!(used, [3, 3]);
}

#[test]
fn a_lane_moves_only_to_a_proxy_that_reads_all_its_disks() {
    let mut small = Small::new();
    let policy = small.hourly();
    let [one, two] = small.datastores;
    let reads_both = [(one, Transport::Nfc), (two, Transport::Nfc)];
    small
        .state
        .proxy(proxy(1, 1, Standing::Online, &reads_both));
    small
        .state
        .proxy(proxy(2, 0, Standing::Online, &reads_both));
    let load = small.load(1, &[(0, 10), (1, 10)]);
    let job = small.state.job(policy, load, second(0));
    assert_eq!(starts(&small.step(second(DUE)))[0].lanes.len(), 1);
    small.state.proxy(proxy(1, 1, Standing::Lost, &reads_both));
    small
        .state
        .proxy(proxy(2, 4, Standing::Online, &reads_both[..1]));
    assert_eq!(small.step(second(DUE)).actions, []);
    small
        .state
        .proxy(proxy(2, 4, Standing::Online, &reads_both));
    let actions = small.step(second(DUE)).actions;
    assert!(matches!(actions[..], [Action::Move { job: moved, .. }] if moved == job));
}

#[test]
fn a_missed_time_is_made_up_for_once_or_skipped_as_its_policy_says() {
    let cron = |misfire: &str| {
        schedule(&format!(
            "cron = '0 2 * * *'\nwithin = '1h'\ntime-zone = 'UTC'\nmisfire = '{misfire}'"
        ))
    };
    let mut small = Small::new();
    let once = small.policy("once", cron("once"), 5);
    let skip = small.policy("skip", cron("skip"), 5);
    let made_up = small.protected(once, 1);
    let skipped = small.protected(skip, 2);
    // Nobody was there for three days.
    let now = second(3 * 86_400 + 12 * 3_600);
    let decision = small.step(now);
    let started: Vec<JobIx> = starts(&decision).iter().map(|start| start.job).collect();
    assert_eq!(started, [made_up]);
    assert!(decision.actions.contains(&Action::Skip {
        job: skipped,
        until: now
    }));
    small
        .state
        .finished(made_up, &good(now, NO_STUN), plus(now, 60));
    for job in [made_up, skipped] {
        let next = at("2026-03-06T02:00:00Z");
        let due = small.state.due(job);
        assert!((next..=plus(next, 360)).contains(&due), "{due}");
    }
    let due = small.state.due(skipped);
    let started = starts(&small.step(plus(due, 0)));
    assert!(started.iter().any(|start| start.job == skipped));
}

#[test]
fn tight_promises_run_back_to_back_and_a_vm_that_suffers_is_left_in_peace() {
    let mut small = Small::new();
    let policy = small.policy("minute", Schedule::rpo(Span::from_mins(1)), 5);
    let job = small.protected(policy, 1);
    let rhythm = |small: &Small| {
        let terms = small.state.policy_at(policy);
        small.state.job_at(job).rhythm(&terms.schedule)
    };
    let mut now = small.state.due(job);
    for _ in 0..50 {
        small.run(job, now, 8, NO_STUN);
        let age = plus(small.state.due(job), 8).duration_since(now).as_secs();
        assert!((20..60).contains(&age), "{age}");
        now = small.state.due(job);
    }
    assert!(
        matches!(rhythm(&small), Rhythm::BackToBack(_)),
        "{:?}",
        rhythm(&small)
    );
    // It stands still for two seconds each time: no more than a hundredth of its time.
    small.run(job, now, 8, Duration::from_secs(2));
    assert_eq!(rhythm(&small), Rhythm::BackedOff(Duration::from_secs(200)));
    assert_eq!(small.state.due(job), plus(now, 200));
    // Worse than that, and worse again: twice as long each time.
    let mut interval = 0;
    for _ in 0..3 {
        now = small.state.due(job);
        small.run(job, now, 8, Duration::from_secs(6));
        let next = small.state.due(job).duration_since(now).as_secs();
        assert!(next >= 600 && next >= interval, "{next}");
        interval = next;
    }
    // And little by little it is trusted again.
    for _ in 0..40 {
        now = small.state.due(job);
        small.run(job, now, 8, NO_STUN);
    }
    let age = small.state.due(job).duration_since(now).as_secs();
    assert!(age < 60, "{age}");
}

#[test]
fn a_guest_that_stands_still_for_long_is_asked_half_as_often_each_time() {
    let mut small = Small::new();
    let policy = small.hourly();
    let job = small.protected(policy, 1);
    let mut intervals = Vec::new();
    for _ in 0..5 {
        let now = small.state.due(job);
        small.run(job, now, 30, Duration::from_secs(6));
        intervals.push(small.state.due(job).duration_since(now).as_secs() / 3_000);
    }
    assert_eq!(intervals, [2, 4, 8, 8, 8]);
}

#[test]
fn a_run_that_failed_is_tried_again_soon_and_then_less_and_less_often() {
    let mut small = Small::new();
    let policy = small.policy("daily", Schedule::rpo(Span::from_hours(24)), 5);
    let job = small.protected(policy, 1);
    let mut waits = Vec::new();
    for _ in 0..8 {
        let now = small.state.due(job);
        small.step(now);
        small.state.finished(job, &failed(), plus(now, 10));
        waits.push(small.state.due(job).duration_since(plus(now, 10)).as_secs());
    }
    assert_eq!(waits, [60, 120, 240, 480, 960, 1_800, 1_800, 1_800]);
}

#[test]
fn vms_of_one_policy_do_not_all_start_at_once_and_each_keeps_its_place() {
    let mut small = Small::new();
    let policy = small.policy("daily", Schedule::rpo(Span::from_hours(24)), 5);
    let due = |small: &mut Small| -> Vec<Timestamp> {
        (0..200)
            .map(|number| {
                let job = small.protected(policy, number);
                small.state.due(job)
            })
            .collect()
    };
    let mut first = due(&mut small);
    assert_eq!(first, due(&mut small), "the same when it is told again");
    first.sort_unstable();
    let spread = first[199].duration_since(first[0]).as_secs();
    assert!((6_000..=7_200).contains(&spread), "{spread}");
    let tenth = first
        .windows(20)
        .map(|part| part[19].duration_since(part[0]).as_secs());
    assert!(tenth.min().unwrap() > 200, "no crowd anywhere");
}

#[test]
fn what_left_scope_is_not_started_again_and_may_come_back() {
    let mut small = Small::new();
    let policy = small.hourly();
    let job = small.protected(policy, 1);
    small.state.retire(job);
    assert_eq!(decide(&small.state, second(DUE)).actions, []);
    assert_eq!(next_wake(&small.state, second(0)), None);
    let load = small.load(1, &[(0, 10)]);
    assert_eq!(small.state.job(policy, load, second(DUE)), job);
    assert!(small.state.deadline(job) > second(DUE - 3_600));
    let now = small.state.due(job);
    assert_eq!(starts(&small.step(now)).len(), 1);
    // It leaves while it runs: the run goes on, and what it held comes back.
    small.state.retire(job);
    small.state.finished(job, &good(now, NO_STUN), plus(now, 9));
    assert!(
        small
            .proxies
            .iter()
            .all(|proxy| small.state.slots_of(*proxy).0 == 0)
    );
    assert_eq!(next_wake(&small.state, plus(now, 9)), None);
}

/// One thing that happens in a random life.
#[derive(Debug, Clone)]
enum Happening {
    Wait(i64),
    End {
        which: usize,
        fails: bool,
    },
    Proxy {
        which: u8,
        slots: u32,
        standing: u8,
    },
    Host(u32),
    Datastore(u32),
    Repository(u32),
    Vm {
        number: u8,
        policy: u8,
        disks: Vec<(usize, u64)>,
    },
    Leave(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    let disks = proptest::collection::vec((0usize..2, 1u64..50), 1..5);
    prop_oneof![
        4 => (1i64..4_000).prop_map(Happening::Wait),
        4 => (0usize..20, prop::bool::weighted(0.2)).prop_map(|(which, fails)| Happening::End { which, fails }),
        1 => (1u8..4, 0u32..5, 0u8..3).prop_map(|(which, slots, standing)| Happening::Proxy { which, slots, standing }),
        1 => (0u32..4).prop_map(Happening::Host),
        1 => (0u32..4).prop_map(Happening::Datastore),
        1 => (0u32..5).prop_map(Happening::Repository),
        4 => (0u8..30, 0u8..3, disks).prop_map(|(number, policy, disks)| Happening::Vm { number, policy, disks }),
        1 => (0usize..30).prop_map(Happening::Leave),
    ]
}

/// What runs hold, counted anew from the runs themselves.
fn check_counts(state: &State) -> Result<(), TestCaseError> {
    let mut hosts = vec![0; state.hosts.len()];
    let mut datastores = vec![0; state.datastores.len()];
    let mut proxies = vec![0; state.proxies.len()];
    for running in state.running.values() {
        hosts[running.host.at()] += 1;
        running
            .datastores
            .iter()
            .for_each(|datastore| datastores[datastore.at()] += 1);
        running
            .start
            .lanes
            .iter()
            .for_each(|lane| proxies[lane.proxy.at()] += 1);
    }
    prop_assert_eq!(
        hosts,
        state.hosts.iter().map(|held| held.used).collect::<Vec<_>>()
    );
    prop_assert_eq!(
        datastores,
        state
            .datastores
            .iter()
            .map(|held| held.used)
            .collect::<Vec<_>>()
    );
    prop_assert_eq!(
        proxies,
        state
            .proxies
            .iter()
            .map(|proxy| proxy.used)
            .collect::<Vec<_>>()
    );
    let busy = state.vm_busy.iter().filter(|busy| **busy).count();
    prop_assert_eq!(busy, state.running.len(), "a vm is in one run at a time");
    Ok(())
}

/// A start is within every limit as it stands, and reads every disk once by who can.
fn check_start(state: &State, start: &Start, now: Timestamp) -> Result<(), TestCaseError> {
    let job = state.job_at(start.job);
    let (host, repository) = (
        &state.hosts[job.load.host.at()],
        &state.repositories[start.repository.at()],
    );
    prop_assert!(host.used < host.facts.snapshots_max);
    prop_assert!(repository.used < repository.facts.sessions_max && repository.facts.accepts);
    prop_assert!(job.plan.due <= now && !job.retired);
    let mut keys: Vec<i32> = start
        .lanes
        .iter()
        .flat_map(|lane| lane.disks.clone())
        .collect();
    keys.sort_unstable();
    prop_assert_eq!(
        keys,
        job.load
            .disks
            .iter()
            .map(|disk| disk.key)
            .collect::<Vec<_>>()
    );
    let mut taken: BTreeMap<ProxyIx, u32> = BTreeMap::new();
    for lane in &start.lanes {
        *taken.entry(lane.proxy).or_default() += 1;
        let facts: &ProxyFacts = state.proxy_at(lane.proxy);
        prop_assert_eq!(facts.standing, Standing::Online);
        for disk in job
            .load
            .disks
            .iter()
            .filter(|disk| lane.disks.contains(&disk.key))
        {
            prop_assert!(
                facts
                    .reach
                    .iter()
                    .any(|(datastore, _)| *datastore == disk.datastore)
            );
            let datastore = &state.datastores[disk.datastore.at()];
            prop_assert!(datastore.used < datastore.facts.snapshots_max);
        }
    }
    for (proxy, lanes) in taken {
        let (used, slots) = state.slots_of(proxy);
        prop_assert!(used + lanes <= slots, "{used} {lanes} {slots}");
    }
    Ok(())
}

#[test]
fn what_is_remembered_after_a_restart_is_what_was_seen_before_it() {
    let (mut before, mut after) = (Small::new(), Small::new());
    let jobs = [&mut before, &mut after].map(|small| {
        let policy = small.hourly();
        let load = small.load(1, &[(0, 10)]);
        small.state.job(policy, load, second(0))
    });
    assert_eq!(jobs[0], jobs[1]);
    let job = jobs[0];
    for hour in 1..6 {
        let from = second(hour * 3_600);
        let outcome = match hour {
            3 => failed(),
            _ => good(from, Duration::from_millis(hour.unsigned_abs())),
        };
        assert_eq!(starts(&before.step(from)).len(), 1, "hour {hour}");
        let to = plus(from, 40 + hour);
        before.state.finished(job, &outcome, to);
        after.state.remember(job, from, &outcome, to);
    }
    let histories = [&before, &after].map(|small| small.state.job_at(job).history.clone());
    assert_eq!(histories[0], histories[1]);
    assert_eq!(before.state.due(job), after.state.due(job));
    assert_eq!(before.state.deadline(job), after.state.deadline(job));
}

#[test]
fn a_run_that_was_on_its_way_before_a_restart_holds_what_it_has_and_no_second_one_starts() {
    let mut small = Small::new();
    let policy = small.hourly();
    let job = small.protected(policy, 1);
    let lane = Lane {
        proxy: small.proxies[0],
        disks: vec![2_000],
        bytes: GIB,
    };
    small.state.resume(job, vec![lane], second(0));
    assert_eq!(small.state.slots_of(small.proxies[0]).0, 1);
    assert!(starts(&small.step(second(86_400))).is_empty());
    small
        .state
        .finished(job, &good(second(0), NO_STUN), second(86_400));
    assert_eq!(small.state.slots_of(small.proxies[0]).0, 0);
    assert_eq!(starts(&small.step(second(2 * 86_400))).len(), 1);
}

#[test]
fn a_vm_that_somebody_else_works_on_waits() {
    let mut small = Small::new();
    let policy = small.hourly();
    let job = small.protected(policy, 1);
    small.state.engage(job, true);
    let decision = small.step(second(86_400));
    assert_eq!(decision.waiting, [(job, Blocked::VmBusy)]);
    small.state.engage(job, false);
    assert_eq!(starts(&small.step(second(86_400))).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_happens_no_limit_is_passed_and_all_that_was_taken_comes_back(
        happenings in proptest::collection::vec(happening(), 1..80),
    ) {
        let mut small = Small::new();
        let policies = [
            small.hourly(),
            small.policy("minute", Schedule::rpo(Span::from_mins(1)), 9),
            small.policy("nightly", schedule("cron = '0 2 * * *'\ntime-zone = 'Europe/Berlin'\nmisfire = 'skip'"), 1),
        ];
        let mut now = second(0);
        let mut jobs: Vec<JobIx> = Vec::new();
        for happening in happenings {
            match happening {
                Happening::Wait(secs) => now = plus(now, secs),
                Happening::End { which, fails } => {
                    let running: Vec<JobIx> = small.state.running().map(|(job, _)| job).collect();
                    if let Some(job) = running.get(which % running.len().max(1)) {
                        let outcome = if fails { failed() } else { good(now, NO_STUN) };
                        small.state.finished(*job, &outcome, now);
                    }
                }
                Happening::Proxy { which, slots, standing } => {
                    let standing = [Standing::Online, Standing::Draining, Standing::Lost][usize::from(standing)];
                    let reach = [(small.datastores[usize::from(which) % 2], Transport::Nfc), (small.datastores[0], Transport::HotAdd)];
                    small.state.proxy(proxy(which, slots, standing, &reach[..1 + usize::from(which) % 2]));
                }
                Happening::Host(most) => {
                    small.state.host("esx1", HostFacts { snapshots_max: most });
                }
                Happening::Datastore(most) => {
                    small.state.datastore("ds1", DatastoreFacts { snapshots_max: most, has_room: most != 1 });
                }
                Happening::Repository(most) => {
                    small.state.repository("main", RepositoryFacts { sessions_max: most, accepts: most != 1 });
                }
                Happening::Vm { number, policy, disks } => {
                    let load: VmLoad = small.load(number, &disks);
                    jobs.push(small.state.job(policies[usize::from(policy)], load, now));
                }
                Happening::Leave(which) => {
                    if let Some(job) = jobs.get(which) {
                        small.state.retire(*job);
                    }
                }
            }
            let decision = decide(&small.state, now);
            prop_assert_eq!(&decision, &decide(&small.state.clone(), now), "a pure function");
            for action in &decision.actions {
                match action {
                    Action::Start(start) => {
                        check_start(&small.state, start, now)?;
                        small.state.started(start, now);
                    }
                    Action::Move { job, lane, to, .. } => small.state.moved(*job, *lane, *to),
                    Action::Skip { job, until } => small.state.skipped(*job, *until),
                }
            }
            check_counts(&small.state)?;
            let again = decide(&small.state, now);
            let late = |(job, _): &(JobIx, Blocked)| small.state.deadline(*job) <= now;
            let holds_back = again.waiting.iter().any(late);
            prop_assert!(holds_back || starts(&again).is_empty(), "what could start has been started");
            // Between now and the next look nothing becomes due.
            let wake = next_wake(&small.state, now);
            prop_assert!(wake.is_none_or(|wake| wake > now));
            let next_due = small.state.by_due.iter().map(|(due, _)| *due).find(|due| *due > now);
            prop_assert!(next_due.is_none_or(|due| wake.is_some_and(|wake| wake <= due)));
        }
        let running: Vec<JobIx> = small.state.running().map(|(job, _)| job).collect();
        running.into_iter().for_each(|job| small.state.finished(job, &failed(), now));
        check_counts(&small.state)?;
        // What was kept for tight promises goes with them.
        jobs.iter().for_each(|job| small.state.retire(*job));
        prop_assert!(small.state.proxies.iter().all(|proxy| proxy.kept == 0));
    }
}
