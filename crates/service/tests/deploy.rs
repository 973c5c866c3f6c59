//! What `deploy/` promises, held against the files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use stillwater_testkit::example;
use stillwater_types::Role;

const ROLES: [Role; 3] = [Role::Controller, Role::Proxy, Role::Repository];

/// What every unit holds its role to; each line is the whole value.
const HARDENING: &[(&str, &str)] = &[
    ("Type", "notify"),
    ("Restart", "always"),
    ("RestartPreventExitStatus", "2"),
    ("StateDirectoryMode", "0700"),
    ("UMask", "0077"),
    ("ProtectSystem", "strict"),
    ("ProtectHome", "yes"),
    ("PrivateTmp", "yes"),
    ("PrivateDevices", "yes"),
    ("ProtectProc", "invisible"),
    ("ProtectClock", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectHostname", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("NoNewPrivileges", "yes"),
    ("CapabilityBoundingSet", ""),
    ("AmbientCapabilities", ""),
    ("RestrictSUIDSGID", "yes"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("LockPersonality", "yes"),
    ("MemoryDenyWriteExecute", "yes"),
    ("SystemCallArchitectures", "native"),
    (
        "SystemCallFilter",
        "@system-service ~@privileged @resources",
    ),
    ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
    ("LimitCORE", "0"),
];

fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy")
        .join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// A unit's settings; one that is given twice has both values.
fn unit(role: Role) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::<String, String>::new();
    for line in read(&format!("systemd/stillwater-{role}.service")).lines() {
        let known = line.is_empty() || line.starts_with(['#', '[']);
        match line.split_once('=') {
            Some((key, value)) if !known => {
                let all = settings.entry(key.to_owned()).or_default();
                *all = format!("{all} {value}").trim().to_owned();
            }
            _ => assert!(known, "{role}: {line}"),
        }
    }
    settings
}

#[test]
fn every_unit_is_hardened() {
    for role in ROLES {
        let unit = unit(role);
        for (key, value) in HARDENING {
            assert_eq!(
                unit.get(*key).map(String::as_str),
                Some(*value),
                "{role}: {key}"
            );
        }
    }
}

#[test]
fn every_unit_has_a_user_and_a_state_directory_of_its_own() {
    let users = read("systemd/stillwater.sysusers.conf");
    for role in ROLES {
        let unit = unit(role);
        let name = format!("stillwater-{role}");
        assert_eq!(unit.get("User"), Some(&name));
        assert_eq!(unit.get("Group"), Some(&name));
        assert_eq!(
            unit.get("StateDirectory"),
            Some(&format!("stillwater/{role}"))
        );
        assert_eq!(
            unit.get("ExecStart"),
            Some(&format!("/usr/local/bin/{name} run"))
        );
        let lines = users.lines().filter(|line| line.starts_with("u "));
        let listed = lines.filter(|line| line.split_whitespace().nth(1) == Some(&name));
        assert_eq!(listed.count(), 1, "{name}");
    }
}

#[test]
fn every_example_is_toml_and_names_its_roles_own_places() {
    for role in ROLES {
        let [shown, uncommented] = example::forms(role);
        shown
            .parse::<toml::Table>()
            .unwrap_or_else(|err| panic!("{role}: {err}"));
        let all: toml::Table = uncommented
            .parse()
            .unwrap_or_else(|err| panic!("{role}, uncommented: {err}"));
        let state = all.get("state-dir").and_then(toml::Value::as_str);
        assert_eq!(state, Some(format!("/var/lib/stillwater/{role}").as_str()));
        for section in ["metrics", "log"] {
            assert!(
                all.get(section).is_some_and(toml::Value::is_table),
                "{role}: {section}"
            );
        }
    }
}
