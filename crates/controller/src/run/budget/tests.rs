use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::*;

const LONG: Duration = Duration::from_secs(24 * 3600);

fn host(n: u8) -> HostKey {
    HostKey {
        vcenter: VcenterId::from_bytes([2; 16]),
        host: format!("esx{n}"),
    }
}

#[tokio::test]
async fn a_spare_share_is_given_of_what_is_idle_and_comes_back() {
    let budgets = Budgets::new(limits(4, 8 * (OPEN_BYTES + IN_FLIGHT_MIN)));
    let first = budgets.spare(&host(1)).expect("nothing is taken");
    let second = budgets.spare(&host(1)).expect("a quarter is taken");
    assert!(budgets.spare(&host(1)).is_none(), "half of it is taken");
    assert!(budgets.spare(&host(2)).is_some(), "another host's is not");
    // Whoever needs a share has the other half.
    let wanted = budgets.wait(&host(1), LONG).await.expect("half is free");
    drop((first, second, wanted));
    assert!(budgets.books().accounts.is_empty(), "all came back");
    let tiny = Budgets::new(limits(1, 1));
    assert!(tiny.spare(&host(1)).is_none());
    assert!(tiny.books().accounts.is_empty());
}

fn limits(disks: u32, buffer_bytes: u64) -> Limits {
    Limits {
        disks,
        buffer_bytes,
    }
}

/// A host as it is: it refuses what is beyond its own budget, which is not ours to know.
#[derive(Default)]
struct Esx(Mutex<Usage>);

#[derive(Default, Clone, Copy)]
struct Usage {
    disks: u32,
    bytes: u64,
    most_disks: u32,
    most_bytes: u64,
    opened: u32,
    refused: u32,
}

impl Esx {
    const DISKS: u32 = 50;
    const BYTES: u64 = 48 << 20;

    fn open(&self, in_flight: u64) -> bool {
        let mut usage = self.0.lock().unwrap();
        let bytes = OPEN_BYTES + in_flight;
        if usage.disks == Self::DISKS || usage.bytes + bytes > Self::BYTES {
            usage.refused += 1;
            return false;
        }
        usage.disks += 1;
        usage.bytes += bytes;
        usage.opened += 1;
        usage.most_disks = usage.most_disks.max(usage.disks);
        usage.most_bytes = usage.most_bytes.max(usage.bytes);
        true
    }

    fn close(&self, in_flight: u64) {
        let mut usage = self.0.lock().unwrap();
        usage.disks -= 1;
        usage.bytes -= OPEN_BYTES + in_flight;
    }

    fn usage(&self) -> Usage {
        *self.0.lock().unwrap()
    }
}

/// The order in which disks of one host came and were served.
#[derive(Default)]
struct Orders {
    came: Mutex<Vec<usize>>,
    served: Mutex<Vec<usize>>,
}

