//! The call graph of the architecture, held against what `Cargo.toml` files say.
//!
//! Arrows point down only. A crate that needs an edge that is not here needs an ADR first.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// Which of our crates a crate may name.
const EDGES: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("format", &["types"]),
    ("seal", &["types"]),
    ("policy", &["types"]),
    ("scheduler", &["types", "policy"]),
    ("chunking", &["types", "format"]),
    ("store", &["types", "format"]),
    // Reads a repository's directory by itself; the one place where the repository's program meets a key.
    ("recovery", &["types", "format", "seal", "chunking"]),
    ("catalog", &["types", "format"]),
    ("vsphere", &["types"]),
    ("disk", &["types", "vsphere"]),
    ("rpc", &["types"]),
    ("service", &["types", "rpc"]),
    ("nbd", &["types"]),
    // Parses what hostile guests wrote, in a process of its own: it knows nothing of ours.
    ("guestfs", &[]),
    ("files", &["guestfs"]),
    ("wire", &["types", "rpc"]),
    ("controller-api", &["types", "rpc", "wire"]),
    ("proxy-api", &["types", "rpc", "wire"]),
    ("repository-api", &["types", "rpc", "wire"]),
    (
        "controller",
        &[
            "types",
            "rpc",
            "service",
            "controller-api",
            "proxy-api",
            "repository-api",
            "catalog",
            "vsphere",
            "seal",
            "format",
            "policy",
            "scheduler",
        ],
    ),
    (
        "proxy",
        &[
            "types",
            "rpc",
            "service",
            "controller-api",
            "proxy-api",
            "repository-api",
            "disk",
            "vsphere",
            "chunking",
            "seal",
            "format",
        ],
    ),
    (
        "repository",
        &[
            "types",
            "rpc",
            "service",
            "controller-api",
            "repository-api",
            "store",
            "recovery",
            "format",
        ],
    ),
    (
        "cli",
        &[
            "types",
            "rpc",
            "controller-api",
            "proxy-api",
            "nbd",
            "files",
        ],
    ),
    ("xtask", &["types"]),
    ("testkit", &["types", "format", "store", "rpc"]),
    // The workspace's own tests drive real processes and read what they leave behind.
    ("tests", &["types", "format"]),
    // The golden repository is made as a proxy and a store make theirs.
    (
        "compat",
        &[
            "types", "format", "seal", "chunking", "store", "recovery", "rpc",
        ],
    ),
    // A model of the rules, which shares no code with what follows them.
    ("model", &[]),
    // Fuzzing names whatever decodes.
    (
        "fuzz",
        &[
            "types",
            "format",
            "seal",
            "chunking",
            "recovery",
            "rpc",
            "vsphere",
            "disk",
            "wire",
            "controller-api",
            "proxy-api",
            "repository-api",
        ],
    ),
    // The benchmark drives real processes as the tests do.
    ("bench", &["tests"]),
    // Measures stages of the data path, each by the crate that does it.
    (
        "micro",
        &[
            "types",
            "format",
            "seal",
            "chunking",
            "store",
            "rpc",
            "repository-api",
            "testkit",
            "tests",
        ],
    ),
    // The crash lane runs the repository's library on storage that it makes worse.
    (
        "crash",
        &[
            "types",
            "format",
            "store",
            "rpc",
            "service",
            "repository-api",
            "repository",
            "testkit",
        ],
    ),
];

/// Crates that tests lean on and nothing that ships: no table entry can allow them.
const DEV_ONLY: &[&str] = &["testkit"];

/// Programs that are tests from end to end, and never ship.
const LANES: &[&str] = &["crash"];

/// Which crates may name a foreign crate that must stay in one place.
const VENDORS: &[(&str, &[&str])] = &[
    ("sled", &["catalog", "store"]),
    ("redb", &["store"]),
    // The disk crate's tests make thumbprints.
    ("aws-lc-rs", &["seal", "rpc", "vsphere", "disk"]),
    ("rcgen", &["rpc"]),
    // The testkit speaks TLS that rpc rightly cannot: without a certificate, to anybody.
    // Disks come from hosts and servers inside TLS of their own.
    ("tokio-rustls", &["rpc", "vsphere", "disk", "testkit"]),
    ("rustls", &["rpc", "vsphere", "disk", "testkit"]),
    ("reqwest", &["vsphere", "disk"]),
    ("quick-xml", &["vsphere"]),
    // The manifests of a guest's writers come in one, files of a guest can leave in one.
    ("zip", &["vsphere", "cli"]),
    ("protox", &["controller-api", "proxy-api", "repository-api"]),
    ("fastcdc", &["chunking"]),
    // Chunks are chunking's; the NVRAM in a point is written by the controller and read by recovery.
    // Guests' file systems compress with it too.
    ("zstd", &["chunking", "controller", "recovery", "guestfs"]),
    ("croner", &["policy"]),
];

