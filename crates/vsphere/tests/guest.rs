//! Work in a guest, against a server whose guest is this machine.

#[path = "support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secrecy::SecretString;
use server::{Answer, Server, argument, fault, properties, returned};
use stillwater_types::Reason;
use stillwater_vsphere::{
    Client, Error, FaultKind, Guest, GuestCommand, GuestExit, GuestLogin, VmRef,
};

/// A guest that runs programs for real, in a directory of its own.
struct Machine {
    dir: tempfile::TempDir,
    children: BTreeMap<u32, (Child, String, Option<i32>)>,
    made: u32,
    /// Whether the answer to the next start is lost.
    loses_start: bool,
    /// How often the guest is frozen when it is asked for processes.
    frozen: u32,
    refuses_deletes: bool,
}

impl Machine {
    fn answer(&mut self, request: &str) -> Option<Answer> {
        let first = request.lines().next().unwrap_or_default().to_owned();
        if let Some(path) = first.strip_prefix("PUT /guestFile") {
            let body = request.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            std::fs::write(self.inside(path), body).expect("writes");
            return Some((String::new(), String::new()));
        }
        if let Some(path) = first.strip_prefix("GET /guestFile") {
            let bytes = std::fs::read_to_string(self.inside(path)).expect("reads");
            return Some((String::new(), bytes));
        }
        if request.contains("<password>wrong</password>") {
            return Some(fault("InvalidGuestLogin", ""));
        }
        self.call(request)
    }

