use std::net::SocketAddr;

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Example {
    #[serde(default)]
    name: Option<String>,
    server: Server,
    #[serde(default)]
    store: Store,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Server {
    listen: SocketAddr,
    drain_timeout: Period,
    #[serde(default)]
    workers: Option<u16>,
    #[serde(default)]
    names: Vec<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Store {
    cache: Bytes,
    sync: bool,
    mode: Mode,
    key: Option<SecretRef>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            cache: Bytes(1 << 20),
            sync: true,
            mode: Mode::Plain,
            key: None,
        }
    }
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    Plain,
    VeryFast,
}

impl Settings for Example {
    fn check(&self, faults: &mut Faults) {
        if self.store.cache.0 == 0 {
            faults.add("store.cache", "must not be empty");
        }
        if self.server.workers == Some(0) {
            faults.add("server.workers", "at least one is needed");
        }
    }
}

const GOOD: &str = "[server]\nlisten = \"127.0.0.1:1\"\ndrain-timeout = \"30s\"\n";

fn load(text: &str, environment: &[(&str, &str)], flags: &[&str]) -> Result<Example, String> {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("example.toml");
    std::fs::write(&file, text).expect("write");
    let sources = Sources {
        file: Some(file),
        file_required: true,
        environment: environment
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect(),
        flags: flags.iter().map(|flag| (*flag).into()).collect(),
    };
    let name = |text: String| text.replace(&format!("{}/", dir.path().display()), "");
    sources.load().map_err(|faults| name(faults.to_string()))
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let faults = load(text, &[], &[]).expect_err("a configuration with faults");
    assert_eq!(faults.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_file_fills_in_defaults() {
    let example = load(GOOD, &[], &[]).expect("a good file");
    assert_eq!(
        example.server.drain_timeout,
        Period(std::time::Duration::from_secs(30))
    );
    assert_eq!(example.store, Store::default());
}

#[test]
fn every_fault_is_told_at_once_with_its_line() {
    check(
        "[server]\n\
         listen = \"nowhere\"\n\
         drain-timeout = \"30\"\n\
         wrokers = 4\n\
         names = [\"a\", 5]\n\
         [store]\n\
         cache = 12\n\
         sync = \"yes\"\n\
         mode = \"slow\"\n\
         key = \"hunter2\"\n\
         [extra]\n",
        &[
            "example.toml:2: server.listen: invalid socket address syntax",
            "example.toml:3: server.drain-timeout: \"30\" is not a length of time: write \
             \"500ms\", \"30s\", \"15m\" or \"12h\"",
            "example.toml:4: server.wrokers: there is no such key; known here: listen, \
             drain-timeout, workers, names",
            "example.toml:5: server.names.1: expected a string, found a number",
            "example.toml:7: store.cache: expected a size with its unit, such as \"8MiB\", found \
             a number",
            "example.toml:8: store.sync: expected a boolean, found a text",
            "example.toml:9: store.mode: unknown variant `slow`, expected `plain` or `very-fast`",
            "example.toml:10: store.key: a secret is named, not written here: use \"file:/path\", \
             \"env:NAME\" or \"credential:name\"",
            "example.toml:11: extra: there is no such key; known here: name, server, store",
        ],
    );
}

#[test]
fn every_missing_key_is_told() {
    check(
        "[server]\n",
        &[
            "example.toml:1: server.listen: this key is required",
            "example.toml:1: server.drain-timeout: this key is required",
        ],
    );
    check(
        "",
        &[
            "example.toml: server: this key is required",
            "example.toml: server.listen: this key is required",
            "example.toml: server.drain-timeout: this key is required",
        ],
    );
}

#[test]
fn what_types_cannot_say_is_told_with_its_line_too() {
    let text = format!("{GOOD}workers = 0\n[store]\ncache = \"0B\"\n");
    check(
        &text,
        &[
            "example.toml:4: server.workers: at least one is needed",
            "example.toml:6: store.cache: must not be empty",
        ],
    );
}

#[test]
fn a_syntax_fault_names_its_line() {
    let faults = load("[server]\nlisten = \n\nx = [1, 2\n", &[], &[]).expect_err("no toml");
    assert!(faults.starts_with("example.toml:2: "), "{faults}");
    assert!(faults.lines().count() > 1, "{faults}");
}

#[test]
fn a_flag_is_stronger_than_the_environment_and_both_than_the_file() {
    let environment = [
        ("STILLWATER_SERVER__LISTEN", "127.0.0.1:2"),
        ("STILLWATER_SERVER__DRAIN_TIMEOUT", "2m"),
        ("STILLWATER_SERVER__NAMES", "a, b"),
        ("STILLWATER_STORE__SYNC", "false"),
        ("STILLWATER_STORE__MODE", "very-fast"),
        ("STILLWATER__NAME", "one"),
        ("STILLWATER_CONTEXT", "home"),
        ("PATH", "/bin"),
    ];
    let example = load(
        GOOD,
        &environment,
        &["server.listen=127.0.0.1:3", "server.workers=7"],
    )
    .expect("good sources");
    assert_eq!(example.server.listen, SocketAddr::from(([127, 0, 0, 1], 3)));
    assert_eq!(example.server.drain_timeout.to_string(), "2m");
    assert_eq!(example.server.names, ["a", "b"]);
    assert_eq!(example.name.as_deref(), Some("one"));
    assert_eq!(example.server.workers, Some(7));
    assert_eq!(
        (example.store.sync, example.store.mode),
        (false, Mode::VeryFast)
    );
}

#[test]
fn a_fault_of_a_variable_or_a_flag_names_it() {
    let environment = [
        ("STILLWATER_STORE__CACHE", "many"),
        ("STILLWATER_SERVER__LISTEN__PORT", "1"),
    ];
    let faults = load(
        GOOD,
        &environment,
        &["server.listne=1", "nonsense", "store.sync=maybe"],
    )
    .expect_err("faults");
    let mut lines: Vec<&str> = faults.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "--set nonsense: write --set key=value",
            "--set server.listne: server.listne: there is no such key; known here: listen, \
             drain-timeout, workers, names",
            "--set store.sync: store.sync: expected a boolean, found a text",
            "STILLWATER_SERVER__LISTEN__PORT: server.listen.port: part of this key is a value \
             elsewhere, not a section",
            "STILLWATER_STORE__CACHE: store.cache: \"many\" is not a size: write \"512KiB\", \
             \"8MiB\" or \"2GiB\"",
        ]
    );
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let sources = Sources {
        file: Some("/nonexistent/example.toml".into()),
        file_required: true,
        ..Sources::default()
    };
    let faults = sources.load::<Example>().expect_err("no file").to_string();
    assert!(
        faults.starts_with("/nonexistent/example.toml: cannot be read"),
        "{faults}"
    );
    let optional = Sources {
        file_required: false,
        flags: vec![
            "server.listen=127.0.0.1:1".into(),
            "server.drain-timeout=1s".into(),
        ],
        ..sources
    };
    assert!(optional.load::<Example>().is_ok());
}