/// Foreign crates that a pure crate must not name: they would bring I/O or a clock.
const IMPURE: &[&str] = &[
    "tokio", "tonic", "reqwest", "rustix", "sled", "redb", "jiff",
];
const PURE: &[&str] = &["types", "format", "chunking", "seal"];
/// Pure too, but they reckon with calendars: they may name `jiff`, and lint away its clock.
const RECKONING: &[&str] = &["policy", "scheduler"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

/// Every edge of the workspace that the tables do not allow, one sentence each.
pub fn check() -> Result<Vec<String>> {
    let metadata = metadata()?;
    Ok(faults(&metadata))
}

fn metadata() -> Result<Metadata> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .output()
        .context("run cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("read cargo metadata")
}

fn faults(metadata: &Metadata) -> Vec<String> {
    let edges: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let name = short(&package.name);
        let Some(allowed) = edges.get(name) else {
            faults.push(format!("{name} is not in the table of layers"));
            continue;
        };
        // A test may lean on more than the code it tests: only what ships is layered.
        for dependency in package
            .dependencies
            .iter()
            .filter(|d| d.kind.as_deref() != Some("dev"))
        {
            faults.extend(fault(name, allowed, &dependency.name));
        }
    }
    faults
}

fn fault(name: &str, allowed: &[&str], dependency: &str) -> Option<String> {
    let target = short(dependency);
    if DEV_ONLY.contains(&target) && !LANES.contains(&name) {
        return Some(format!(
            "{name} may name {target} only for its tests, among its dev-dependencies"
        ));
    }
    if target != dependency && !allowed.contains(&target) {
        return Some(format!("{name} may not depend on {target}"));
    }
    let vendor = VENDORS.iter().find(|(vendor, _)| *vendor == dependency);
    if let Some((vendor, owners)) = vendor
        && !owners.contains(&name)
    {
        return Some(format!(
            "{name} may not name {vendor}: that is for {}",
            owners.join(", ")
        ));
    }
    let reckons = RECKONING.contains(&name);
    let pure = PURE.contains(&name) || (reckons && dependency != "jiff");
    if pure && IMPURE.contains(&dependency) {
        return Some(format!("{name} is pure and may not name {dependency}"));
    }
    None
}

fn short(package: &str) -> &str {
    package.strip_prefix("stillwater-").unwrap_or(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(package: &str, dependency: &str, kind: Option<&str>, expected: &[&str]) {
        let metadata = Metadata {
            packages: vec![Package {
                name: package.into(),
                dependencies: vec![Dependency {
                    name: dependency.into(),
                    kind: kind.map(str::to_owned),
                }],
            }],
        };
        assert_eq!(faults(&metadata), expected);
    }

    #[test]
    fn an_edge_of_the_table_passes() {
        check("stillwater-proxy", "stillwater-disk", None, &[]);
    }

    #[test]
    fn a_role_may_not_depend_on_a_role() {
        check(
            "stillwater-proxy",
            "stillwater-repository",
            None,
            &["proxy may not depend on repository"],
        );
    }

    #[test]
    fn a_test_may_lean_on_more() {
        check(
            "stillwater-proxy",
            "stillwater-repository",
            Some("dev"),
            &[],
        );
    }

    #[test]
    fn only_tests_lean_on_the_testkit() {
        let told = "proxy may name testkit only for its tests, among its dev-dependencies";
        for kind in [None, Some("build")] {
            check("stillwater-proxy", "stillwater-testkit", kind, &[told]);
        }
        check("stillwater-proxy", "stillwater-testkit", Some("dev"), &[]);
    }

    #[test]
    fn what_reckons_with_calendars_is_pure_in_all_else() {
        check("stillwater-policy", "jiff", None, &[]);
        let told = "policy is pure and may not name tokio";
        check("stillwater-policy", "tokio", None, &[told]);
        let told = "format is pure and may not name jiff";
        check("stillwater-format", "jiff", None, &[told]);
    }

    #[test]
    fn a_vendor_stays_where_it_is_wrapped() {
        check(
            "stillwater-controller",
            "sled",
            None,
            &["controller may not name sled: that is for catalog, store"],
        );
    }

    #[test]
    fn a_pure_crate_brings_no_runtime() {
        check(
            "stillwater-format",
            "tokio",
            None,
            &["format is pure and may not name tokio"],
        );
    }

    #[test]
    fn a_crate_outside_the_table_is_named() {
        check(
            "stillwater-utils",
            "serde",
            None,
            &["utils is not in the table of layers"],
        );
    }
}