    fn call(&mut self, request: &str) -> Option<Answer> {
        let made = |name: &str| request.contains(&format!("<{name} xmlns"));
        if made("CreateTemporaryFileInGuest") {
            self.made += 1;
            let suffix = argument(request, "suffix").expect("a suffix");
            let path = self.dir.path().join(format!("{}{suffix}", self.made));
            std::fs::write(&path, "").expect("writes");
            return Some(returned(path.to_str().expect("utf-8")));
        }
        if made("InitiateFileTransferToGuest") {
            let path = argument(request, "guestFilePath").expect("a path");
            return Some(returned(&url(&path)));
        }
        if made("InitiateFileTransferFromGuest") {
            let path = argument(request, "guestFilePath").expect("a path");
            return Some(match Path::new(&path).exists() {
                true => returned(&format!("<size>0</size><url>{}</url>", url(&path))),
                false => fault("FileNotFound", ""),
            });
        }
        if made("DeleteFileInGuest") {
            let path = argument(request, "filePath").expect("a path");
            if self.refuses_deletes {
                return Some(fault("GuestPermissionDenied", ""));
            }
            return Some(match std::fs::remove_file(path) {
                Ok(()) => returned(""),
                Err(_) => fault("FileNotFound", ""),
            });
        }
        if made("StartProgramInGuest") {
            return Some(self.start(request));
        }
        if made("ListProcessesInGuest") {
            return Some(self.list(request));
        }
        if made("TerminateProcessInGuest") {
            let pid: u32 = argument(request, "pid")
                .expect("a pid")
                .parse()
                .expect("a number");
            let (child, _, _) = self.children.get_mut(&pid).expect("a child");
            // As Tools do first; the test's end would leave what ignores it.
            let killed = Command::new("kill")
                .args(["-TERM", &pid.to_string()])
                .status();
            assert!(killed.expect("runs").success() && child.id() == pid);
            return Some(returned(""));
        }
        if request.contains("<RetrievePropertiesEx") && request.contains("guest.guestFamily") {
            let set = [("guest.guestFamily", "<val>linuxGuest</val>")];
            return Some(properties("VirtualMachine", "vm-1", &set));
        }
        if request.contains("<RetrievePropertiesEx") && request.contains("processManager") {
            let set = [
                (
                    "processManager",
                    r#"<val type="GuestProcessManager">p</val>"#,
                ),
                ("fileManager", r#"<val type="GuestFileManager">f</val>"#),
            ];
            return Some(properties("GuestOperationsManager", "guest", &set));
        }
        None
    }

    fn start(&mut self, request: &str) -> Answer {
        let program = argument(request, "programPath").expect("a program");
        let arguments = argument(request, "arguments").expect("arguments");
        let line = format!("\"{program}\" {arguments}");
        // As Tools do; this shell gives way to a single command.
        let child = Command::new("/bin/bash")
            .args(["-c", &line])
            .stdin(Stdio::null())
            .spawn()
            .expect("starts");
        let pid = child.id();
        self.children.insert(pid, (child, line, None));
        match std::mem::take(&mut self.loses_start) {
            true => ("HTTP/1.1 503 Away\r\n".into(), String::new()),
            false => returned(&pid.to_string()),
        }
    }

    fn list(&mut self, request: &str) -> Answer {
        if self.frozen > 0 {
            self.frozen -= 1;
            return fault("GuestOperationsUnavailable", "");
        }
        let asked: Option<u32> =
            argument(request, "pids").map(|pid| pid.parse().expect("a number"));
        let mut all = String::new();
        for (pid, (child, line, code)) in &mut self.children {
            if asked.is_some_and(|asked| asked != *pid) {
                continue;
            }
            if let Some(status) = child.try_wait().expect("waits") {
                *code = Some(status.code().unwrap_or(-1));
            }
            let end = code.map_or(String::new(), |code| {
                format!("<endTime>t</endTime><exitCode>{code}</exitCode>")
            });
            let line = line.replace('&', "&amp;").replace('<', "&lt;");
            all.push_str(&format!(
                "<returnval><name>sh</name><pid>{pid}</pid><owner>o</owner><cmdLine>{line}</cmdLine><startTime>t</startTime>{end}</returnval>"
            ));
        }
        let body = format!(r#"<s:Envelope xmlns:s="e"><s:Body><R>{all}</R></s:Body></s:Envelope>"#);
        (String::new(), body)
    }

    fn inside(&self, line: &str) -> PathBuf {
        let path = line.split(['?', ' ']).next().expect("a path");
        assert!(Path::new(path).starts_with(self.dir.path()), "{path}");
        PathBuf::from(path)
    }

    /// What is left in the guest.
    fn files(&self) -> usize {
        std::fs::read_dir(self.dir.path())
            .expect("a directory")
            .count()
    }
}

/// A transfer's URL, as XML carries it.
fn url(path: &str) -> String {
    format!("https://*:443/guestFile{path}?id=1&amp;token=hidden")
}

struct World {
    server: Server,
    machine: Arc<Mutex<Machine>>,
    client: Client,
}

impl World {
    async fn start() -> Self {
        let machine = Arc::new(Mutex::new(Machine {
            dir: tempfile::tempdir().expect("a directory"),
            children: BTreeMap::new(),
            made: 0,
            loses_start: false,
            frozen: 0,
            refuses_deletes: false,
        }));
        let guest = Arc::clone(&machine);
        let respond = move |request: &str| guest.lock().expect("not poisoned").answer(request);
        let server = Server::start(respond).await;
        let client = server.connect().await.expect("connects");
        Self {
            server,
            machine,
            client,
        }
    }

    async fn guest(&self, password: &str) -> Guest {
        let login = GuestLogin {
            username: "backup".into(),
            password: SecretString::from(password.to_owned()),
        };
        self.client
            .guest(&VmRef::new("vm-1"), login)
            .await
            .expect("a guest")
    }

    fn with<T>(&self, act: impl FnOnce(&mut Machine) -> T) -> T {
        act(&mut self.machine.lock().expect("not poisoned"))
    }
}

fn shell(script: &str) -> GuestCommand {
    GuestCommand {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        environment: vec![("KEY".into(), SecretString::from("va'lue <&>".to_owned()))],
        working_directory: None,
        input: None,
        timeout: Duration::from_secs(20),
        output_limit: 64,
    }
}

#[tokio::test]
async fn a_program_runs_and_leaves_its_output_and_nothing_else() {
    let world = World::start().await;
    let guest = world.guest("right").await;
    let command = GuestCommand {
        input: Some(SecretString::from("from us".to_owned())),
        ..shell("cat; echo \"[$KEY]\"; echo oops >&2; exit 3")
    };
    let outcome = guest.run(&command).await.expect("runs");
    assert_eq!(outcome.exit, GuestExit::Code(3));
    assert_eq!(outcome.stdout.text(), "from us[va'lue <&>]\n");
    assert_eq!(outcome.stderr.text(), "oops\n");
    assert_eq!(outcome.left_behind, [""; 0]);
    assert_eq!(world.with(|machine| machine.files()), 0);
    // No secret is in any call: only in bodies of files.
    let calls = world.server.requests.lock().expect("not poisoned");
    let told = |request: &&String| request.contains("lue <&>") || request.contains("lue &lt;");
    let told: Vec<_> = calls.iter().filter(told).collect();
    assert_eq!(told.len(), 1);
    assert!(
        told.iter()
            .all(|request| request.starts_with("PUT /guestFile"))
    );
}

#[tokio::test]
async fn much_output_is_cut_and_told_so() {
    let world = World::start().await;
    let guest = world.guest("right").await;
    let outcome = guest.run(&shell("printf '%0500d' 0")).await.expect("runs");
    assert_eq!(outcome.stdout.bytes.len(), 64);
    assert!(outcome.stdout.is_truncated && !outcome.stderr.is_truncated);
    assert!(!format!("{outcome:?}").contains("000"));
}

#[tokio::test]
async fn a_program_that_runs_too_long_is_ended_and_its_output_kept() {
    let world = World::start().await;
    let guest = world.guest("right").await;
    let command = GuestCommand {
        timeout: Duration::from_millis(600),
        ..shell("echo begun; exec sleep 600")
    };
    let outcome = guest.run(&command).await.expect("runs");
    assert_eq!(outcome.exit, GuestExit::TimedOut);
    assert_eq!(outcome.stdout.text(), "begun\n");
    let ended = world.with(|machine| {
        let (child, _, _) = machine.children.values_mut().next().expect("a child");
        child.wait().expect("ends").code()
    });
    // By the signal that the script handed on to the program.
    assert_eq!(ended, Some(128 + 15));
}

#[tokio::test]
async fn a_start_whose_answer_was_lost_is_found_and_not_made_twice() {
    let world = World::start().await;
    let guest = world.guest("right").await;
    world.with(|machine| machine.loses_start = true);
    let outcome = guest.run(&shell("echo once")).await.expect("runs");
    assert_eq!(outcome.stdout.text(), "once\n");
    assert_eq!(world.with(|machine| machine.children.len()), 1);
}

#[tokio::test]
async fn a_frozen_guest_is_asked_again() {
    let world = World::start().await;
    let guest = world.guest("right").await;
    world.with(|machine| machine.frozen = 2);
    let outcome = guest.run(&shell("exit 0")).await.expect("runs");
    assert_eq!(outcome.exit, GuestExit::Code(0));
}

#[tokio::test]
async fn a_file_that_cannot_be_deleted_is_told() {
    let world = World::start().await;
    let guest = world.guest("right").await;
    world.with(|machine| machine.refuses_deletes = true);
    let outcome = guest.run(&shell("exit 0")).await.expect("runs");
    assert_eq!(outcome.left_behind.len(), 3, "{outcome:?}");
}

#[tokio::test]
async fn a_wrong_password_is_told_as_such_and_nothing_is_left() {
    let world = World::start().await;
    let guest = world.guest("wrong").await;
    let error = guest.run(&shell("exit 0")).await.expect_err("refused");
    assert!(error.is(&FaultKind::GuestLogin), "{error:?}");
    assert_eq!(error.fault().reason, Reason::GuestLoginRefused);
    assert_eq!(world.with(|machine| machine.files()), 0);
}

#[tokio::test]
async fn a_file_that_is_not_there_is_told_as_such() {
    let world = World::start().await;
    let guest = world.guest("right").await;
    let path = world.with(|machine| machine.dir.path().join("none"));
    let path = path.to_str().expect("utf-8");
    let error = guest.fetch_file(path, 10).await.expect_err("none");
    assert!(matches!(error, Error::FileMissing { .. }), "{error:?}");
    guest.delete_file(path).await.expect("gone is deleted");
}
