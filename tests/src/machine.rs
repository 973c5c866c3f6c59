//! Network namespaces: machines of their own on one machine, each with a cable to the one that tests run on.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cluster::wait;

/// Where the machine that tests run on is reached by all others.
pub const HUB: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));
/// The lab's hosts have the addresses that follow this one.
pub const HOSTS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);

/// Gives the hub its addresses. The calling process must be in a namespace that was made for it, so that nothing
/// of the real machine's network is touched.
pub fn become_hub() -> Result<()> {
    let routes = std::fs::read_to_string("/proc/net/route").context("read the routes")?;
    ensure!(
        routes.lines().count() <= 1,
        "this is not a network namespace of its own: start it by `unshare --net`"
    );
    ip(&["link", "set", "lo", "up"])?;
    let hosts = [1, 2].map(|n| IpAddr::V4(Ipv4Addr::from_bits(HOSTS.to_bits() + n)));
    for address in [HUB].into_iter().chain(hosts) {
        ip(&["addr", "add", &format!("{address}/32"), "dev", "lo"])?;
    }
    Ok(())
}

/// A network namespace with a cable to the hub. It goes when this is dropped.
#[derive(Debug)]
pub struct Machine {
    number: u8,
    /// Keeps the namespace as long as it lives; it ends with its standard input.
    holder: Child,
}

impl Machine {
    /// Makes the machine with this number, from 1 on, and plugs it in.
    pub fn new(number: u8) -> Result<Self> {
        let holder = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("make a network namespace")?;
        let machine = Self { number, holder };
        machine.wait_apart()?;
        let (outer, inner) = (machine.cable(), machine.holder.id().to_string());
        ip(&[
            "link", "add", "name", &outer, "type", "veth", "peer", "name", "eth0", "netns", &inner,
        ])?;
        let near = format!("10.77.{number}.1");
        ip(&["addr", "add", &format!("{near}/30"), "dev", &outer])?;
        ip(&["link", "set", &outer, "up"])?;
        let far = format!("{}/30", machine.address());
        machine.ip(&["link", "set", "lo", "up"])?;
        machine.ip(&["addr", "add", &far, "dev", "eth0"])?;
        machine.ip(&["link", "set", "eth0", "up"])?;
        machine.ip(&["route", "add", "default", "via", &near])?;
        Ok(machine)
    }

    /// Where it is reached.
    pub fn address(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 77, self.number, 2))
    }

    /// A command that runs a program there, as the same process.
    pub fn command(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id()));
        command.arg(program);
        command
    }

    /// Pulls the cable.
    pub fn unplug(&self) -> Result<()> {
        ip(&["link", "set", &self.cable(), "down"])
    }

    /// Plugs it in again.
    pub fn plug_in(&self) -> Result<()> {
        ip(&["link", "set", &self.cable(), "up"])
    }

    fn cable(&self) -> String {
        format!("cable{}", self.number)
    }

    fn ip(&self, args: &[&str]) -> Result<()> {
        let mut command = self.command("ip".as_ref());
        succeed(command.args(args))
    }

    /// Waits until the holder has left the namespace that it was started in.
    fn wait_apart(&self) -> Result<()> {
        let own = std::fs::read_link("/proc/self/ns/net")?;
        let theirs = format!("/proc/{}/ns/net", self.holder.id());
        wait("the namespace is there", Duration::from_secs(30), || {
            Ok((std::fs::read_link(&theirs)? != own).then_some(()))
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // An error means that the process has ended already, which is what is wanted.
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}

fn ip(args: &[&str]) -> Result<()> {
    succeed(Command::new("ip").args(args))
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} ended with {}: {said}", output.status);
    }
    Ok(())
}
