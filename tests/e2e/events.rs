//! What happened is told, with who did it, and nothing is missed across a restart.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stillwater_tests::Site;
use stillwater_tests::cluster::{Role, rows, text};

const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody who watches events, and the lines that come.
struct Watcher {
    child: Child,
    lines: Receiver<String>,
}

impl Watcher {
    fn start(site: &Site, arguments: &[&str]) -> Result<Self> {
        let all = [&["event", "watch", "-o", "json"], arguments].concat();
        let mut command = site.cluster.command(&all)?;
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let out = BufReader::new(child.stdout.take().context("stdout")?);
        let (send, lines) = channel();
        std::thread::spawn(move || {
            let lines = out.lines().map_while(Result::ok);
            lines.for_each(|line| drop(send.send(line)));
        });
        Ok(Self { child, lines })
    }

    /// Events until one of this kind.
    fn until(&self, kind: &str) -> Result<Vec<Value>> {
        let mut seen = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.with_context(|| format!("no {kind} after {seen:#?}"))?;
            seen.push(serde_json::from_str::<Value>(&line).context(line)?);
            if seen.last().is_some_and(|event| event["kind"] == kind) {
                return Ok(seen);
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // An error means that it has ended already, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| event["kind"].as_str())
        .collect()
}

fn list(site: &Site, arguments: &[&str]) -> Result<Vec<Value>> {
    Ok(rows(
        &site
            .cluster
            .json(&[&["event", "list"], arguments].concat())?,
    ))
}

#[test]
fn what_happens_is_told_as_it_happens_and_nothing_is_missed_across_a_restart() -> Result<()> {
    let mut site = Site::small()?;
    let joined = list(&site, &["--kind", "NODE_JOINED"])?;
    let names: Vec<String> = joined
        .iter()
        .map(|event| text(event, "message"))
        .collect::<Result<_>>()?;
    ensure!(
        names.len() == 3,
        "an administrator, a repository and a proxy: {names:#?}"
    );
    ensure!(
        names
            .iter()
            .any(|name| name.starts_with("proxy proxy joined at ")),
        "{names:?}"
    );
    let added = list(&site, &["--kind", "VCENTER_ADDED"])?.remove(0);
    ensure!(text(&added, "by")?.starts_with("admin/"), "{added:#}");

    let watcher = Watcher::start(&site, &["--after", &added["number"].to_string()])?;
    let point = site.back_up()?;
    let seen = watcher.until("RUN_SUCCEEDED")?;
    ensure!(
        kinds(&seen) == ["RUN_STARTED", "POINT_COMMITTED", "RUN_SUCCEEDED"],
        "{seen:#?}"
    );
    ensure!(
        seen.iter().all(|event| event["vm_name"] == "web"),
        "{seen:#?}"
    );
    ensure!(seen[1]["point_id"] == point.as_str(), "{seen:#?}");
    ensure!(
        text(&seen[0], "by")?.starts_with("admin/"),
        "a person asked: {seen:#?}"
    );

    // What happens while the controller is away from the watcher comes when it is there again.
    site.cluster.kill_role(Role::Controller)?;
    site.cluster.start_role(Role::Controller)?;
    site.cluster.wait_online(2)?;
    site.cluster.ok(&["proxy", "drain", "proxy"])?;
    let seen = watcher.until("PROXY_DRAINED")?;
    ensure!(seen.len() == 1, "nothing twice: {seen:#?}");
    site.cluster.ok(&["proxy", "undrain", "proxy"])?;
    watcher.until("PROXY_UNDRAINED")?;

    // Rows that are lost are worked out again, with the same numbers.
    let before = list(&site, &["--limit", "1000"])?;
    site.cluster.stop_role(Role::Controller)?;
    std::fs::remove_dir_all(
        site.cluster
            .state(Role::Controller)
            .join("cluster/memory/projection"),
    )?;
    site.cluster.start_role(Role::Controller)?;
    let mut after = list(&site, &["--limit", "1000"])?;
    after.retain(|event| event["number"].as_u64() <= before[0]["number"].as_u64());
    ensure!(after == before, "{after:#?}");

    // Pages and filters.
    ensure!(list(&site, &["--limit", "2"])?[..] == before[..2]);
    let of_web = list(&site, &["--vm", "WEB", "--severity", "info"])?;
    ensure!(of_web.len() == 3, "{of_web:#?}");
    ensure!(list(&site, &["--vm", "web", "--severity", "error"])?.is_empty());
    ensure!(list(&site, &["--since", "1d"])?.len() == before.len());
    site.cluster
        .fails(&["event", "list", "--kind", "NONSENSE"], 2, "BAD_FIELD")?;
    Ok(())
}
