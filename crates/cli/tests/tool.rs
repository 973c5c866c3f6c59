//! The tool as an administrator runs it, against a controller and a proxy over mutual TLS.

mod repository;
mod site;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;
use site::{DISK_LENGTH, Site, disk_bytes};
use stillwater_controller_api::{RunKind, RunState};
use stillwater_types::{Fault, Reason};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect(text)
}

#[test]
fn login_keeps_a_private_context_and_every_command_uses_it() {
    let site = Site::start();
    let context = site.config().join("stillwater/contexts/default");
    for (path, mode) in [("", 0o700), ("identity.pem", 0o600), ("controller", 0o600)] {
        let found = std::fs::metadata(context.join(path))
            .expect(path)
            .permissions()
            .mode();
        assert_eq!(found & 0o777, mode, "{path}");
    }
    let nodes = json(&site.ok(&["node", "list", "-o", "json"]));
    let role = |role: &str| {
        nodes
            .as_array()
            .unwrap()
            .iter()
            .filter(|n| n["role"] == role)
            .count()
    };
    assert_eq!((role("admin"), role("proxy")), (1, 1), "{nodes}");
}

#[test]
fn a_token_of_another_role_logs_nobody_in() {
    let site = Site::start();
    let token = site.ok(&["token", "create", "--role", "proxy"]);
    let (code, stderr) = site.fails(&["login", token.trim(), "--name", "other"]);
    assert_eq!(code, 5, "{stderr}");
    assert!(
        stderr.contains("TOKEN_INVALID") && stderr.contains("stillwater-proxy join"),
        "{stderr}"
    );
    let (code, stderr) = site.fails(&["--context", "other", "node", "list"]);
    assert!(
        code == 5 && stderr.contains("NO_CERTIFICATE"),
        "{code} {stderr}"
    );
}

#[test]
fn contexts_are_chosen_by_option_by_variable_and_for_good() {
    let site = Site::start();
    site.login("second");
    let list = json(&site.ok(&["context", "list", "-o", "json"]));
    assert_eq!(list[0]["name"], "default");
    assert_eq!(list[1]["current"], true);
    site.ok(&["context", "use", "default"]);
    assert_eq!(
        json(&site.ok(&["context", "list", "-o", "json"]))[0]["current"],
        true
    );
    site.ok(&["--context", "second", "node", "list"]);
    let output = site
        .command(&["node", "list"])
        .env("STILLWATER_CONTEXT", "absent")
        .output();
    assert_eq!(output.expect("run").status.code(), Some(5));
}

#[test]
fn a_certificate_is_renewed_when_two_thirds_of_its_time_are_over() {
    let site = Site::start_with_validity(Duration::from_secs(3600));
    let identity = site
        .config()
        .join("stillwater/contexts/default/identity.pem");
    let fresh = std::fs::read(&identity).expect("identity");
    site.ok(&["node", "list"]);
    assert_eq!(
        std::fs::read(&identity).expect("identity"),
        fresh,
        "renewed too early"
    );
    // The authority dates certificates back by minutes, so that a short one is old at once.
    let site = Site::start_with_validity(Duration::from_secs(60));
    let identity = site
        .config()
        .join("stillwater/contexts/default/identity.pem");
    let old = std::fs::read(&identity).expect("identity");
    site.ok(&["node", "list"]);
    assert_ne!(
        std::fs::read(&identity).expect("identity"),
        old,
        "not renewed"
    );
}

