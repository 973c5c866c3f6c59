//! Programs in the guest around its freeze: in their order, and the guest is released once, even when the
//! controller dies while it is held.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use stillwater_tests::cluster::{Role, rows, text, wait};
use stillwater_tests::guest::Disks;
use stillwater_tests::lab::VmSpec;
use stillwater_tests::{Cluster, Lab, Site};

const RUN: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(60);
/// What the guest's log is called there.
const LOG: &str = "/hooks.log";

/// A site with one guest, `web`, whose account is kept.
struct Guest {
    site: Site,
    dir: PathBuf,
}

/// One hook, as the file says it.
struct Hook {
    name: &'static str,
    phase: &'static str,
    script: &'static str,
    timeout: u32,
}

const fn hook(name: &'static str, phase: &'static str, script: &'static str) -> Hook {
    Hook {
        name,
        phase,
        script,
        timeout: 20,
    }
}

/// Writes its name and the moment into the guest's log.
const NOTE: &str = "echo \"$0 $(date +%s%N)\" >>/hooks.log";
const HOLD: Hook = hook("hold", "before", NOTE);
const FREE: Hook = hook("free", "after", NOTE);

impl Guest {
    fn new() -> Result<Self> {
        Self::of(Cluster::start()?)
    }

    fn of(cluster: Cluster) -> Result<Self> {
        let disks = Disks::new()?;
        let spec = VmSpec::new("web", vec![disks.small()?])
            .with("guest_id", json!("debian11_64Guest"))
            .with("guest", json!({"tools": "running"}));
        let site = Site::of(&[spec], cluster)?;
        let dir = site.lab.guest("web", &json!({}))?;
        let guest = Self { site, dir };
        guest.keep_account(&["web"], "guest")?;
        Ok(guest)
    }

    fn cluster(&self) -> &Cluster {
        &self.site.cluster
    }

    fn lab(&self) -> &Lab {
        &self.site.lab
    }

    fn keep_account(&self, of: &[&str], password: &str) -> Result<()> {
        let file = self.cluster().dir().join("guest-password");
        std::fs::write(&file, format!("{password}\n"))?;
        let file = file.to_str().context("utf-8")?;
        let mut arguments = vec!["guest-credential", "set"];
        arguments.extend(of);
        arguments.extend(["--username", "root", "--password-file", file]);
        self.cluster().ok(&arguments).map(drop)
    }

    fn start(&self, budget: u32, on_failure: &str, hooks: &[Hook]) -> Result<String> {
        let mut file = format!("budget_seconds = {budget}\n");
        for hook in hooks {
            file.push_str(&format!(
                "[[hook]]\nname = '{}'\nphase = '{}'\nprogram = '/bin/sh'\n\
                 arguments = ['-c', '''{}''', '{}']\ntimeout_seconds = {}\non_failure = '{on_failure}'\n",
                hook.name, hook.phase, hook.script, hook.name, hook.timeout
            ));
        }
        let path = self.cluster().dir().join("hooks.toml");
        std::fs::write(&path, file)?;
        let path = path.to_str().context("utf-8")?;
        self.cluster()
            .start_run(&["backup", "web", "--hooks", path])
    }

    fn run(&self, budget: u32, on_failure: &str, hooks: &[Hook]) -> Result<Value> {
        let run = self.start(budget, on_failure, hooks)?;
        self.cluster().wait_run(&run, RUN)
    }

    /// What ran, in order, and when in nanoseconds.
    fn log(&self) -> Result<Vec<(String, u128)>> {
        let file = self.dir.join(&LOG[1..]);
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = |line: &str| {
            let (name, at) = line.split_once(' ').context("a line of the log")?;
            Ok((name.to_owned(), at.parse()?))
        };
        text.lines().map(line).collect()
    }

    fn ran(&self) -> Result<Vec<String>> {
        Ok(self.log()?.into_iter().map(|(name, _)| name).collect())
    }

