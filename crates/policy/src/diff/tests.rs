use super::*;
use crate::Policy;

fn policy(from: &str, to: &str) -> Policy {
    let text = include_str!("../policy/example.toml");
    assert!(text.contains(from), "{from} is in the example");
    Policy::parse(&text.replace(from, to)).expect("is a policy")
}

#[track_caller]
fn check(from: &str, to: &str, told: &str, effect: Effect) {
    let changes = diff(Some(&policy(from, from)), &policy(from, to));
    let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(lines, [told]);
    assert_eq!(changes[0].effect, effect);
}

#[test]
fn a_change_tells_both_sides_and_which_way_it_goes() {
    check(
        "daily = 14",
        "daily = 7",
        "retention.daily: 14 -> 7 (weaker)",
        Effect::Weaker,
    );
    check(
        "yearly = 3\n",
        "",
        "retention.yearly: 3 -> not set (weaker)",
        Effect::Weaker,
    );
    check(
        "rpo = \"15m\"",
        "rpo = \"5m\"",
        "schedule: never older than 15m -> never older than 5m",
        Effect::Stronger,
    );
    check(
        "lock = \"14d\"",
        "lock = \"1w\"",
        "retention.lock: 2w -> 1w (weaker)",
        Effect::Weaker,
    );
    check(
        "copies = [\"offsite\"]",
        "copies = []",
        "store.copies: offsite -> not set (weaker)",
        Effect::Weaker,
    );
    check(
        "priority = 7",
        "priority = 1",
        "priority: 7 -> 1",
        Effect::Other,
    );
    check(
        "    { level = \"file-system\" },\n",
        "    { level = \"file-system\" },\n    { level = \"crash\" },\n",
        "consistency.ladder: application (3 × 10 min), then file-system (2 × 5 min) -> application (3 × 10 min), then file-system (2 × 5 min), then crash (2 × 5 min) (weaker)",
        Effect::Weaker,
    );
}

#[test]
fn the_same_policy_differs_in_nothing_and_a_new_one_in_all_that_it_sets() {
    let same = policy("daily = 14", "daily = 14");
    assert_eq!(diff(Some(&same), &same), []);
    let new = diff(None, &same);
    assert!(new.iter().all(|change| change.before.is_none()));
    assert_eq!(new.len(), 21);
}

#[test]
fn every_key_of_a_policy_is_held_against_the_other() {
    // One edit per key of the example: each must be seen, and alone.
    let edits = [
        ("name = \"production\"", "name = \"other\""),
        ("Production\" }", "Products\" }"),
        ("*-scratch", "*-tmp"),
        ("Hard disk 3", "Hard disk 4"),
        ("tries = 3", "tries = 2"),
        (
            "time-zone = \"Europe/Berlin\"",
            "time-zone = \"Europe/Paris\"",
        ),
        ("08:00", "08:15"),
        ("keep-last = 12", "keep-last = 13"),
        ("hourly = 48", "hourly = 49"),
        ("weekly = 8", "weekly = 9"),
        ("monthly = 12", "monthly = 13"),
        ("repository = \"main\"", "repository = \"second\""),
        ("200MB/s", "300MB/s"),
        ("runs = 20", "runs = 30"),
        ("disks-per-vm = 4", "disks-per-vm = 2"),
    ];
    for (from, to) in edits {
        let changes = diff(Some(&policy(from, from)), &policy(from, to));
        assert_eq!(changes.len(), 1, "{from}: {changes:?}");
    }
}

#[test]
fn who_comes_in_and_who_goes_out_is_told_before() {
    let vm = |moref: &str, folder: &str| VmFacts {
        vm: VmId {
            vcenter: stillwater_types::VcenterId::from_bytes([1; 16]),
            moref: moref.into(),
        },
        vcenter: "vc".into(),
        name: moref.into(),
        folder: folder.into(),
        cluster: None,
        resource_pool: None,
        tags: Vec::new(),
        disks: Vec::new(),
        template: false,
    };
    let vms = [
        vm("vm-1", "/Berlin/vm/Production"),
        vm("vm-2", "/Berlin/vm/Products"),
        vm("vm-3", "/Berlin/vm/Test"),
    ];
    let (old, new) = (
        policy("Production\" }", "Production\" }"),
        policy("Production\" }", "Products\" }"),
    );
    let moved = moves(Some(&old), Some(&new), &vms);
    assert_eq!(moved.enter, [vms[1].vm.clone()]);
    assert_eq!(moved.leave, [vms[0].vm.clone()]);
    assert_eq!(moves(Some(&old), None, &vms).leave, [vms[0].vm.clone()]);
}
