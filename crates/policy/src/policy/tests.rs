use super::*;
use crate::{Day, Level, Span, When};

const WHOLE: &str = include_str!("example.toml");

#[track_caller]
fn check(text: &str, told: &[&str]) {
    let err = Policy::parse(text).expect_err("cannot stand").to_string();
    for part in told {
        assert!(err.contains(part), "{part:?} is not in {err}");
    }
}

fn without(line: &str) -> String {
    assert!(WHOLE.contains(line), "{line} is in the example");
    WHOLE.replace(line, "")
}

#[test]
fn the_example_of_the_documentation_is_a_policy() {
    let policy = Policy::parse(WHOLE).unwrap();
    assert_eq!(policy.name, "production");
    assert_eq!(policy.priority, 7);
    assert_eq!(policy.scope.include.len(), 2);
    assert_eq!(policy.consistency.ladder[0].level, Level::Application);
    assert_eq!(policy.schedule.when, When::Rpo(Span::from_mins(15)));
    assert_eq!(policy.schedule.blackout[0].days, [Day::Mon, Day::Fri]);
    assert_eq!(policy.retention.lock, Some(Span::from_days(14)));
    assert_eq!(policy.store.copies, ["offsite"]);
    assert_eq!(policy.limits.runs, Some(20));
    let documented = include_str!("../../../../docs/operations/policies.md");
    assert!(
        documented.contains(WHOLE.trim()),
        "the page has the example"
    );
}

#[test]
fn a_policy_reads_what_it_prints() {
    let policy = Policy::parse(WHOLE).unwrap();
    let printed = policy.print().unwrap();
    assert_eq!(Policy::parse(&printed).unwrap(), policy, "{printed}");
    let json = serde_json::to_string(&policy).unwrap();
    assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);
}

#[test]
fn an_unknown_key_is_refused_and_named_at_every_depth() {
    for (line, with) in [
        ("priority = 7", "priority = 7\nprioritty = 7"),
        ("keep-last = 12", "keep-last = 12\nfortnightly = 3"),
        ("folder = ", "flder = "),
        ("runs = 20", "runs = 20\nwalks = 2"),
    ] {
        let key = with
            .lines()
            .last()
            .and_then(|line| line.split(' ').next())
            .unwrap();
        check(
            &WHOLE.replace(line, with),
            &["unknown field", key, "expected"],
        );
    }
}

#[test]
fn every_value_that_cannot_stand_is_told_at_once_with_what_to_write() {
    let text = WHOLE
        .replace("priority = 7", "priority = 12")
        .replace("runs = 20", "runs = 0")
        .replace("copies = [\"offsite\"]", "copies = [\"main\"]")
        .replace("tag = \"Backup/Gold\"", "tag = \"Gold\"");
    check(
        &text,
        &[
            "priority: write 1 to 9",
            "limits.runs: write 1 or more",
            "store.copies[0]: \"main\" has the points already",
            "scope.include[1]: write the tag with its category: \"Category/Gold\"",
        ],
    );
}

#[test]
fn a_value_of_another_form_says_which_form() {
    check(
        &WHOLE.replace("rpo = \"15m\"", "rpo = \"15 minutes\""),
        &["rpo", "write \"15m\""],
    );
    check(
        &WHOLE.replace("rpo = \"15m\"", "rpo = \"59s\""),
        &["schedule.rpo", "from 1m to"],
    );
    check(
        &WHOLE.replace("200MB/s", "200MB"),
        &["bandwidth", "write \"200MB/s\""],
    );
    check(
        &WHOLE.replace("Europe/Berlin", "Europe/Bonn"),
        &["time-zone", "Europe/Bonn"],
    );
    check(&WHOLE.replace("08:00", "8:00"), &["from", "\"08:00\""]);
}

#[test]
fn nothing_that_decides_what_is_protected_is_guessed() {
    check(&without("rpo = \"15m\""), &["write rpo"]);
    check(&without("time-zone = \"Europe/Berlin\""), &["time-zone"]);
    let scopeless = "name = \"x\"\n[schedule]\nrpo = \"1h\"\n[retention]\ndaily = 1\n[store]\nrepository = \"r\"\n";
    check(scopeless, &["scope.include: write for which VMs"]);
    let empty = format!("{scopeless}[[scope.include]]\n");
    check(&empty, &["scope.include[0]", "{ name = \"*\" }"]);
    let keepless = format!("{empty}name = \"*\"\n").replace("daily = 1", "daily = 0");
    check(&keepless, &["retention: nothing would be kept"]);
}

#[test]
fn a_ladder_falls_and_stays_within_what_vsphere_takes() {
    let ladder = |rungs: &str| {
        let from = WHOLE.find("ladder = [").unwrap();
        let to = WHOLE[from..].find("\n]").unwrap() + from + 2;
        format!("{}ladder = [{rungs}]{}", &WHOLE[..from], &WHOLE[to..])
    };
    check(
        &ladder("{ level = \"crash\" }, { level = \"application\" }"),
        &["strongest first"],
    );
    check(
        &ladder("{ level = \"crash\", budget-minutes = 4 }"),
        &["budget-minutes = 5 to 240"],
    );
    check(
        &ladder("{ level = \"crash\", budget-minutes = 241 }"),
        &["budget-minutes = 5 to 240"],
    );
    check(
        &ladder("{ level = \"crash\", tries = 0 }"),
        &["tries = 1 to 5"],
    );
}