    fn clear_log(&self) -> Result<()> {
        match std::fs::remove_file(self.dir.join(&LOG[1..])) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Files of ours in the guest.
    fn left(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(self.dir.join("tmp"))?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let names: Result<Vec<String>> = names.collect();
        let ours = names?.into_iter();
        Ok(ours.filter(|name| name.contains("stillwater")).collect())
    }

    fn check_clean(&self) -> Result<()> {
        ensure!(self.lab().snapshots()?.is_empty(), "a snapshot is left");
        let left = self.left()?;
        ensure!(left.is_empty(), "left in the guest: {left:?}");
        Ok(())
    }

    fn shown(&self, ended: &Value) -> Result<Value> {
        let point = text(&ended["backup"], "point_id")?;
        self.cluster().json(&["point", "show", &point])
    }

    /// When the lab made the VM's snapshot, in nanoseconds.
    fn snapshot_at(&self) -> Result<u128> {
        let events = self.lab().control("GET", "/vm/web/guest/events", None)?;
        let events = rows(&events);
        let made = events.iter().rfind(|event| event["kind"] == "snapshot");
        let at = text(made.context("a snapshot")?, "at")?;
        let at: jiff::Timestamp = at.parse()?;
        Ok(u128::try_from(at.as_nanosecond())?)
    }
}

#[test]
fn hooks_run_in_order_around_the_snapshot_and_the_point_tells_of_them() -> Result<()> {
    let guest = Guest::new()?;
    let shout = "echo \"$0 $(date +%s%N)\" >>/hooks.log; echo it is held; echo \"it's so\" >&2; head -c 100000 /dev/zero | tr '\\0' x";
    let hooks = [
        FREE,
        hook("hold", "before", shout),
        hook("hold more", "before", "true"),
        hook("look", "during", NOTE),
    ];
    let ended = guest.run(60, "fail", &hooks)?;
    ensure!(ended["state"] == "succeeded", "{ended:#}");
    guest.check_clean()?;
    let log = guest.log()?;
    let names: Vec<&str> = log.iter().map(|(name, _)| name.as_str()).collect();
    ensure!(names == ["hold", "look", "free"], "{log:?}");
    let snapshot = guest.snapshot_at()?;
    ensure!(
        log[0].1 < snapshot && snapshot < log[1].1,
        "{snapshot}: {log:?}"
    );
    let shown = guest.shown(&ended)?;
    let told = rows(&shown["quiescence"]["hooks"]);
    let names: Vec<_> = told.iter().map(|hook| hook["name"].clone()).collect();
    ensure!(names == ["hold", "hold more", "look", "free"], "{told:#?}");
    ensure!(told.iter().all(|hook| hook["exit_code"] == 0), "{told:#?}");
    let output = text(&told[0], "output")?;
    ensure!(
        output.starts_with("it is held\nit's so\nxxx"),
        "{output:.80}"
    );
    ensure!(output.len() == 64 * 1024 && told[0]["truncated"] == true);
    ensure!(shown["quiescence"]["hook_release"]["by_watchdog"] == false);
    ensure!(
        shown["consistency"] == "file_system",
        "a hook proves nothing"
    );
    Ok(())
}

#[test]
fn a_hook_that_fails_or_hangs_means_what_it_says_and_the_guest_is_released() -> Result<()> {
    let guest = Guest::new()?;
    let hangs = Hook {
        timeout: 2,
        ..hook("hold", "before", "trap '' TERM; echo begun; sleep 600")
    };
    let fails = hook("hold", "before", "echo no such table; exit 3");
    let late = hook("look", "during", "exit 4");
    let after = hook(
        "free",
        "after",
        "echo \"$0 $(date +%s%N)\" >>/hooks.log; exit 5",
    );
    let cases: [(&str, &[Hook], &str, &str); 6] = [
        ("fail", &[fails, FREE], "failed", "no such table"),
        (
            "warn",
            &[hook("hold", "before", "exit 3"), FREE],
            "succeeded",
            "exit code 3",
        ),
        (
            "ignore",
            &[hook("hold", "before", "exit 3"), FREE],
            "succeeded",
            "",
        ),
        ("fail", &[hangs, FREE], "failed", "ran too long"),
        ("fail", &[HOLD, late, FREE], "failed", "exit code 4"),
        ("fail", &[HOLD, after], "failed", "exit code 5"),
    ];
    for (on_failure, hooks, state, told) in cases {
        guest.clear_log()?;
        let began = Instant::now();
        let ended = guest.run(120, on_failure, hooks)?;
        let context = format!("{on_failure} {told}: {ended:#}");
        ensure!(ended["state"] == state, "{context}");
        let warnings = ended["warnings"].to_string();
        let fault = ended["fault"].to_string();
        let has_reason = format!("{warnings}{fault}").contains("HOOK_FAILED");
        ensure!(has_reason == (on_failure != "ignore"), "{context}");
        ensure!(format!("{warnings}{fault}").contains(told), "{context}");
        let ran = guest.ran()?;
        let frees = ran.iter().filter(|name| *name == "free").count();
        ensure!(frees == 1, "released {frees} times: {context}");
        ensure!(began.elapsed() < SOON, "{context}");
        guest.check_clean()?;
    }
    Ok(())
}

#[test]
fn a_wrong_or_missing_account_is_told_and_leaves_nothing_in_the_guest() -> Result<()> {
    let guest = Guest::new()?;
    let check = |reason: &str| -> Result<()> {
        for (on_failure, state) in [("fail", "failed"), ("warn", "succeeded")] {
            let ended = guest.run(60, on_failure, &[HOLD, FREE])?;
            ensure!(ended["state"] == state, "{reason} {on_failure}: {ended:#}");
            ensure!(ended.to_string().contains(reason), "{reason}: {ended:#}");
            ensure!(guest.ran()?.is_empty(), "something ran: {ended:#}");
            guest.check_clean()?;
        }
        Ok(())
    };
    guest.keep_account(&["web"], "canary-of-passwords")?;
    check("GUEST_LOGIN_REFUSED")?;
    guest.cluster().ok(&["guest-credential", "remove", "web"])?;
    check("GUEST_CREDENTIAL_MISSING")?;
    let again = ["guest-credential", "remove", "web"];
    guest
        .cluster()
        .fails(&again, 6, "GUEST_CREDENTIAL_MISSING")?;
    // The folder's account is as good, and the vm's own comes before it.
    let shown = guest.cluster().json(&["vm", "show", "web"])?;
    let path = text(&shown["summary"], "path")?;
    let (folder, _) = path.rsplit_once('/').context("a path")?;
    guest.keep_account(&["--folder", folder], "guest")?;
    let ended = guest.run(60, "fail", &[HOLD, FREE])?;
    ensure!(ended["state"] == "succeeded", "{ended:#}");
    ensure!(guest.ran()? == ["hold", "free"]);
    guest.keep_account(&["web"], "canary-of-passwords")?;
    check_refused(&guest)?;
    let list = guest.cluster().ok(&["guest-credential", "list"])?;
    ensure!(list.contains(folder) && !list.contains("canary"), "{list}");
    let log = guest.cluster().log(Role::Controller);
    ensure!(!log.contains("canary-of"), "a password is logged");
    ensure_sealed(&guest.cluster().state(Role::Controller))
}

/// No file of the controller has the password in the open.
fn ensure_sealed(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            ensure_sealed(&path)?;
        } else if path.is_file() {
            let bytes = std::fs::read(&path)?;
            let canary = b"canary-of";
            let is_there = bytes.windows(canary.len()).any(|window| window == canary);
            ensure!(!is_there, "a password is in {}", path.display());
        }
    }
    Ok(())
}

