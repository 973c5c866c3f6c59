//! A file system in memory that knows what is durable: data by `sync`, names by `sync_dir`.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::layout::parent;
use crate::vfs::{Access, File, Medium, Name, Room, Vfs};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

#[derive(Debug, Clone, Default)]
struct Data {
    now: Vec<u8>,
    durable: Vec<u8>,
    locked: bool,
}

/// What happens at a chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The call fails, later ones work.
    Error(ErrorKind),
    /// The call and all later ones fail: the process was killed.
    Death,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<Data>,
    now: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    calls: u64,
    looks: u64,
    trouble: Option<(u64, Trouble)>,
    barriers_off: bool,
    free_bytes: u64,
}

/// What a crash does with data and names that were not synced.
pub type Keep<'a> = &'a mut dyn FnMut() -> bool;

#[derive(Debug, Clone)]
pub struct MemFs(Arc<Mutex<State>>);

pub const CAPACITY: u64 = 1 << 30;

impl MemFs {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            free_bytes: CAPACITY,
            ..State::default()
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Calls that change something, so far.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Calls that change nothing, so far.
    pub fn looks(&self) -> u64 {
        self.state().looks
    }

    /// Makes trouble at the `call`th changing call from now.
    pub fn trouble_at(&self, call: u64, trouble: Trouble) {
        let mut state = self.state();
        state.trouble = Some((state.calls + call, trouble));
    }

    pub fn heal(&self) {
        self.state().trouble = None;
    }

    pub fn set_free(&self, bytes: u64) {
        self.state().free_bytes = bytes;
    }

    /// Makes every sync do nothing, to prove that the tests would notice.
    pub fn knock_out_barriers(&self) {
        self.state().barriers_off = true;
    }

    /// What is there after a power cut: all that is durable, and of the rest what `keep` says.
    pub fn crash(&self, keep: Keep<'_>) -> MemFs {
        let state = self.state();
        let mut names = state.durable.clone();
        let mut lost = false;
        for (path, node) in &state.now {
            if names.contains_key(path) {
                continue;
            }
            if keep() {
                names.insert(path.clone(), *node);
            } else {
                lost = true;
            }
        }
        let gone: Vec<_> = state
            .durable
            .keys()
            .filter(|path| !state.now.contains_key(*path))
            .cloned()
            .collect();
        for path in gone {
            if keep() {
                names.remove(&path);
            }
        }
        let reachable = |path: &Path| {
            // Looked at only when it could be otherwise: most crashes lose no name at all.
            !lost
                || path
                    .ancestors()
                    .skip(1)
                    .all(|p| p == Path::new("") || names.contains_key(p))
        };
        let names: BTreeMap<_, _> = names
            .iter()
            .filter(|(path, _)| reachable(path))
            .map(|(p, n)| (p.clone(), *n))
            .collect();
        let files = state.files.iter().map(|data| torn(data, keep)).collect();
        let state = State {
            files,
            now: names.clone(),
            durable: names,
            free_bytes: state.free_bytes,
            ..State::default()
        };
        MemFs(Arc::new(Mutex::new(state)))
    }

    /// The same disk after the process was killed: the kernel keeps what was written.
    pub fn restart(&self) -> MemFs {
        self.crash(&mut || true)
    }

    /// Whole content of a file, for tests that damage it.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        match state.now.get(path) {
            Some(Node::File(id)) => Some(state.files[*id].now.clone()),
            _ => None,
        }
    }

    pub fn set_bytes(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.state();
        let Some(Node::File(id)) = state.now.get(path).copied() else {
            panic!("no {path:?}")
        };
        state.files[id].now = bytes.clone();
        state.files[id].durable = bytes;
    }

    pub fn remove(&self, path: &Path) {
        let mut state = self.state();
        assert!(state.now.remove(path).is_some(), "no {path:?}");
        state.durable.remove(path);
    }

    pub fn files_in(&self, dir: &str) -> Vec<PathBuf> {
        let state = self.state();
        let file = |(path, node): (&PathBuf, &Node)| {
            (path.starts_with(dir) && *node != Node::Dir).then(|| path.clone())
        };
        state.now.iter().filter_map(file).collect()
    }

    /// Counts a changing call and makes trouble if it is its turn.
    fn change(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        state.calls += 1;
        match state.trouble {
            Some((at, Trouble::Error(kind))) if state.calls == at => {
                Err(io::Error::new(kind, "made to fail"))
            }
            Some((at, Trouble::Death)) if state.calls >= at => Err(io::Error::other("dead")),
            _ => Ok(state),
        }
    }

    /// Reads are refused only to the dead.
    fn look(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        state.looks += 1;
        match state.trouble {
            Some((at, Trouble::Death)) if state.calls >= at => Err(io::Error::other("dead")),
            _ => Ok(state),
        }
    }
}

