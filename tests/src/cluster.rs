//! A cluster of real processes on loopback, or on machines of their own: controller, proxies, repositories.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::{Lab, scratch};
use crate::machine::Machine;
use crate::process::{Process, Usage};
use crate::workspace;

/// How long a role may take to come up or go down.
const PATIENCE: Duration = Duration::from_secs(30);

/// The tests share one file system with whatever else is on this machine.
const RESERVE: &str = "[store]\nreserve = \"256MiB\"";

/// What proxies on machines of their own listen on; nobody else is there.
const PORT: u16 = 4701;

/// One of the roles under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `stillwater-controller`
    Controller,
    /// `stillwater-proxy`
    Proxy,
    /// `stillwater-repository`
    Repository,
    /// A second `stillwater-proxy`, of clusters that were given one.
    OtherProxy,
    /// A second `stillwater-repository`, of clusters that were given one.
    OtherRepository,
    /// A proxy of a fleet, counted from zero, at most [`FLEET`](Role::FLEET) of them.
    FleetProxy(usize),
}

impl Role {
    /// Those that every cluster has, in the order in which they start.
    pub const ALL: [Role; 3] = [Role::Controller, Role::Repository, Role::Proxy];
    /// Names of a fleet's proxies.
    pub const FLEET: [&str; 6] = [
        "proxy-1", "proxy-2", "proxy-3", "proxy-4", "proxy-5", "proxy-6",
    ];

    /// What its node and its files are called.
    pub fn name(self) -> &'static str {
        match self {
            Role::OtherProxy => "other-proxy",
            Role::OtherRepository => "other-repository",
            Role::FleetProxy(n) => Role::FLEET[n],
            role => role.word(),
        }
    }

    /// The role's word.
    fn word(self) -> &'static str {
        match self {
            Role::Controller => "controller",
            Role::Proxy | Role::OtherProxy | Role::FleetProxy(_) => "proxy",
            Role::Repository | Role::OtherRepository => "repository",
        }
    }
}

#[derive(Debug)]
struct Member {
    role: Role,
    config: PathBuf,
    process: Option<Process>,
    /// Where it runs, if not beside the tests.
    machine: Option<Machine>,
}

/// A running cluster with an administrator who is logged in.
#[derive(Debug)]
pub struct Cluster {
    dir: TempDir,
    /// What roles beside the tests listen on.
    host: IpAddr,
    members: Vec<Member>,
    /// What `stillwater-controller init` printed.
    pub recovery_key: String,
}

impl Cluster {
    /// Makes a controller, lets a repository and a proxy join, and starts all three.
    pub fn start() -> Result<Self> {
        Self::with_repository(RESERVE)
    }

    /// The same with a repository that is configured by more than its address.
    pub fn with_repository(repository: &str) -> Result<Self> {
        Self::with("", repository)
    }

    /// The same with a controller that is configured by more than its address.
    pub fn with_controller(controller: &str) -> Result<Self> {
        Self::with(controller, RESERVE)
    }

    fn with(controller: &str, repository: &str) -> Result<Self> {
        let mut cluster = Self::control(IpAddr::V4(Ipv4Addr::LOCALHOST), controller)?;
        cluster.bring(Role::Repository, repository, None)?;
        cluster.bring(Role::Proxy, "", None)?;
        cluster.wait_online(2)?;
        Ok(cluster)
    }