fn check_refused(guest: &Guest) -> Result<()> {
    let ended = guest.run(60, "fail", &[HOLD, FREE])?;
    ensure!(
        ended["fault"]["reason"] == "GUEST_LOGIN_REFUSED",
        "{ended:#}"
    );
    Ok(())
}

/// Starts a run whose snapshot hangs while the guest is held, and kills the controller.
fn killed_while_held(guest: &mut Guest, budget: u32) -> Result<(String, Instant)> {
    guest.clear_log()?;
    let method = "CreateSnapshotEx_Task";
    let calls = guest.lab().calls(method)?;
    guest.lab().fault(method, "hang:3", 0, 1)?;
    let began = Instant::now();
    let run = guest.start(budget, "fail", &[HOLD, FREE])?;
    wait("the snapshot is asked for", SOON, || {
        Ok((guest.lab().calls(method)? > calls).then_some(()))
    })?;
    ensure!(guest.ran()? == ["hold"]);
    guest.site.cluster.kill_role(Role::Controller)?;
    guest.lab().control("DELETE", "/faults", None)?;
    Ok((run, began))
}

fn come_back(guest: &mut Guest, run: &str) -> Result<()> {
    guest.site.cluster.start_role(Role::Controller)?;
    guest.cluster().wait_online(2)?;
    let ended = guest.cluster().wait_run(run, SOON)?;
    ensure!(
        ended["fault"]["reason"] == "CONTROLLER_RESTARTED",
        "{ended:#}"
    );
    Ok(())
}