/// 200 disks that all want to be moved at once, from `hosts` hosts and through `slots` proxy slots.
async fn simulate(hosts: u8, slots: usize, limits: Limits, seed: u64) -> (Vec<Usage>, Duration) {
    let budgets = Budgets::new(limits);
    let slots = Arc::new(Semaphore::new(slots));
    let esx: Arc<Vec<Esx>> = Arc::new((0..hosts).map(|_| Esx::default()).collect());
    let orders: Arc<Vec<Orders>> = Arc::new((0..hosts).map(|_| Orders::default()).collect());
    let random = Arc::new(AtomicU64::new(seed));
    let begun = Instant::now();
    let disks = (0..200usize).map(|disk| {
        let (budgets, slots, esx) = (budgets.clone(), slots.clone(), esx.clone());
        let (orders, random) = (orders.clone(), random.clone());
        tokio::spawn(async move {
            let at = disk % usize::from(hosts);
            let key = host(u8::try_from(at).unwrap());
            let _slot = slots.acquire().await.unwrap();
            orders[at].came.lock().unwrap().push(disk);
            let lease = budgets.wait(&key, LONG).await.expect("its turn comes");
            orders[at].served.lock().unwrap().push(disk);
            assert!(esx[at].open(lease.in_flight_bytes), "the host refused");
            let noise = random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            let millis = 100 + (noise >> 40) % 900;
            tokio::time::sleep(Duration::from_millis(millis)).await;
            esx[at].close(lease.in_flight_bytes);
        })
    });
    for disk in disks.collect::<Vec<_>>() {
        disk.await.expect("moved");
    }
    for order in orders.iter() {
        let (came, served) = (order.came.lock().unwrap(), order.served.lock().unwrap());
        assert_eq!(*came, *served, "who came first is served first");
    }
    assert!(budgets.books().accounts.is_empty(), "all came back");
    assert!(budgets.books().waiting.is_empty(), "nobody waits");
    (esx.iter().map(Esx::usage).collect(), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn two_hundred_disks_on_few_hosts_all_move_and_no_open_is_refused() {
    for hosts in [1, 2, 3, 7] {
        // Few slots, so that most wait for a slot, and many, so that all wait for their host.
        for slots in [4, 16, 64, 200] {
            let (usages, took) = simulate(hosts, slots, Limits::default(), 42).await;
            let opened: u32 = usages.iter().map(|usage| usage.opened).sum();
            assert_eq!(opened, 200, "every disk was opened once");
            for usage in &usages {
                assert_eq!(usage.refused, 0);
                assert!(usage.most_disks <= Limits::default().disks);
                assert!(usage.most_bytes <= Limits::default().buffer_bytes);
            }
            // One after another would take some 110 s.
            let at_once = slots.min(usize::from(hosts) * 16) as u64;
            let longest = Duration::from_millis(110_000 * 2 / at_once + 1_000);
            assert!(took < longest, "{took:?} with {hosts} hosts, {slots} slots");
        }
    }
}

/// Numbers that are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// Hosts whose VMs move, and which somebody else uses as far as our limits leave room.
struct Troubled {
    budgets: Budgets,
    esx: Vec<Esx>,
    /// On which host each disk's VM is.
    seats: Mutex<Vec<u8>>,
}

impl Troubled {
    fn new(hosts: u8, disks: usize) -> Self {
        let limits = Limits::default();
        let others = || {
            let usage = Usage {
                disks: Esx::DISKS - limits.disks,
                bytes: Esx::BYTES - limits.buffer_bytes,
                ..Usage::default()
            };
            Esx(Mutex::new(usage))
        };
        Self {
            budgets: Budgets::new(limits),
            esx: (0..hosts).map(|_| others()).collect(),
            // All on the first, which is about to be emptied.
            seats: Mutex::new(vec![0; disks]),
        }
    }

    fn seat(&self, disk: usize) -> u8 {
        self.seats.lock().unwrap()[disk]
    }

    /// Waits with or without much patience, or takes what is spare.
    async fn lease(&self, disk: usize, dice: &mut Dice) -> Option<Lease> {
        let find = || async move { Ok::<_, ()>(host(self.seat(disk))) };
        match dice.roll(8) {
            0 => self.budgets.spare(&host(self.seat(disk))),
            1 | 2 => {
                let soon = Duration::from_millis(1 + dice.roll(3_000));
                self.budgets.wait_for(find, soon).await.unwrap()
            }
            _ => self.budgets.wait_for(find, LONG).await.unwrap(),
        }
    }

    /// Moves one disk, in as many attempts as that takes: transfers die, and begin anew.
    async fn carry(&self, disk: usize, mut dice: Dice) {
        loop {
            let Some(lease) = self.lease(disk, &mut dice).await else {
                tokio::time::sleep(Duration::from_millis(1 + dice.roll(500))).await;
                continue;
            };
            let esx = &self.esx[usize::from(self.seat(disk))];
            assert!(esx.open(lease.in_flight_bytes), "the host refused");
            let dies = dice.roll(5) == 0;
            let most = if dies { 100 } else { 1_000 };
            tokio::time::sleep(Duration::from_millis(1 + dice.roll(most))).await;
            esx.close(lease.in_flight_bytes);
            if !dies {
                return;
            }
        }
    }

    /// VMs leave the first host for the others, and some come back.
    async fn shuffle(&self, mut dice: Dice) {
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(dice.roll(40))).await;
            let mut seats = self.seats.lock().unwrap();
            let disk = dice.roll(seats.len() as u64) as usize;
            seats[disk] = dice.roll(self.esx.len() as u64) as u8;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_hundred_disks_share_hosts_with_others_while_vms_move_and_transfers_die() {
    for seed in 0..20 {
        for hosts in [1, 2, 5] {
            let troubled = Arc::new(Troubled::new(hosts, 200));
            let shuffling = Arc::clone(&troubled);
            let shuffling = tokio::spawn(async move { shuffling.shuffle(Dice(seed)).await });
            let disks = (0..200usize).map(|disk| {
                let (troubled, dice) = (Arc::clone(&troubled), Dice(seed << 32 | disk as u64));
                tokio::spawn(async move { troubled.carry(disk, dice).await })
            });
            for disk in disks.collect::<Vec<_>>() {
                disk.await.expect("carried");
            }
            shuffling.await.expect("no panic");
            for usage in troubled.esx.iter().map(Esx::usage) {
                assert_eq!(usage.refused, 0);
                assert!(usage.most_disks <= Esx::DISKS && usage.most_bytes <= Esx::BYTES);
            }
            let opened: u32 = troubled.esx.iter().map(|esx| esx.usage().opened).sum();
            assert!(opened > 200, "{opened}: no transfer died");
            let books = troubled.budgets.books();
            assert!(books.accounts.is_empty(), "all came back");
            assert!(books.waiting.is_empty(), "nobody waits");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_moved_while_it_waited_takes_nothing_of_the_host_that_it_left() {
    let budgets = Budgets::new(limits(1, 64 << 20));
    let held = budgets.wait(&host(0), LONG).await.expect("free");
    let seat = AtomicU64::new(0);
    let find = || async { Ok::<_, ()>(host(seat.load(Ordering::SeqCst) as u8)) };
    let (moved, ()) = tokio::join!(budgets.wait_for(find, LONG), async {
        tokio::task::yield_now().await;
        seat.store(1, Ordering::SeqCst);
        drop(held);
    });
    let moved = moved.expect("a host").expect("its turn comes");
    assert_eq!(moved.host, host(1));
    assert!(budgets.wait(&host(0), Duration::ZERO).await.is_some());
    // One that never rests is given up, and takes nothing either.
    let restless = || async { Ok::<_, ()>(host(seat.fetch_add(1, Ordering::SeqCst) as u8 + 2)) };
    assert!(
        budgets
            .wait_for(restless, LONG)
            .await
            .expect("hosts")
            .is_none()
    );
    drop(moved);
    assert!(budgets.books().accounts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_crowd_shares_a_host_and_one_alone_has_much_of_it() {
    let budgets = Budgets::default();
    let alone = budgets.wait(&host(0), LONG).await.expect("free");
    assert_eq!(alone.in_flight_bytes, IN_FLIGHT_MAX);
    drop(alone);
    let (usages, _) = simulate(1, 200, Limits::default(), 7).await;
    let most = usages.first().map(|usage| usage.most_disks);
    assert!(most >= Some(16), "{most:?} at once");
}

#[tokio::test(start_paused = true)]
async fn hosts_do_not_wait_for_each_other() {
    let budgets = Budgets::new(limits(1, 64 << 20));
    let _held = budgets.wait(&host(0), LONG).await.expect("free");
    assert!(
        budgets
            .wait(&host(0), Duration::from_secs(1))
            .await
            .is_none()
    );
    assert!(
        budgets
            .wait(&host(1), Duration::from_secs(1))
            .await
            .is_some()
    );
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_leaves_the_queue_and_nothing_is_lost() {
    let budgets = Budgets::new(limits(1, 64 << 20));
    let held = budgets.wait(&host(0), LONG).await.expect("free");
    let gone = budgets.wait(&host(0), Duration::from_secs(5)).await;
    assert!(gone.is_none());
    let second = tokio::spawn({
        let budgets = budgets.clone();
        async move { budgets.wait(&host(0), LONG).await }
    });
    let dropped = tokio::spawn({
        let budgets = budgets.clone();
        async move { budgets.wait(&host(0), LONG).await }
    });
    tokio::task::yield_now().await;
    dropped.abort();
    drop(dropped.await);
    drop(held);
    let second = second.await.expect("no panic");
    assert!(second.is_some());
    drop(second);
    assert!(budgets.books().accounts.is_empty());
    assert!(budgets.books().waiting.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_share_that_was_given_in_the_moment_of_leaving_comes_back() {
    let budgets = Budgets::new(limits(1, 64 << 20));
    let held = budgets.wait(&host(0), LONG).await.expect("free");
    let key = host(0);
    {
        let mut waiting = Box::pin(budgets.wait(&key, LONG));
        assert!(futures::poll!(&mut waiting).is_pending());
        // Given, and never looked at.
        drop(held);
        assert_eq!(budgets.books().accounts[&key].disks, 1);
    }
    assert!(budgets.books().accounts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn limits_that_allow_nothing_still_move_one_disk_at_a_time() {
    for none in [limits(0, 0), limits(24, 0), limits(24, OPEN_BYTES)] {
        let budgets = Budgets::new(none);
        let one = budgets.wait(&host(0), LONG).await;
        assert!(one.is_some(), "{none:?}");
        assert!(
            budgets
                .wait(&host(0), Duration::from_secs(1))
                .await
                .is_none()
        );
    }
}

proptest! {
    /// Whatever comes and goes, in whatever order: no more is taken than may be, and whoever can be
    /// served is served.
    #[test]
    fn an_account_is_never_overdrawn_and_never_idle(
        disks in 1u32..30,
        mib in 2u64..64,
        moves in proptest::collection::vec((any::<bool>(), any::<proptest::sample::Index>()), 1..400),
    ) {
        let limits = limits(disks, mib << 20);
        let mut account = Account::default();
        let mut held: Vec<u64> = Vec::new();
        for (waiter, (comes, which)) in (0u64..).zip(moves) {
            match comes {
                true => account.queue.push_back(waiter),
                false if held.is_empty() => account.leave(waiter / 2),
                false => account.give_back(held.swap_remove(which.index(held.len()))),
            }
            held.extend(account.serve(limits).into_iter().map(|(_, share)| share));
            let bytes: u64 = held.iter().map(|share| share + OPEN_BYTES).sum();
            prop_assert_eq!(account.disks as usize, held.len());
            prop_assert_eq!(account.bytes, bytes);
            prop_assert!(account.disks <= limits.disks);
            prop_assert!(bytes <= limits.buffer_bytes);
            let room = account.disks < limits.disks
                && bytes + OPEN_BYTES + IN_FLIGHT_MIN <= limits.buffer_bytes;
            prop_assert!(account.queue.is_empty() || !room, "somebody waits for what is free");
        }
    }
}
