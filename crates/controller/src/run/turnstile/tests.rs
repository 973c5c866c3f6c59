use futures::FutureExt;

use super::*;

fn vcenter() -> VcenterId {
    VcenterId::from_bytes([2; 16])
}

fn at(host: &str, datastores: &[&str]) -> BTreeSet<Place> {
    let datastores = datastores
        .iter()
        .map(|name| Place::Datastore(vcenter(), (*name).into()));
    datastores
        .chain([Place::Host(vcenter(), host.into())])
        .collect()
}

fn turnstile(host_tasks: u32, datastore_tasks: u32) -> Turnstile {
    Turnstile::new(&Guards {
        host_tasks,
        datastore_tasks,
        ..Guards::default()
    })
}

/// How many of these get a turn when none is given back.
#[track_caller]
fn check(turnstile: &Turnstile, asked: &[BTreeSet<Place>], expected: usize) {
    let given: Vec<Turn> = asked
        .iter()
        .filter_map(|places| turnstile.wait(places.clone()).now_or_never())
        .collect();
    assert_eq!(given.len(), expected);
}

#[test]
fn as_many_turns_are_given_as_a_host_and_a_datastore_bear() {
    let crowd = vec![at("a", &["1"]); 6];
    check(&turnstile(2, 9), &crowd, 2);
    check(&turnstile(9, 3), &crowd, 3);
    check(&turnstile(0, 9), &crowd, 1);
    // Apart from each other they do not wait.
    check(&turnstile(1, 1), &[at("a", &["1"]), at("b", &["2"])], 2);
    check(
        &turnstile(1, 1),
        &[at("a", &["1", "2"]), at("b", &["2"])],
        1,
    );
    check(&turnstile(1, 1), &[at("a", &["1"]), at("a", &["2"])], 1);
    // A vm that nobody could look at waits for nobody.
    check(&turnstile(1, 1), &vec![BTreeSet::new(); 6], 6);
}

#[tokio::test]
async fn a_turn_that_is_over_goes_to_who_waits() {
    let turnstile = turnstile(1, 1);
    let first = turnstile.wait(at("a", &["1"])).await;
    let mut second = Box::pin(turnstile.wait(at("b", &["1"])));
    assert!(second.as_mut().now_or_never().is_none());
    // Whoever gives up waiting holds nothing.
    let third = turnstile.wait(at("b", &["2"])).now_or_never();
    assert!(third.is_none(), "the second has the host already");
    drop(first);
    let second = second.await;
    drop(second);
    turnstile
        .wait(at("b", &["1", "2"]))
        .now_or_never()
        .expect("all are free");
}

#[tokio::test]
async fn whoever_wants_the_same_places_in_any_order_gets_them_all() {
    let turnstile = turnstile(1, 1);
    let wants = [
        at("a", &["1", "2", "3"]),
        at("b", &["3", "2"]),
        at("a", &["3", "1"]),
        at("c", &["1"]),
    ];
    let mut tasks = tokio::task::JoinSet::new();
    for round in 0..50 {
        for places in &wants {
            let (turnstile, places) = (turnstile.clone(), places.clone());
            tasks.spawn(async move {
                let turn = turnstile.wait(places).await;
                if round % 2 == 0 {
                    tokio::task::yield_now().await;
                }
                drop(turn);
            });
        }
    }
    let all = tasks.join_all();
    let all = tokio::time::timeout(std::time::Duration::from_secs(20), all).await;
    assert_eq!(all.expect("nobody waits for ever").len(), 200);
}
