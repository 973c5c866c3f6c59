//! Clusters that the user is logged in to, kept below the XDG configuration directory.
//!
//! ```text
//! stillwater/current            the name of the current context
//! stillwater/contexts/<name>/   identity.pem (key and certificates), controller (host:port)
//! ```
//! Directories are 0700 and files 0600.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use stillwater_rpc::{Identity, Pin};
use stillwater_types::{Fault, Reason};

/// Where contexts are kept.
#[derive(Debug, Clone)]
pub(crate) struct Contexts {
    dir: PathBuf,
}

/// One cluster that the user is logged in to.
#[derive(Debug)]
pub(crate) struct Context {
    /// The directory of its identity.
    pub dir: PathBuf,
    /// The controller's `host:port`.
    pub controller: String,
    /// Who the user is there.
    pub identity: Identity,
}

impl Contexts {
    /// The contexts of the user who runs the tool.
    pub fn of_user() -> Result<Self, Fault> {
        let absolute = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let config = absolute("XDG_CONFIG_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".config")))
            .ok_or_else(|| Fault::new(Reason::BadField, "set HOME or XDG_CONFIG_HOME"))?;
        Ok(Self::at(config.join("stillwater")))
    }

    /// The contexts in a directory.
    pub fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The context with this name, or the current one.
    pub fn open(&self, name: Option<&str>) -> Result<Context, Fault> {
        let name = match name {
            Some(name) => name.to_owned(),
            None => self.current()?.ok_or_else(|| {
                Fault::new(
                    Reason::NoCertificate,
                    "not logged in: run `stillwater login TOKEN`",
                )
            })?,
        };
        let dir = self.path(&name)?;
        if !Identity::exists(&dir) {
            let message = format!("there is no context {name:?}: run `stillwater login TOKEN`");
            return Err(Fault::new(Reason::NoCertificate, message));
        }
        let controller = read(&dir.join("controller"))?.unwrap_or_default();
        Ok(Context {
            controller,
            identity: Identity::load(&dir)?,
            dir,
        })
    }

    /// Keeps a context and makes it the current one.
    pub fn keep(&self, name: &str, controller: &str, identity: &Identity) -> Result<(), Fault> {
        let dir = self.path(name)?;
        // The identity comes last: a context with one is whole.
        publish(&dir, "controller", controller)?;
        identity.save(&dir)?;
        publish(&self.dir, "current", name)
    }

    /// Whether a context of the cluster with this authority can be kept under this name: another
    /// cluster's certificate is not thrown away unasked.
    pub fn check(&self, name: &str, authority: Pin) -> Result<(), Fault> {
        let dir = self.path(name)?;
        match Identity::load(&dir) {
            Ok(identity) if identity.ca_pin() != authority => Err(Fault::new(
                Reason::BadField,
                format!("context {name} is of another cluster: choose another name with --name"),
            )),
            // One that is absent or damaged can only win.
            _ => Ok(()),
        }
    }

    /// Makes a context the current one.
    pub fn choose(&self, name: &str) -> Result<(), Fault> {
        self.open(Some(name))?;
        publish(&self.dir, "current", name)
    }

    /// The name of the current context.
    pub fn current(&self) -> Result<Option<String>, Fault> {
        read(&self.dir.join("current"))
    }

    /// The names of all contexts, in order.
    pub fn names(&self) -> Result<Vec<String>, Fault> {
        let dir = self.dir.join("contexts");
        let entries = match fs::read_dir(&dir) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|err| failed("list", &dir, &err))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|err| failed("list", &dir, &err))?;
            if Identity::exists(&entry.path()) {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn path(&self, name: &str) -> Result<PathBuf, Fault> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(good) {
            return Err(Fault::new(
                Reason::BadField,
                format!("{name:?} is no name of a context: use letters, digits, '-', '_' and '.'"),
            ));
        }
        Ok(self.dir.join("contexts").join(name))
    }
}

fn read(path: &Path) -> Result<Option<String>, Fault> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(failed("read", path, &err)),
    }
}

/// Writes a file whole or not at all; temporary files are made 0600.
fn publish(dir: &Path, name: &str, text: &str) -> Result<(), Fault> {
    let path = dir.join(name);
    let write = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        writeln!(file, "{text}")?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|err| failed("write", &path, &err))
}

fn failed(act: &str, path: &Path, err: &io::Error) -> Fault {
    Fault::new(
        Reason::StorageFailed,
        format!("{act} {}: {err}", path.display()),
    )
}

#[cfg(test)]
mod tests;