#[test]
fn a_fault_is_told_with_reason_page_and_exit_code() {
    for (reason, expected) in [
        (Reason::VmAmbiguous, 2),
        (Reason::VmNotFound, 4),
        (Reason::VcenterLoginRefused, 5),
        (Reason::RoleNotAllowed, 5),
        (Reason::RunActive, 6),
        (Reason::VcenterExists, 6),
        (Reason::VcenterUnreachable, 7),
        (Reason::Bug, 1),
        (Reason::ChunkHashMismatch, 1),
    ] {
        let site = Site::start();
        site.fake()
            .refuse(Fault::new(reason, "because of the test"));
        let (code, stderr) = site.fails(&["backup", "web"]);
        assert_eq!(code, expected, "{stderr}");
        let page = format!("see docs/operations/errors/{reason}.md");
        let told = format!("error: {reason}: because of the test");
        assert!(stderr.contains(&told) && stderr.contains(&page), "{stderr}");
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_two() {
    let site = Site::start();
    for args in [
        &["backup"][..],
        &["nonsense"],
        &["run", "list", "-o", "yaml"],
        &["run", "show", "x"],
    ] {
        assert_eq!(site.fails(args).0, 2, "{args:?}");
    }
}

#[test]
fn a_controller_that_is_gone_is_exit_code_seven() {
    let site = Site::start();
    site.stop_controller();
    let (code, stderr) = site.fails(&["node", "list"]);
    assert!(
        code == 7 && stderr.contains("CONTROLLER_UNREACHABLE"),
        "{code} {stderr}"
    );
}

#[test]
fn a_followed_run_ends_as_the_run_did() {
    let warning = Fault::new(Reason::DiskUnprotectable, "disk 2001 is independent");
    let fault = Fault::new(Reason::SnapshotFailed, "vSphere said no");
    for (state, expected) in [
        (RunState::Succeeded, 0),
        (RunState::Incomplete, 3),
        (RunState::Failed, 6),
        (RunState::Cancelled, 1),
    ] {
        let site = Site::start();
        site.fake()
            .end_runs_as(state, (state == RunState::Failed).then(|| fault.clone()));
        if state == RunState::Incomplete {
            site.fake().warn(warning.clone());
        }
        let output = site.run(&["backup", "web", "--follow", "-o", "json"]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(expected), "{state:?} {stderr}");
        // Without a terminal there are lines, one for each step.
        assert!(stderr.contains("web transferring: "), "{stderr}");
        let runs = json(&String::from_utf8_lossy(&output.stdout));
        let word = format!("{state:?}").to_lowercase();
        assert_eq!(runs[0]["state"], word, "{runs}");
    }
}

#[test]
fn one_vm_that_is_refused_does_not_keep_the_others_back() {
    let site = Site::start();
    site.fake()
        .refuse_once(Fault::new(Reason::VmNotFound, "no such vm"));
    let output = site.run(&["backup", "nobody", "web", "-o", "json"]);
    assert_eq!(output.status.code(), Some(4));
    let runs = json(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(runs.as_array().map(Vec::len), Some(1), "{runs}");
    assert_eq!(runs[0]["backup"]["vm_name"], "web");
}

#[test]
fn a_blocked_vm_is_exit_code_three_and_a_warning_is_none() {
    let site = Site::start();
    for (arguments, code) in [
        (&["vm", "preflight", "web"][..], 0),
        (&["vm", "preflight", "--all"], 0),
        (&["vm", "preflight", "web", "--restore"], 3),
        (&["vm", "preflight", "--all", "--restore"], 3),
        (&["vm", "preflight"], 2),
        (&["vm", "preflight", "web", "--all"], 2),
    ] {
        let output = site.command(arguments).output().expect("run");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn a_run_is_found_by_the_beginning_of_its_id() {
    let site = Site::start();
    let id = site.ok(&["backup", "web"]).trim().to_owned();
    let shown = |id: &str| json(&site.ok(&["run", "show", id, "-o", "json"]))["run_id"].clone();
    assert_eq!(shown(&id), id.as_str());
    assert_eq!(shown(&id[..30]), id.as_str());
    let (code, stderr) = site.fails(&["run", "show", "ffffffff"]);
    assert!(code == 4 && stderr.contains("RUN_NOT_FOUND"), "{stderr}");
    let (code, stderr) = site.fails(&["run", "show", &id[..7]]);
    assert!(
        code == 2 && stderr.contains("first 8 characters"),
        "{stderr}"
    );
    let (code, _) = site.fails(&["point", "show", "00000000-0000-7000-8000-000000000000"]);
    assert_eq!(code, 4);
}

#[test]
fn more_runs_than_a_page_holds_are_listed() {
    let site = Site::start();
    for _ in 0..5 {
        site.ok(&["backup", "web"]);
    }
    site.fake().page_size(2);
    let count = |args: &[&str]| json(&site.ok(args)).as_array().map(Vec::len);
    assert_eq!(count(&["run", "list", "-o", "json"]), Some(5));
    assert_eq!(
        count(&["run", "list", "-o", "json", "--limit", "3"]),
        Some(3)
    );
}

#[test]
fn a_certificate_that_nobody_compared_is_not_trusted() {
    let site = Site::start();
    let add = [
        "vcenter",
        "add",
        "lab",
        "vc.example",
        "--username",
        "it's me",
    ];
    let output = site
        .command(&add)
        .env("STILLWATER_VCENTER_PASSWORD", "secret")
        .output()
        .expect("run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{stderr}");
    let pin = vec!["AB"; 32].join(":");
    let repeat = format!(
        "stillwater vcenter add lab vc.example --username 'it'\\''s me' --fingerprint {pin}"
    );
    assert!(stderr.contains(&repeat), "{stderr}");
    assert!(
        json(&site.ok(&["vcenter", "list", "-o", "json"]))
            .as_array()
            .unwrap()
            .is_empty()
    );

    let args = [&add[..], &["--fingerprint", &pin, "-o", "json"]].concat();
    let (code, stderr) = site.fails(&args);
    assert!(code == 2 && stderr.contains("no password"), "{stderr}");
    let output = site
        .command(&args)
        .env("STILLWATER_VCENTER_PASSWORD", "secret")
        .output();
    let output = output.expect("run");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(json(&text)["trust"]["certificate_sha256"], pin.as_str());
    assert!(!text.contains("secret"), "the password came back");
    assert_eq!(site.fake().password(), "secret");
}

#[test]
fn a_password_file_may_end_its_line() {
    let site = Site::start();
    let file = site.dir().join("password");
    std::fs::write(&file, "se cret\r\n").expect("write");
    let file = file.to_str().expect("utf-8");
    let pin = "ab".repeat(32);
    site.ok(&[
        "vcenter",
        "add",
        "lab",
        "vc.example",
        "--username",
        "me",
        "--password-file",
        file,
        "--fingerprint",
        &pin,
    ]);
    assert_eq!(site.fake().password(), "se cret");
}

#[test]
fn a_disk_is_restored_to_a_file_from_the_proxy() {
    let site = Site::start();
    let point = site.point();
    let file = site.dir().join("disk.raw");
    let to = file.to_str().expect("utf-8");
    let output = site.run(&[
        "restore",
        "disk",
        &point,
        "--disk",
        "Hard disk 1",
        "--to",
        to,
        "-o",
        "json",
    ]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(
        std::fs::read(&file).expect("a file") == disk_bytes(),
        "the content differs"
    );
    let run = json(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(
        (&run["state"], &run["export_disk"]["disk_key"]),
        (&"succeeded".into(), &2000.into())
    );
    assert!(!run.to_string().contains("ticket"), "{run}");

    let (code, stderr) = site.fails(&["restore", "disk", &point, "--disk", "2000", "--to", to]);
    assert!(code == 2 && stderr.contains("--force"), "{stderr}");
    let vmdk = site.dir().join("disk.vmdk");
    let vmdk = vmdk.to_str().expect("utf-8");
    site.ok(&[
        "restore",
        "disk",
        &point[..30],
        "--disk",
        "2000",
        "--to",
        vmdk,
        "--format",
        "vmdk",
    ]);
    let info = std::process::Command::new("qemu-img")
        .args(["info", "--output", "json", vmdk])
        .output()
        .expect("qemu-img is installed");
    let info = json(&String::from_utf8_lossy(&info.stdout));
    assert_eq!(info["virtual-size"], DISK_LENGTH, "{info}");
}

#[test]
fn an_export_that_breaks_leaves_no_file_and_no_run() {
    let site = Site::start();
    let point = site.point();
    site.break_exports(Fault::new(
        Reason::RepositoryUnreachable,
        "the repository is gone",
    ));
    let dir = site.dir().join("restored");
    std::fs::create_dir(&dir).expect("a directory");
    let to = dir.join("disk.raw");
    let to = to.to_str().expect("utf-8");
    let (code, stderr) = site.fails(&["restore", "disk", &point, "--disk", "2000", "--to", to]);
    assert!(
        code == 7 && stderr.contains("REPOSITORY_UNREACHABLE"),
        "{code} {stderr}"
    );
    assert_eq!(std::fs::read_dir(&dir).expect("a directory").count(), 0);
    let runs = json(&site.ok(&["run", "list", "-o", "json"]));
    assert_eq!(runs[0]["state"], "cancelled", "{runs}");
}

#[test]
fn a_disk_that_is_not_there_is_told_with_those_that_are() {
    let site = Site::start();
    let point = site.point();
    let to = site.dir().join("disk.raw");
    let to = to.to_str().expect("utf-8");
    let (code, stderr) = site.fails(&["restore", "disk", &point, "--disk", "9", "--to", to]);
    assert!(
        code == 4 && stderr.contains("2000 (Hard disk 1)"),
        "{stderr}"
    );
    assert!(
        site.fake().runs().is_empty(),
        "a run was started for nothing"
    );
}

#[test]
fn a_vm_is_restored_with_what_was_asked_for() {
    let site = Site::start();
    let point = site.point();
    let args = [
        "restore",
        "vm",
        &point,
        "--name",
        "web-2",
        "--datastore",
        "ds1",
        "--power-on",
    ];
    let run = json(&site.ok(&[&args[..], &["-o", "json"]].concat()));
    assert_eq!(run["restore_vm"]["vm_name"], "web-2");
    assert!(matches!(site.fake().runs()[0].kind, RunKind::RestoreVm(_)));
}

#[test]
fn a_vm_is_taken_back_in_place_and_its_plan_says_what_would_be_refused() {
    let site = Site::start();
    let point = site.point();
    let args = ["restore", "vm", &point, "--in-place", "-o", "json"];
    let plan = [&args[..], &["--plan"]].concat();
    let refused = site.run(&plan);
    assert_eq!(refused.status.code(), Some(3));
    let text = String::from_utf8(refused.stdout).expect("text");
    assert!(text.contains("VM_NOT_OFF"), "{text}");
    let plan = json(&site.ok(&[&plan[..], &["--discard-changes"]].concat()));
    assert_eq!(plan["refusals"], serde_json::json!([]));
    assert!(site.fake().runs().is_empty());
    let run = json(&site.ok(&args));
    assert_eq!(run["restore_in_place"]["point_id"], point);
    // What says where a new VM goes says nothing of one that is there.
    for more in [
        &["--in-place", "--name", "web-2"][..],
        &["--in-place", "--power-on"],
        &["--name", "web-2"],
        &["--name", "web-2", "--datastore", "ds1", "--discard-changes"],
    ] {
        let args = [&["restore", "vm", &point], more].concat();
        assert_eq!(site.run(&args).status.code(), Some(2), "{more:?}");
    }
}

#[test]
fn a_plan_is_told_and_nothing_is_started() {
    let site = Site::start();
    let point = site.point();
    let plan = |name: &str, more: &[&str]| {
        let args = [
            "restore",
            "vm",
            &point,
            "--name",
            name,
            "--datastore",
            "ds1",
            "--plan",
        ];
        let output = site.run(&[&args[..], more].concat());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("utf-8");
        let code = output.status.code().expect("an exit code");
        (code, text(output.stdout), text(output.stderr))
    };
    let (code, stdout, _) = plan("web-2", &["-o", "json"]);
    let told = json(&stdout);
    assert_eq!(code, 0);
    assert_eq!(told["plan"]["seconds"], 48);
    assert_eq!(told["refusals"], serde_json::json!([]));
    let (code, stdout, _) = plan("web", &[]);
    assert_eq!(code, 3, "{stdout}");
    assert!(stdout.contains("VM_EXISTS: there is such a vm"), "{stdout}");
    let (code, _, stderr) = plan("web-2", &["--network", "lan"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("= between them"), "{stderr}");
    assert!(site.fake().runs().is_empty(), "a plan started a run");
}

#[test]
fn names_cannot_command_the_terminal() {
    let site = Site::start();
    site.fake().rename_vms("web\u{1b}[2J");
    for args in [&["vm", "list"][..], &["vm", "show", "web"]] {
        let shown = site.ok(args);
        assert!(
            !shown.contains('\u{1b}') && shown.contains("web"),
            "{shown:?}"
        );
    }
}

#[test]
fn completions_and_manual_pages_are_written() {
    let site = Site::start();
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            site.ok(&["completion", shell]).contains("vcenter"),
            "{shell}"
        );
    }
    let dir = site.dir().join("man");
    std::fs::create_dir(&dir).expect("a directory");
    site.ok(&["man", dir.to_str().expect("utf-8")]);
    let page = std::fs::read_to_string(dir.join("stillwater.1")).expect("a page");
    assert!(
        page.contains("the restore point is incomplete"),
        "the exit codes are missing"
    );
    assert!(dir.join("stillwater-restore-disk.1").exists());
}

#[test]
fn a_policy_that_takes_something_away_is_asked_about_and_one_that_does_not_is_applied() {
    let site = Site::start();
    let file = site.config().join("policy.toml");
    let path = file.to_str().expect("utf-8");
    let applied = |told: &str| json(told)["changes"][0]["after"].clone();
    std::fs::write(&file, "stronger").expect("a file");
    let told = site.ok(&["policy", "apply", "-f", path, "-o", "json"]);
    assert_eq!(applied(&told), "7", "it is not only told");
    let dry = ["policy", "apply", "-f", path, "--dry-run", "-o", "json"];
    assert_eq!(applied(&site.ok(&dry)), "6");
    std::fs::write(&file, "weaker").expect("a file");
    assert_eq!(applied(&site.ok(&dry)), "6", "nobody is asked for nothing");
    let (code, stderr) = site.fails(&["policy", "apply", "-f", path]);
    assert!(
        code == 2 && stderr.contains("--yes") && stderr.contains("(weaker)"),
        "{code} {stderr}"
    );
    let told = site.ok(&["policy", "apply", "-f", path, "--yes", "-o", "json"]);
    assert_eq!(applied(&told), "7");
    std::fs::write(&file, "stronger").expect("a file");
    let shown = site.ok(&["policy", "apply", "-f", path]);
    assert!(shown.contains("5 -> 6"), "as it was shown before: {shown}");
    let (code, stderr) = site.fails(&["policy", "show", "none"]);
    assert!(
        code == 4 && stderr.contains("POLICY_NOT_FOUND"),
        "{code} {stderr}"
    );
    let (code, stderr) = site.fails(&["policy", "remove", "gold"]);
    assert!(code == 2 && stderr.contains("--yes"), "{code} {stderr}");
}

#[test]
fn a_policy_is_simulated_by_name_or_by_file_and_not_by_both() {
    let site = Site::start();
    let file = site.config().join("policy.toml");
    let path = file.to_str().expect("utf-8");
    std::fs::write(&file, "a file").expect("a file");
    let name = |args: &[&str]| json(&site.ok(&[args, &["-o", "json"]].concat()))["name"].clone();
    assert_eq!(name(&["policy", "simulate", "gold"]), "gold");
    assert_eq!(name(&["policy", "simulate", "-f", path]), "a file");
    for args in [&["gold", "-f", path][..], &[]] {
        let (code, stderr) = site.fails(&[&["policy", "simulate"], args].concat());
        assert!(code == 2 && stderr.contains("--file"), "{code} {stderr}");
    }
    let none = site.ok(&["policy", "retention", "gold", "-o", "json"]);
    assert_eq!(json(&none), serde_json::json!([]));
}