/// Sectors that differ from what is durable arrive each for itself.
fn torn(data: &Data, keep: Keep<'_>) -> Data {
    let length = if keep() {
        data.now.len()
    } else {
        data.durable.len()
    };
    let mut bytes = vec![0; length];
    for start in (0..length).step_by(512) {
        let end = length.min(start + 512);
        let old = data
            .durable
            .get(start..end.min(data.durable.len()))
            .unwrap_or_default();
        let new = data
            .now
            .get(start..end.min(data.now.len()))
            .unwrap_or_default();
        let from = if old != new && keep() { new } else { old };
        bytes[start..start + from.len()].copy_from_slice(from);
    }
    Data {
        now: bytes.clone(),
        durable: bytes,
        locked: false,
    }
}

fn not_found() -> io::Error {
    io::Error::from(ErrorKind::NotFound)
}

impl Vfs for MemFs {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut state = self.change()?;
        if state.now.contains_key(path) {
            return Err(io::Error::from(ErrorKind::AlreadyExists));
        }
        let dir = parent(path);
        if dir != Path::new(".") && state.now.get(dir) != Some(&Node::Dir) {
            return Err(not_found());
        }
        let id = state.files.len();
        state.files.push(Data::default());
        state.now.insert(path.to_owned(), Node::File(id));
        Ok(Box::new(MemFile {
            fs: self.clone(),
            id,
            locked: false.into(),
        }))
    }

    fn open(&self, path: &Path, _: Access) -> io::Result<Box<dyn File>> {
        match self.look()?.now.get(path) {
            Some(Node::File(id)) => Ok(Box::new(MemFile {
                fs: self.clone(),
                id: *id,
                locked: false.into(),
            })),
            _ => Err(not_found()),
        }
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        if state.now.contains_key(to) {
            return Err(io::Error::from(ErrorKind::AlreadyExists));
        }
        let node = state.now.remove(from).ok_or_else(not_found)?;
        state.now.insert(to.to_owned(), node);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change()?
            .now
            .remove(path)
            .map(drop)
            .ok_or_else(not_found)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        if state.now.contains_key(path) {
            return Err(io::Error::from(ErrorKind::AlreadyExists));
        }
        state.now.insert(path.to_owned(), Node::Dir);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Name>> {
        let state = self.look()?;
        if state.now.get(dir) != Some(&Node::Dir) {
            return Err(not_found());
        }
        // The paths beneath a directory follow it in the map.
        let beneath = state
            .now
            .range(dir.to_owned()..)
            .take_while(|(p, _)| p.starts_with(dir));
        let names = beneath
            .filter(|(path, _)| path.parent() == Some(dir))
            .map(|(path, node)| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                Name {
                    name,
                    is_dir: *node == Node::Dir,
                }
            });
        Ok(names.collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        if state.barriers_off {
            return Ok(());
        }
        let State { now, durable, .. } = &mut *state;
        durable.retain(|path, _| parent(path) != dir || now.contains_key(path));
        for (path, node) in now.iter().filter(|(path, _)| parent(path) == dir) {
            durable.insert(path.clone(), *node);
        }
        Ok(())
    }

    fn room(&self) -> io::Result<Room> {
        let state = self.look()?;
        Ok(Room {
            capacity_bytes: CAPACITY,
            free_bytes: state.free_bytes,
        })
    }

    fn medium(&self) -> io::Result<Medium> {
        Ok(Medium::Volatile("memory"))
    }
}

struct MemFile {
    fs: MemFs,
    id: usize,
    locked: std::sync::atomic::AtomicBool,
}

impl File for MemFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.fs.look()?;
        let rest = state.files[self.id]
            .now
            .get(offset as usize..)
            .unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.fs.change()?;
        if state.free_bytes < bytes.len() as u64 {
            return Err(io::Error::from(ErrorKind::StorageFull));
        }
        state.free_bytes -= bytes.len() as u64;
        let data = &mut state.files[self.id].now;
        let end = offset as usize + bytes.len();
        data.resize(data.len().max(end), 0);
        data[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.fs.look()?.files[self.id].now.len() as u64)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.fs.change()?.files[self.id]
            .now
            .resize(length as usize, 0);
        Ok(())
    }

    fn reserve(&self, _: u64, _: u64) -> io::Result<()> {
        self.fs.change().map(drop)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.fs.change()?;
        if !state.barriers_off {
            let data = &mut state.files[self.id];
            data.durable = data.now.clone();
        }
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.fs.look()?;
        let free = !state.files[self.id].locked;
        state.files[self.id].locked = true;
        self.locked
            .fetch_or(free, std::sync::atomic::Ordering::SeqCst);
        Ok(free)
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        if self.locked.load(std::sync::atomic::Ordering::SeqCst) {
            self.fs.state().files[self.id].locked = false;
        }
    }
}