fn wait_clean(guest: &Guest) -> Result<()> {
    wait("nothing is left", SOON, || {
        Ok(guest.check_clean().is_ok().then_some(()))
    })
}

#[test]
fn a_controller_that_comes_back_releases_the_guest_at_once_and_once() -> Result<()> {
    let mut guest = Guest::new()?;
    let (run, began) = killed_while_held(&mut guest, 600)?;
    come_back(&mut guest, &run)?;
    ensure!(began.elapsed() < SOON, "long before its budget is over");
    ensure!(guest.ran()? == ["hold", "free"], "{:?}", guest.log()?);
    wait_clean(&guest)
}

#[test]
fn a_controller_that_stays_away_leaves_the_guest_released_within_the_budget() -> Result<()> {
    let mut guest = Guest::new()?;
    let budget = 8;
    let (run, began) = killed_while_held(&mut guest, budget)?;
    wait("the guest releases itself", SOON, || {
        Ok((guest.ran()? == ["hold", "free"]).then_some(()))
    })?;
    let took = began.elapsed();
    ensure!(
        took < Duration::from_secs(u64::from(budget) + 8),
        "{took:?}"
    );
    let log = guest.log()?;
    let held = log[1].1 - log[0].1;
    ensure!(held < u128::from(budget + 2) * 1_000_000_000, "{held} ns");
    // Whoever comes back later finds that done, and clears up.
    come_back(&mut guest, &run)?;
    ensure!(guest.ran()? == ["hold", "free"], "{:?}", guest.log()?);
    wait_clean(&guest)
}

#[test]
fn a_controller_that_comes_back_as_the_budget_ends_releases_once_between_them() -> Result<()> {
    let mut guest = Guest::new()?;
    for budget in [5, 6, 7] {
        let (run, _) = killed_while_held(&mut guest, budget)?;
        come_back(&mut guest, &run)?;
        std::thread::sleep(Duration::from_secs(4));
        ensure!(guest.ran()? == ["hold", "free"], "{:?}", guest.log()?);
        wait_clean(&guest)?;
    }
    Ok(())
}

#[test]
fn a_guest_that_was_released_before_its_snapshot_is_never_green() -> Result<()> {
    let guest = Guest::new()?;
    let slow = hook("wait", "before", "sleep 4");
    for (on_failure, state) in [("fail", "failed"), ("warn", "succeeded")] {
        guest.clear_log()?;
        let ended = guest.run(
            2,
            on_failure,
            &[HOLD, hook("wait", slow.phase, slow.script), FREE],
        )?;
        ensure!(ended["state"] == state, "{ended:#}");
        ensure!(ended.to_string().contains("HOOK_FAILED"), "{ended:#}");
        ensure!(guest.ran()? == ["hold", "free"], "{:?}", guest.log()?);
        if state == "succeeded" {
            let release = guest.shown(&ended)?["quiescence"]["hook_release"].clone();
            ensure!(release["by_watchdog"] == true, "{release:#}");
        }
        guest.check_clean()?;
    }
    Ok(())
}