    /// A controller alone that listens on `host`, with an administrator who is logged in.
    pub fn control(host: IpAddr, controller: &str) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("stillwater-cluster-")
            .tempdir_in(scratch()?)?;
        let mut cluster = Self {
            dir,
            host,
            members: Vec::new(),
            recovery_key: String::new(),
        };
        let address = cluster.configure(Role::Controller, controller)?;
        let init = cluster.run_role(
            Role::Controller,
            &[
                "init",
                "--advertise",
                &address,
                "--name",
                "controller",
                "--json",
            ],
        )?;
        let init: Value = serde_json::from_slice(&init.stdout).context("read what init printed")?;
        cluster.recovery_key = text(&init, "recovery_key")?;
        cluster.start_role(Role::Controller)?;
        cluster.ok(&["login", &text(&init, "admin_token")?])?;
        Ok(cluster)
    }

    /// Lets a second proxy join and starts it.
    pub fn add_proxy(&mut self) -> Result<()> {
        self.add(Role::OtherProxy, "")
    }

    /// Lets a second repository join and starts it.
    pub fn add_repository(&mut self) -> Result<()> {
        self.add(Role::OtherRepository, RESERVE)
    }

    /// Lets a proxy of a fleet join from a machine of its own and starts it.
    pub fn add_machine(&mut self, role: Role, machine: Machine, more: &str) -> Result<()> {
        self.bring(role, more, Some(machine))
    }

    /// Lets a role join from beside the tests and starts it.
    pub fn join_and_start(&mut self, role: Role, more: &str) -> Result<()> {
        self.bring(role, more, None)
    }

    /// The machine that a role has to itself.
    pub fn machine(&self, role: Role) -> Result<&Machine> {
        let member = self.members.iter().find(|member| member.role == role);
        let machine = member.and_then(|member| member.machine.as_ref());
        machine.with_context(|| format!("{} has no machine of its own", role.name()))
    }

    fn add(&mut self, role: Role, more: &str) -> Result<()> {
        self.bring(role, more, None)?;
        let nodes = self
            .members
            .iter()
            .filter(|member| member.role != Role::Controller);
        self.wait_online(nodes.count())
    }

    fn bring(&mut self, role: Role, more: &str, machine: Option<Machine>) -> Result<()> {
        self.configure_on(role, more, machine)?;
        self.join(role)?;
        self.start_role(role)
    }

    /// Registers the lab's vCenter by its fingerprint.
    pub fn add_lab(&self, lab: &Lab) -> Result<()> {
        self.add_lab_as("lab", lab)
    }

    /// Registers a lab's vCenter under a name, by its fingerprint.
    pub fn add_lab_as(&self, name: &str, lab: &Lab) -> Result<()> {
        let password = self.dir.path().join("vcenter.password");
        fs::write(&password, &lab.ready.password)?;
        let args = [
            "vcenter",
            "add",
            name,
            lab.address(),
            "--username",
            &lab.ready.user,
        ];
        let mut command = self.command(&args)?;
        command
            .arg("--password-file")
            .arg(&password)
            .args(["--fingerprint", &lab.ready.sha256]);
        check(&args, command.output()?).map(drop)
    }

    /// The cluster's directory: state, configuration and logs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The state directory of a role.
    pub fn state(&self, role: Role) -> PathBuf {
        self.dir.path().join(role.name())
    }

    /// Writes a role's configuration and answers the address that it listens on. `more` is
    /// appended as it is.
    pub fn configure(&mut self, role: Role, more: &str) -> Result<String> {
        self.configure_on(role, more, None)
    }

    fn configure_on(&mut self, role: Role, more: &str, machine: Option<Machine>) -> Result<String> {
        let address = match &machine {
            Some(machine) => format!("{}:{PORT}", machine.address()),
            None => free_address(self.host)?,
        };
        let config = self.dir.path().join(format!("{}.toml", role.name()));
        let state = self.state(role);
        let name = role.name();
        fs::write(
            &config,
            format!(
                "listen = {address:?}\nadvertise = {address:?}\nname = {name:?}\nstate-dir = {state:?}\n{more}\n"
            ),
        )?;
        self.members.retain(|member| member.role != role);
        self.members.push(Member {
            role,
            config,
            process: None,
            machine,
        });
        Ok(address)
    }

    fn join(&mut self, role: Role) -> Result<()> {
        let token = self.json(&["token", "create", "--role", role.word()])?;
        self.run_role(role, &["join", &text(&token, "token")?])
            .map(drop)
    }

    /// Starts a role; it must not be running.
    pub fn start_role(&mut self, role: Role) -> Result<()> {
        let mut command = self.role_command(role)?;
        command.arg("run");
        let process = Process::start(role.name(), &mut command, &self.log_path(role))?;
        self.member(role)?.process = Some(process);
        self.wait_listening(role)
    }

    /// Kills a role as a power cut would.
    pub fn kill_role(&mut self, role: Role) -> Result<()> {
        let process = self
            .member(role)?
            .process
            .take()
            .context("the role is not running")?;
        let mut process = process;
        process.kill()
    }

    /// Asks a role to end, as systemd would.
    pub fn stop_role(&mut self, role: Role) -> Result<()> {
        let process = self
            .member(role)?
            .process
            .take()
            .context("the role is not running")?;
        let mut process = process;
        let status = process.terminate(PATIENCE)?;
        ensure!(
            status.success(),
            "{} ended with {status}: {}",
            role.name(),
            process.log()
        );
        Ok(())
    }

    /// Lets a role stand still until it is resumed.
    pub fn pause_role(&self, role: Role) -> Result<()> {
        self.running(role)?.pause()
    }

    /// Lets a role that stands still go on.
    pub fn resume_role(&self, role: Role) -> Result<()> {
        self.running(role)?.resume()
    }

    fn running(&self, role: Role) -> Result<&Process> {
        let member = self.members.iter().find(|member| member.role == role);
        let process = member.and_then(|member| member.process.as_ref());
        process.context("the role is not running")
    }

    /// What a role has logged.
    pub fn log(&self, role: Role) -> String {
        fs::read_to_string(self.log_path(role)).unwrap_or_default()
    }

    /// What a running role has used since it started.
    pub fn usage(&self, role: Role) -> Result<Usage> {
        self.running(role)?.usage()
    }

    fn log_path(&self, role: Role) -> PathBuf {
        self.dir.path().join(format!("{}.log", role.name()))
    }

    fn member(&mut self, role: Role) -> Result<&mut Member> {
        let found = self.members.iter_mut().find(|member| member.role == role);
        found.with_context(|| format!("the cluster has no {}", role.name()))
    }

    fn role_command(&mut self, role: Role) -> Result<Command> {
        let program = workspace::binary(&format!("stillwater-{}", role.word()))?;
        let member = self.member(role)?;
        let mut command = match &member.machine {
            Some(machine) => machine.command(&program),
            None => Command::new(program),
        };
        command.arg("--config").arg(&member.config);
        // As the systemd units have it.
        command.env("MALLOC_ARENA_MAX", "2");
        Ok(command)
    }

    fn run_role(&mut self, role: Role, args: &[&str]) -> Result<Output> {
        let mut command = self.role_command(role)?;
        check(args, command.args(args).output()?)
    }

    fn wait_listening(&mut self, role: Role) -> Result<()> {
        let config = fs::read_to_string(&self.member(role)?.config)?;
        let address = config
            .split('"')
            .nth(1)
            .context("no listen address")?
            .to_owned();
        wait("the role listens", PATIENCE, || {
            if let Some(process) = self.member(role)?.process.as_mut() {
                process.check_alive()?;
            }
            Ok(std::net::TcpStream::connect(&address).ok().map(drop))
        })
    }

    /// Waits until this many proxies and repositories are online.
    pub fn wait_online(&self, count: usize) -> Result<()> {
        wait("the nodes are online", PATIENCE, || {
            let nodes = self.json(&["node", "list"])?;
            let online = rows(&nodes).into_iter().filter(|n| {
                n["state"] == "online" && (n["role"] == "proxy" || n["role"] == "repository")
            });
            Ok((online.count() >= count).then_some(()))
        })
    }

    /// A call of the tool as the logged-in administrator.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(workspace::binary("stillwater")?);
        command
            .args(args)
            .env("XDG_CONFIG_HOME", self.dir.path().join("xdg"))
            .env_remove("STILLWATER_CONTEXT")
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Runs the tool and answers whatever comes.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        self.command(args)?
            .output()
            .with_context(|| format!("run stillwater {args:?}"))
    }

    /// Runs the tool and demands success.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        Ok(String::from_utf8(check(args, self.run(args)?)?.stdout)?)
    }

    /// Runs the tool with `-o json` and demands success.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let mut all = args.to_vec();
        all.extend(["-o", "json"]);
        let text = self.ok(&all)?;
        serde_json::from_str(&text).with_context(|| format!("stillwater {all:?}: {text}"))
    }

    /// Runs the tool and demands that it fails with this exit code and reason.
    pub fn fails(&self, args: &[&str], code: i32, reason: &str) -> Result<String> {
        let output = self.run(args)?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(code) && stderr.contains(reason),
            "stillwater {args:?} should fail with {code} {reason}, but: {} {stderr}",
            output.status
        );
        Ok(stderr)
    }

    /// Starts a run by a command such as `backup VM` and answers its id.
    pub fn start_run(&self, args: &[&str]) -> Result<String> {
        let started = self.json(args)?;
        let first = rows(&started).first().cloned().unwrap_or(started);
        text(&first, "run_id")
    }

    /// Waits for the end of a run and answers it.
    pub fn wait_run(&self, run: &str, patience: Duration) -> Result<Value> {
        wait("the run ends", patience, || {
            let shown = self.json(&["run", "show", run])?;
            let state = text(&shown, "state")?;
            Ok((state != "pending" && state != "running").then_some(shown))
        })
    }

    /// Backs a VM up and demands the state that the run ends with.
    pub fn backup(&self, vm: &str, state: &str) -> Result<Value> {
        let run = self.start_run(&["backup", vm])?;
        let ended = self.wait_run(&run, Duration::from_secs(300))?;
        ensure!(
            ended["state"] == state,
            "the run should be {state}: {ended:#}"
        );
        Ok(ended)
    }
}

/// The rows of a list, whether it is bare or wrapped in an object with one field.
pub fn rows(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(rows) => rows.clone(),
        Value::Object(fields) => match fields.values().next() {
            Some(Value::Array(rows)) if fields.len() == 1 => rows.clone(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// A field that must be a text.
pub fn text(value: &Value, field: &str) -> Result<String> {
    let found = value[field]
        .as_str()
        .with_context(|| format!("no {field} in {value}"))?;
    Ok(found.to_owned())
}

/// Asks until there is an answer.
pub fn wait<T>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("waited {patience:?} until {what}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// BLAKE3 of a whole file.
pub fn hash(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let file = fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    hasher
        .update_reader(file)
        .with_context(|| format!("read {}", path.display()))?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn free_address(host: IpAddr) -> Result<String> {
    Ok(TcpListener::bind((host, 0))?.local_addr()?.to_string())
}

fn check(args: &[&str], output: Output) -> Result<Output> {
    ensure!(
        output.status.success(),
        "{args:?} ended with {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(output)
}
