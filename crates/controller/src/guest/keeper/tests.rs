//! The script itself, run by this machine's `sh` as a guest's would.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::super::hook::{Hook, OnFailure};
use super::*;

fn hook(name: &str, phase: Phase, script: &str) -> Hook {
    Hook {
        name: name.into(),
        phase,
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into(), name.into()],
        timeout_seconds: 20,
        on_failure: OnFailure::Fail,
    }
}

/// A guest's directory with a keeper in it; hooks write into `log`.
struct Place {
    dir: tempfile::TempDir,
    keeper: Keeper,
}

impl Place {
    fn new(budget_seconds: u32, hooks: &[(&str, Phase, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log").display().to_string();
        let hook = |(name, phase, script): &(&str, Phase, &str)| {
            hook(name, *phase, &script.replace("LOG", &log))
        };
        let hooks = Hooks {
            hooks: hooks.iter().map(hook).collect(),
            budget_seconds,
        };
        let base = dir.path().join("it's a place").display().to_string();
        let keeper = Keeper::at(base, hooks);
        std::fs::write(keeper.script_path(), keeper.script()).unwrap();
        Self { dir, keeper }
    }

    fn start(&self, act: &str) -> Child {
        Command::new("/bin/sh")
            .arg(self.keeper.script_path())
            .args(act.split(' '))
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    #[track_caller]
    fn act(&self, act: &str) -> i32 {
        self.start(act).wait().unwrap().code().unwrap()
    }

    fn report(&self, number: usize) -> HookRun {
        let bytes = std::fs::read(self.keeper.report_path(number)).unwrap();
        self.keeper.report(number, &bytes).unwrap()
    }

    fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn by(&self) -> Release {
        release(&std::fs::read(self.keeper.release_path()).unwrap()).unwrap()
    }

    fn is_empty(&self) -> bool {
        let left = |path: &Path| path.exists();
        !left(Path::new(&self.keeper.script_path())) && !left(Path::new(&self.keeper.base))
    }

    fn wait_for(&self, what: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !what() {
            assert!(Instant::now() < until, "{:?}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn hooks_run_once_each_and_nothing_is_left() {
    let place = Place::new(
        60,
        &[
            (
                "hold",
                Phase::Before,
                "echo hold >>LOG; echo 'it works'; exit 3",
            ),
            ("look", Phase::During, "echo look >>LOG"),
            (
                "free",
                Phase::After,
                "echo free >>LOG; echo out; echo err >&2",
            ),
            ("tell", Phase::After, "echo tell >>LOG"),
        ],
    );
    assert_eq!([place.act("begin"), place.act("begin")], [0, 0]);
    assert_eq!([place.act("once 0"), place.act("once 0")], [0, 0]);
    assert_eq!(place.act("held"), 0);
    assert_eq!(place.act("once 1"), 0);
    assert_eq!(
        [
            place.act("release controller"),
            place.act("release controller")
        ],
        [0, 0]
    );
    assert_eq!(place.log(), ["hold", "look", "free", "tell"]);
    let (hold, free) = (place.report(0), place.report(2));
    assert_eq!(
        (hold.end, hold.output.as_str()),
        (HookEnd::Code(3), "it works\n")
    );
    assert_eq!(
        (free.end, free.output.as_str()),
        (HookEnd::Code(0), "out\nerr\n")
    );
    assert!(!place.by().by_watchdog);
    assert_eq!([place.act("held"), place.act("once 1")], [4, 4]);
    assert_eq!(place.act("sweep"), 0);
    assert!(place.is_empty());
}

#[test]
fn a_guest_that_nobody_releases_releases_itself_once() {
    let place = Place::new(
        1,
        &[
            ("hold", Phase::Before, "echo hold >>LOG"),
            ("free", Phase::After, "sleep 1; echo free >>LOG"),
        ],
    );
    assert_eq!([place.act("begin"), place.act("once 0")], [0, 0]);
    place.wait_for(|| place.act("held") == 4);
    // Whoever comes back in the middle waits for what the watchdog does.
    assert_eq!(place.act("release controller"), 0);
    assert_eq!(place.log(), ["hold", "free"]);
    assert!(place.by().by_watchdog);
    assert_eq!(place.report(1).end, HookEnd::Code(0));
    assert_eq!(place.act("sweep"), 0);
    assert!(place.is_empty());
}

#[test]
fn of_many_who_release_at_once_one_runs_the_hooks() {
    for _ in 0..5 {
        let place = Place::new(
            1,
            &[
                ("hold", Phase::Before, "true"),
                ("free", Phase::After, "echo free >>LOG"),
            ],
        );
        assert_eq!(place.act("begin"), 0);
        std::thread::sleep(Duration::from_millis(900));
        let mut all: Vec<Child> = (0..6).map(|_| place.start("release controller")).collect();
        for child in &mut all {
            assert_eq!(child.wait().unwrap().code(), Some(0));
        }
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(place.log(), ["free"]);
        assert_eq!(place.act("sweep"), 0);
    }
}

#[test]
fn a_hook_that_hangs_is_ended_with_all_that_it_started() {
    let mut place = Place::new(
        60,
        &[(
            "hold",
            Phase::Before,
            "trap '' TERM; (sleep 6; echo late >>LOG) & echo begun; wait; sleep 30",
        )],
    );
    place.keeper.hooks.hooks[0].timeout_seconds = 1;
    std::fs::write(place.keeper.script_path(), place.keeper.script()).unwrap();
    assert_eq!(place.act("begin"), 0);
    let began = Instant::now();
    assert_eq!(place.act("once 0"), 0);
    assert!(began.elapsed() < Duration::from_secs(6));
    let report = place.report(0);
    assert_eq!(
        (report.end, report.output.as_str()),
        (HookEnd::TimedOut, "begun\n")
    );
    std::thread::sleep(Duration::from_secs(7).saturating_sub(began.elapsed()));
    assert!(place.log().is_empty(), "what the hook started lives on");
    assert_eq!(place.act("sweep"), 0);
}

#[test]
fn a_release_ends_the_hook_that_runs_before_it_runs_its_own() {
    let place = Place::new(
        60,
        &[
            (
                "hold",
                Phase::Before,
                "echo hold >>LOG; sleep 15; echo woke >>LOG",
            ),
            ("free", Phase::After, "echo free >>LOG"),
        ],
    );
    assert_eq!(place.act("begin"), 0);
    let mut hook = place.start("once 0");
    place.wait_for(|| place.log() == ["hold"]);
    let began = Instant::now();
    assert_eq!(place.act("release controller"), 0);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(hook.wait().unwrap().code(), Some(0));
    assert_eq!(place.log(), ["hold", "free"]);
    assert_eq!(place.report(0).end, HookEnd::Released);
    assert_eq!(place.act("sweep"), 0);
}

#[test]
fn a_hook_that_prints_without_end_is_cut_and_a_daemon_holds_nobody_up() {
    let place = Place::new(
        60,
        &[
            (
                "print",
                Phase::Before,
                "head -c 300000 /dev/zero | tr '\\0' x",
            ),
            ("daemon", Phase::Before, "sleep 8 & echo started"),
        ],
    );
    assert_eq!([place.act("begin"), place.act("once 0")], [0, 0]);
    let report = place.report(0);
    assert_eq!((report.output.len(), report.truncated), (64 * 1024, true));
    let began = Instant::now();
    assert_eq!(place.act("once 1"), 0);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(place.report(1).output, "started\n");
    assert_eq!(place.act("sweep"), 0);
}

#[test]
fn a_guest_that_was_restarted_is_held_by_nothing() {
    let place = Place::new(60, &[("free", Phase::After, "echo free >>LOG")]);
    assert_eq!(place.act("begin"), 0);
    std::fs::write(format!("{}/boot", place.keeper.base), "another\n").unwrap();
    assert_eq!(place.act("release controller"), 7);
    assert!(place.log().is_empty() && place.is_empty());
    // Nor is one where nothing was begun.
    let place = Place::new(60, &[]);
    assert_eq!(place.act("release controller"), 5);
}

#[test]
fn a_report_that_is_odd_is_refused() {
    let keeper = Keeper::at(
        "/tmp/x".into(),
        Hooks {
            hooks: vec![hook("a", Phase::Before, "true")],
            budget_seconds: 1,
        },
    );
    for bad in [
        "",
        "code 0 1 2",
        "code 0 1\n",
        "code x 1 2\n",
        "code 0 1 x\n",
        "odd 0 1 2\n",
        "code 0 1 99999999999999999999\n",
        "code 0 1 2 3\n",
        "\u{0}\n",
    ] {
        assert!(keeper.report(0, bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert!(keeper.report(1, b"code 0 1 2\n").is_err());
    assert_eq!(keeper.report(0, b"code 0 1 2\n").unwrap().output, "");
    for bad in ["", "somebody 1", "watchdog", "watchdog x"] {
        assert!(release(bad.as_bytes()).is_err(), "{bad:?}");
    }
}
