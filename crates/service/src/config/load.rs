//! From files, environment and flags to settings.

use std::io::Read;
use std::path::PathBuf;

use stillwater_types::Role;

use super::fault::{ConfigFault, Faults};
use super::tree::{At, Node, Value};
use super::{Arguments, Settings, walk};

/// What variables that set a key start with: `STILLWATER_SERVER__LISTEN` is `server.listen`, and
/// `STILLWATER__LISTEN` is `listen`.
const PREFIX: &str = "STILLWATER_";
/// Our files have a few KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Everything a configuration comes from, weakest first.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file.
    pub file: Option<PathBuf>,
    /// Whether it is a fault when the file is not there.
    pub file_required: bool,
    /// Environment variables; those that set no key are passed over.
    pub environment: Vec<(String, String)>,
    /// Flags, `key=value` each.
    pub flags: Vec<String>,
}

impl Sources {
    /// What this process was started with.
    pub fn of_process(arguments: &Arguments, role: Role) -> Self {
        let standard = || PathBuf::from(format!("/etc/stillwater/{role}.toml"));
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self {
            file: Some(arguments.config.clone().unwrap_or_else(standard)),
            file_required: arguments.config.is_some(),
            environment: environment.collect(),
            flags: arguments.set.clone(),
        }
    }

    /// Reads and checks. Blocks on the disk.
    ///
    /// # Errors
    /// Every fault there is, in the order of the file's lines.
    pub fn load<S: Settings>(&self) -> Result<S, Faults> {
        let mut faults = Faults::default();
        let mut root = self.read_file(&mut faults);
        // After a syntax fault every other fault would be a guess.
        if !faults.is_empty() {
            faults.sort();
            return Err(faults);
        }
        let mut variables = self.environment.clone();
        variables.sort();
        for (name, value) in &variables {
            if let Some(path) = variable_path(name) {
                apply(&mut root, &path, value, name, &mut faults);
            }
        }
        for flag in &self.flags {
            match flag.split_once('=') {
                Some((key, value)) => {
                    let path: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
                    apply(
                        &mut root,
                        &path,
                        value,
                        &format!("--set {key}"),
                        &mut faults,
                    );
                }
                None => {
                    let at = At {
                        source: format!("--set {flag}"),
                        line: 0,
                    };
                    faults.push(ConfigFault::new(&at, "", "write --set key=value"));
                }
            }
        }
        let settings = walk::read::<S>(root.clone(), &mut faults);
        if let Some(settings) = &settings {
            settings.check(&mut faults);
            faults.locate(|key| {
                let path: Vec<String> = key.split('.').map(str::to_owned).collect();
                root.nearest(&path).at.clone()
            });
        }
        faults.sort();
        match settings {
            Some(settings) if faults.is_empty() => Ok(settings),
            _ => Err(faults),
        }
    }

    fn read_file(&self, faults: &mut Faults) -> Node {
        let Some(path) = &self.file else {
            return Node::default();
        };
        let mut fault = |why: &str| {
            let at = At {
                source: path.display().to_string(),
                line: 0,
            };
            faults.push(ConfigFault::new(&at, "", why));
            Node::default()
        };
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound && !self.file_required => {
                return Node::default();
            }
            Err(err) => return fault(&format!("cannot be read: {err}")),
        };
        let mut text = String::new();
        match file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text) {
            Err(err) => fault(&format!("cannot be read: {err}")),
            Ok(read) if read as u64 > FILE_BYTES_MAX => fault("has more than 1 MiB"),
            Ok(_) => Node::parse(path, &text, faults),
        }
    }
}

/// The key that a variable sets; without a double underscore it sets none, so that other variables
/// of ours, such as one with a secret, are left alone.
fn variable_path(name: &str) -> Option<Vec<String>> {
    let rest = name.strip_prefix(PREFIX)?;
    let part = |part: &str| part.to_ascii_lowercase().replace('_', "-");
    match rest.strip_prefix('_') {
        Some(top) => Some(top.split("__").map(part).collect()),
        None if rest.contains("__") => Some(rest.split("__").map(part).collect()),
        None => None,
    }
}

fn apply(root: &mut Node, path: &[String], value: &str, source: &str, faults: &mut Faults) {
    let at = At {
        source: source.to_owned(),
        line: 0,
    };
    let node = Node {
        value: Value::Loose(value.to_owned()),
        at: at.clone(),
    };
    if !root.set(path, node) {
        let message = "part of this key is a value elsewhere, not a section";
        faults.push(ConfigFault::new(&at, &path.join("."), message));
    }
}
