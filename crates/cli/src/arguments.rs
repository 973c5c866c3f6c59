//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::exit::EXIT_CODES;

/// Protects VMware vSphere virtual machines, and restores them.
#[derive(Debug, Parser)]
#[command(name = "stillwater", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Arguments {
    /// The context to use instead of the current one
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "STILLWATER_CONTEXT",
        hide_env_values = true
    )]
    pub(crate) context: Option<String>,

    /// How to print what was asked for
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How to print what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people: tables, sizes in KiB, MiB, GiB
    Table,
    /// For programs: one JSON value, sizes in bytes
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Join a cluster as an administrator, with a token of role admin
    Login(Login),
    /// Clusters that you are logged in to
    #[command(subcommand)]
    Context(Context),
    /// Join tokens: single use, fifteen minutes, for one role
    #[command(subcommand)]
    Token(Token),
    /// Holders of a certificate of the cluster
    #[command(subcommand)]
    Node(Node),
    /// Proxies and the disks that they reach
    #[command(subcommand)]
    Proxy(Proxy),
    /// vCenters, or hosts that stand alone
    #[command(subcommand)]
    Vcenter(Vcenter),
    /// VMs as their vCenters know them now
    #[command(subcommand)]
    Vm(Vm),
    /// Tell what every VM lacks before you can rely on its backups; exit code 3 when anything is missing
    Readiness(Readiness),
    /// Accounts that hooks use in guests
    #[command(subcommand)]
    GuestCredential(GuestCredential),
    /// Protect VMs now
    Backup(Backup),
    /// Attempts to protect or to restore
    #[command(subcommand)]
    Run(Run),
    /// Restore points
    #[command(subcommand)]
    Point(Point),
    /// Where restore points are kept: how sound it is, and what it protects
    #[command(subcommand)]
    Repository(Repository),
    /// What is to be protected, how well and when
    #[command(subcommand)]
    Policy(Policy),
    /// What policies promise to each VM, and how the promises stand
    #[command(subcommand)]
    Job(Job),
    /// What a person must look at, and since when
    #[command(subcommand)]
    Alarm(Alarm),
    /// What happened, who did it, and what it was about
    #[command(subcommand)]
    Event(Event),
    /// Files in restore points, with no copy of a disk
    #[command(subcommand)]
    Files(Files),
    /// Bring back a VM or a disk
    #[command(subcommand)]
    Restore(Restore),
    /// Print the completion script of a shell
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages into a directory
    Man {
        /// An existing directory
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// What `stillwater token create --role admin` or `stillwater-controller init` printed
    pub token: String,
    /// The name to remember the cluster by
    #[arg(long, value_name = "CONTEXT", default_value = "default")]
    pub name: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Context {
    /// List the contexts
    List,
    /// Make a context the current one
    Use {
        /// The context's name
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token; it is shown once
    Create {
        /// What the node that joins with it may do
        #[arg(long, value_enum)]
        role: TokenRole,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenRole {
    /// Reads and writes disks
    Proxy,
    /// Keeps chunks
    Repository,
    /// A person at the command line
    Admin,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// List the nodes
    List,
    /// Shut a node out: its certificate is refused from now on
    Remove {
        /// The node's id, or the beginning of it
        node: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Proxy {
    /// List the proxies: what each takes, has at work and reaches
    List,
    /// Give a proxy no new work; what it has at work goes on to its end
    ///
    /// Lasts until `proxy undrain`, also when the proxy or the controller is restarted.
    Drain {
        /// The proxy's name or id, or the beginning of the id
        proxy: String,
    },
    /// Give a proxy work again
    Undrain {
        /// The proxy's name or id, or the beginning of the id
        proxy: String,
    },
    /// Measure how fast every proxy reaches a disk by every way; nothing is stored
    ///
    /// Makes a snapshot for it, which is removed at the end.
    Probe(Probe),
}

#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// The VM's id, inventory path or name
    pub vm: String,
    /// The disk's device key, as `stillwater vm show` names it; the first disk by default
    #[arg(long, value_name = "KEY")]
    pub disk: Option<i32>,
    /// How much to read by each way, in MiB, at most 4096
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub read: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Vcenter {
    /// Register a vCenter, or a host that stands alone
    Add(AddVcenter),
    /// List the vCenters
    List,
    /// Log in anew and tell what is there
    Test {
        /// The vCenter's name or id
        vcenter: String,
    },
    /// Forget a vCenter and its password; its points stay
    Remove {
        /// The vCenter's name or id
        vcenter: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AddVcenter {
    /// The name to register it under
    pub name: String,
    /// host or host:port
    pub address: String,
    /// The account to use
    #[arg(long)]
    pub username: String,
    /// Read the password from this file; otherwise it is taken from STILLWATER_VCENTER_PASSWORD or
    /// asked for
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    #[command(flatten)]
    pub trust: Trust,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Trust {
    /// Trust certificates of the authority in this PEM file
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Trust the one certificate with this SHA-256
    #[arg(long, value_name = "HEX")]
    pub fingerprint: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Vm {
    /// List the VMs
    List {
        /// Only of the vCenter with this name or id
        #[arg(long)]
        vcenter: Option<String>,
    },
    /// Show a VM, read afresh
    Show {
        /// The VM's name, inventory path or id
        vm: String,
    },
    /// Tell what keeps VMs from being protected, or makes less of their protection; exit code 3 when
    /// something is blocked
    Preflight(Preflight),
}

#[derive(Debug, Args)]
pub(crate) struct Preflight {
    /// Names, inventory paths or ids
    #[arg(value_name = "VM", required_unless_present = "all")]
    pub vms: Vec<String>,
    /// Every VM; only what is not in order is printed
    #[arg(long, conflicts_with = "vms")]
    pub all: bool,
    /// Only of the vCenter with this name or id
    #[arg(long, requires = "all")]
    pub vcenter: Option<String>,
    /// Check what a restore to where the VM is now needs, too
    #[arg(long)]
    pub restore: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Readiness {
    /// Only of the vCenter with this name or id
    #[arg(long)]
    pub vcenter: Option<String>,
    /// Write the report as one page into this new file, too
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// How consistent a point is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// Applications take part
    Application,
    /// File systems are flushed and frozen
    FileSystem,
    /// As after a power cut
    Crash,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Names, inventory paths or ids
    #[arg(value_name = "VM", required = true)]
    pub vms: Vec<String>,
    /// Leave out the disk with this device key; a disk that cannot be protected makes the run
    /// incomplete unless it is left out
    #[arg(long, value_name = "KEY")]
    pub exclude_disk: Vec<i32>,
    /// Read every byte and hold it against the last point, whatever vSphere's change map says
    #[arg(long)]
    pub full: bool,
    /// How consistent the point is to be, strongest first, such as application,file-system,crash; the
    /// run fails when the last one cannot be reached [default: what the guest can do]
    #[arg(long, value_name = "LEVELS", value_delimiter = ',')]
    pub quiesce: Vec<Level>,
    /// How often each level but crash is tried
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10))]
    pub quiesce_tries: u32,
    /// How many minutes the guest may take each time
    #[arg(long, value_name = "MINUTES", default_value_t = 5, value_parser = clap::value_parser!(u32).range(5..=240))]
    pub quiesce_minutes: u32,
    /// Run the programs in the guest that this TOML file names, around the freeze
    #[arg(long, value_name = "FILE")]
    pub hooks: Option<PathBuf>,
    /// Read disks by these ways alone, nearest first whatever their order [default: by all that there are]
    #[arg(long, value_name = "WAYS", value_delimiter = ',', value_parser = ["hotadd", "file", "nfc", "nbd", "folder"])]
    pub way: Vec<String>,
    /// Show progress and wait for the end
    #[arg(long)]
    pub follow: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GuestCredential {
    /// Keep an account for the guest of a VM, or of every VM below a folder; the nearest counts
    Set(GuestSet),
    /// List the accounts, without their passwords
    List,
    /// Forget an account and its password
    Remove(GuestsOf),
}

#[derive(Debug, Args)]
pub(crate) struct GuestSet {
    #[command(flatten)]
    pub of: GuestsOf,
    /// The account in the guest
    #[arg(long)]
    pub username: String,
    /// Read the password from this file; otherwise it is taken from STILLWATER_GUEST_PASSWORD or
    /// asked for
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct GuestsOf {
    /// The VM's id, inventory path or name
    #[arg(required_unless_present = "folder", conflicts_with = "folder")]
    pub vm: Option<String>,
    /// Every VM below this folder, by its inventory path
    #[arg(long, value_name = "PATH")]
    pub folder: Option<String>,
    /// The vCenter that the folder is in, by name or id; the only one by default
    #[arg(long, requires = "folder")]
    pub vcenter: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Run {
    /// List the runs, newest first
    List {
        /// At most this many
        #[arg(long, default_value_t = 100, value_name = "COUNT")]
        limit: usize,
    },
    /// Show a run
    Show {
        /// The run's id, or the beginning of it
        run: String,
    },
    /// Show the progress of a run and wait for its end
    Watch {
        /// The run's id, or the beginning of it
        run: String,
    },
    /// Stop a run; it leaves nothing behind
    Cancel {
        /// The run's id, or the beginning of it
        run: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Point {
    /// List the restore points, newest first
    List {
        /// Only of the VM with this name, inventory path or id
        #[arg(long)]
        vm: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 100, value_name = "COUNT")]
        limit: usize,
    },
    /// Show a restore point with its disks and evidence
    Show {
        /// The point's id, or the beginning of it
        point: String,
        /// Show what it keeps of the VM besides disks instead: where the VM was, its tags, its NVRAM
        /// and, with `-o json`, its whole configuration
        #[arg(long)]
        config: bool,
    },
    /// Serve the disks of a restore point over NBD on this machine, so that other tools read them without a copy
    Serve(ServePoint),
    /// Prove with the key that every byte of restore points can be restored, and name what is damaged
    Verify(VerifyPoints),
    /// Lock a restore point for longer; a lock never becomes shorter
    Lock(LockPoint),
    /// Ask the repository to delete a restore point; while its lock lasts, it refuses
    Delete {
        /// The points' ids, or the beginnings of them
        #[arg(value_name = "POINT", required = true)]
        points: Vec<String>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Files {
    /// List a directory of a restore point, or its volumes
    Ls {
        /// POINT:/PATH, POINT:VOLUME:/PATH where several volumes have files, or POINT: for all volumes
        place: String,
    },
    /// Take a file, or a directory with everything in it, out of a restore point
    Get {
        /// POINT:/PATH, or POINT:VOLUME:/PATH where several volumes have files; a link is followed
        place: String,
        /// Where it goes, where nothing must be yet; `-` is the standard output. Its own name here when left out
        #[arg(long, value_name = "PATH")]
        to: Option<PathBuf>,
        /// As one archive, with what files of this machine could not hold
        #[arg(long, value_enum, value_name = "FORMAT")]
        archive: Option<Archive>,
    },
    /// Find files by their names, in one restore point or in all of a VM
    Find(FindFiles),
    /// The versions of one file over all restore points of a VM
    History(FileHistory),
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("where").required(true).multiple(false))]
pub(crate) struct FindFiles {
    /// The name, with `*`, `?` and `[a-z]` as shells have them
    pub name: String,
    /// POINT: for all volumes, POINT:/PATH or POINT:VOLUME:/PATH for what is below
    #[arg(group = "where")]
    pub place: Option<String>,
    /// Every point of this VM: its id, name or inventory path
    #[arg(long, group = "where")]
    pub vm: Option<String>,
    /// Take capital and small letters for one
    #[arg(long, short)]
    pub ignore_case: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FileHistory {
    /// The VM: its id, name or inventory path
    pub vm: String,
    /// The path in the guest; links are followed
    pub path: String,
    /// The volume, where several have files
    #[arg(long)]
    pub volume: Option<String>,
}

/// A format of archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Archive {
    /// POSIX tar with extended headers: owners, times, attributes, lists of access, links, devices
    Tar,
    /// Zip, for systems that know no tar: without owners, attributes, devices and hard links
    Zip,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(false))]
pub(crate) struct VerifyPoints {
    /// The points' ids, or the beginnings of them
    #[arg(value_name = "POINT", group = "which")]
    pub points: Vec<String>,
    /// Every point of this VM: its id, name or inventory path
    #[arg(long, group = "which")]
    pub vm: Option<String>,
    /// Every point
    #[arg(long, group = "which")]
    pub all: bool,
    /// Have the repository hold the stored bytes against their checksums instead, without the key: this does not prove what is in them
    #[arg(long, conflicts_with_all = ["vm", "all"])]
    pub stored: bool,
    /// Print the ids of the runs, or of the task, and do not wait for their ends
    #[arg(long)]
    pub detach: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServePoint {
    /// The point's id, or the beginning of it
    pub point: String,
    /// Only the disk with this device key or label; all when none is named
    #[arg(long = "disk", value_name = "KEY|LABEL")]
    pub disks: Vec<String>,
    /// Listen on this socket file instead of a port; it must not exist, and goes at the end
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The address and port to listen on, of loopback only; port 0 takes any
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:10809",
        conflicts_with = "socket"
    )]
    pub listen: SocketAddr,
    /// Take writes, and throw them away at the end
    #[arg(long)]
    pub overlay: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LockPoint {
    /// The point's id, or the beginning of it
    pub point: String,
    #[command(flatten)]
    pub end: LockEnd,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct LockEnd {
    /// Until when: a date, or a moment with its time zone
    #[arg(long, value_name = "2027-01-31")]
    pub until: Option<String>,
    /// For how long from now, such as 30d or 8w
    #[arg(long = "for", value_name = "SPAN")]
    pub span: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Repository {
    /// List the repositories with their room and health
    List,
    /// Show a repository: room, health, retention, and statements that wait
    Show {
        /// The repository's name, id, or the beginning of its id
        repository: String,
    },
    /// Show what a repository's room is used for
    Usage {
        /// The repository's name, id, or the beginning of its id
        repository: String,
    },
    /// Re-read what is due and set damage aside
    Scrub {
        /// The repository's name, id, or the beginning of its id
        repository: String,
        /// Re-read what is not due as well
        #[arg(long)]
        all: bool,
        /// Print the task's id and do not wait for its end
        #[arg(long)]
        detach: bool,
    },
    /// Collect garbage now: one cycle, as the repository does on its own each day
    Gc {
        /// The repository's name, id, or the beginning of its id
        repository: String,
        /// Print the task's id and do not wait for its end
        #[arg(long)]
        detach: bool,
    },
    /// Hand in a statement that administrators of the repository signed
    Submit {
        /// The repository's name, id, or the beginning of its id
        repository: String,
        /// What `stillwater-repository statement` wrote
        file: PathBuf,
    },
    /// Show the progress of a task and wait for its end
    Watch {
        /// The repository's name, id, or the beginning of its id
        repository: String,
        /// The task's id
        task: String,
    },
    /// Stop a task; what it did stays
    Cancel {
        /// The repository's name, id, or the beginning of its id
        repository: String,
        /// The task's id
        task: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Restore {
    /// Make a new VM from a restore point, or take the VM itself back to it
    Vm(RestoreVm),
    /// Write a disk of a restore point to a file on this machine
    Disk(RestoreDisk),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Apply a policy file, in place of the policy of the same name if there is one; what it changes is shown
    Apply {
        /// The policy file, in TOML
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
        /// Do not ask when something is protected less than before
        #[arg(long, short)]
        yes: bool,
    },
    /// List the policies
    List,
    /// Show a policy as a file
    Show {
        /// Its name
        name: String,
    },
    /// List the VMs that a policy is for
    Members {
        /// The policy's name
        name: String,
        /// Also those that it is not for, and why
        #[arg(long)]
        all: bool,
    },
    /// Show what a policy keeps if every run succeeds from now on, day by day, and at the end by point
    Simulate {
        /// The name of a policy that is applied
        #[arg(conflicts_with = "file")]
        name: Option<String>,
        /// A policy file, in TOML, which is not applied
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// How many days, at most 3660
        #[arg(long, value_name = "N", default_value_t = 365)]
        days: u32,
    },
    /// List the points that a policy made or has a say in: which stay, which go, when and why
    Retention {
        /// The policy's name
        name: String,
        /// Of one VM only, by id or name
        #[arg(long, value_name = "VM")]
        vm: Option<String>,
        /// Only those that are to go
        #[arg(long)]
        expired: bool,
    },
    /// Remove a policy: no run of it starts any more, and its points stay
    Remove {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    /// List every VM in the scope of a policy: its newest point, how old points became, when the next run
    /// starts and what it waits for
    List {
        /// Of one policy only
        #[arg(long, value_name = "NAME")]
        policy: Option<String>,
        /// Only those whose promise is broken
        #[arg(long)]
        broken: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Event {
    /// List the newest events, newest first
    List {
        #[command(flatten)]
        wanted: Wanted,
        /// Not older than this: a time such as 2026-11-23T08:00:00Z, or how long ago, such as 2h or 3d
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 100, value_name = "COUNT")]
        limit: usize,
    },
    /// Print events as they happen, one a line, until Ctrl-C; also across restarts of the controller
    Watch {
        #[command(flatten)]
        wanted: Wanted,
        /// Go on after the event with this number, and miss none [default: with what happens from now on]
        #[arg(long, value_name = "NUMBER")]
        after: Option<u64>,
    },
}

/// Which events are wanted; all without a word.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// Of these kinds, such as RUN_FAILED,ALARM_RAISED
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub kind: Vec<String>,
    /// As bad as this, or worse
    #[arg(long)]
    pub severity: Option<Severity>,
    /// About the VM with this name or id
    #[arg(long)]
    pub vm: Option<String>,
    /// About this run: its id, or the beginning of it
    #[arg(long)]
    pub run: Option<String>,
    /// About the policy with this name
    #[arg(long)]
    pub policy: Option<String>,
}

/// How bad an event is.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Severity {
    /// All events
    Info,
    /// What is to be looked at when there is time
    Warning,
    /// What is to be looked at
    Error,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Alarm {
    /// List the alarms that stand, oldest first
    List {
        /// Also the last ones that are over
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RestoreVm {
    /// The point's id, or the beginning of it
    pub point: String,
    /// The name of the new VM
    #[arg(long, required_unless_present = "in_place")]
    pub name: Option<String>,
    /// The datastore that gets the disks
    #[arg(long, required_unless_present = "in_place")]
    pub datastore: Option<String>,
    /// Make no new VM: write over the disks of the VM itself, which is powered off, what differs from the point
    #[arg(long, conflicts_with_all = [
        "name", "datastore", "folder", "pool", "host", "vcenter", "datacenter", "cluster", "disk_datastore", "network",
        "identity", "disk_format", "power_on", "template",
    ])]
    pub in_place: bool,
    /// With --in-place: lose what changed since the newest point; without it such a restore is refused
    #[arg(long, requires = "in_place", conflicts_with_all = ["name", "datastore"])]
    pub discard_changes: bool,
    /// The folder, by name or inventory path; otherwise the datacenter's VM folder
    #[arg(long)]
    pub folder: Option<String>,
    /// The resource pool, by name or inventory path; otherwise the host's root pool
    #[arg(long)]
    pub pool: Option<String>,
    /// The host; otherwise any that sees the datastore
    #[arg(long)]
    pub host: Option<String>,
    /// The vCenter, by name or id; otherwise the one that the VM was in
    #[arg(long)]
    pub vcenter: Option<String>,
    /// The datacenter, by name or inventory path, where the datastore's name is in several
    #[arg(long)]
    pub datacenter: Option<String>,
    /// The cluster that the host is to be in, by name or inventory path
    #[arg(long)]
    pub cluster: Option<String>,
    /// A datastore of its own for a disk, such as "Hard disk 2=fast" or 2001=fast; may be repeated
    #[arg(long, value_name = "DISK=DATASTORE", value_parser = pair)]
    pub disk_datastore: Vec<(String, String)>,
    /// Plug the cards that were on network OLD into NEW; may be repeated. A card whose network is not there
    /// is made disconnected
    #[arg(long, value_name = "OLD=NEW", value_parser = pair)]
    pub network: Vec<(String, String)>,
    /// Whether it is another VM, or the one that was protected with its UUIDs and MAC addresses
    #[arg(long, value_enum, default_value_t = RestoreIdentity::New)]
    pub identity: RestoreIdentity,
    /// How the space of disks is taken
    #[arg(long, value_enum, default_value_t = RestoreFormat::AsSource)]
    pub disk_format: RestoreFormat,
    /// Power the VM on once it is whole
    #[arg(long)]
    pub power_on: bool,
    /// Make it a template once it is whole
    #[arg(long, conflicts_with = "power_on")]
    pub template: bool,
    /// Only tell what would be done, how long that would take, and what would be lost; exit with 3 when it
    /// would be refused
    #[arg(long, conflicts_with = "follow")]
    pub plan: bool,
    /// Show progress and wait for the end
    #[arg(long)]
    pub follow: bool,
}

/// Who a restored VM is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RestoreIdentity {
    /// New UUIDs and MAC addresses
    New,
    /// Those of the VM that was protected, unless a VM has them
    Original,
}

/// How the space of a restored VM's disks is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RestoreFormat {
    /// When it is written
    Thin,
    /// At once
    Thick,
    /// At once, and written with zeros
    Eager,
    /// As at the VM that was protected
    AsSource,
}

/// Two names with `=` between them.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.rsplit_once('=') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() => {
            Ok((left.to_owned(), right.to_owned()))
        }
        _ => Err("write two names with = between them".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct RestoreDisk {
    /// The point's id, or the beginning of it
    pub point: String,
    /// The disk's device key or label, as `stillwater point show` tells them
    #[arg(long, value_name = "KEY|LABEL")]
    pub disk: String,
    /// The file to write; `-` writes to standard output, raw or as vmdk-stream
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value_t = DiskFormat::Raw)]
    pub format: DiskFormat,
    /// Replace the file if it exists
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiskFormat {
    /// The disk's bytes, zeros as holes
    Raw,
    /// A sparse VMDK in one file, as VMware's desktop products use it
    Vmdk,
    /// A compressed VMDK for transport, as in an OVA; it can go through a pipe
    VmdkStream,
    /// QEMU's own format
    Qcow2,
}
