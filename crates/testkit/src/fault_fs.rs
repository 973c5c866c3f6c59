//! A file system in memory that knows what is durable, and that can be broken in every way that a disk
//! and its file system can be.
//!
//! **The model.** A file has its bytes as programs see them and as they are durable. Between lie the
//! writes and changes of length since its last sync. A power cut leaves what is durable and of the
//! rest any part: each write whole, not at all, or in some of its sectors of 512 bytes, in any order;
//! the length as it was at some moment between. Bytes that did not arrive within a length that did
//! are zeros, or what was there before.
//!
//! A name lives in its directory and is durable when the directory is synced; syncing a file does not
//! keep its name. What a power cut leaves of changed names depends on the [`Journal`].
//!
//! Every call is counted, and any one may be struck by a [`Trouble`]. Copies share what they hold, so
//! that making one costs microseconds. Nothing here knows the time or draws numbers of its own: the
//! same calls come to the same.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stillwater_store::vfs::{Access, File, Medium, Name, Room, Vfs};

use crate::Dice;

mod call;
mod content;
mod names;
#[cfg(test)]
mod tests;

pub use call::{Call, Trouble};
pub use content::AfterFailedSync;
pub use names::Journal;

use call::{Calls, Verdict, dead};
use content::FileNode;
use names::Names;

/// A call that makes something durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Barrier {
    /// The sync of a file.
    File {
        /// Its path when it was created or opened.
        path: String,
        /// Its first bytes, which tell what it is even in `tmp/`.
        head: [u8; 8],
    },
    /// The sync of a directory.
    Dir {
        /// Its path.
        path: String,
    },
}

/// Says of a barrier whether it is left out.
pub type LeftOut = Arc<dyn Fn(&Barrier) -> bool + Send + Sync>;

#[derive(Clone)]
struct State {
    files: Vec<Arc<FileNode>>,
    names: Names,
    calls: Calls,
    capacity: u64,
    taken: u64,
    left_out: Option<LeftOut>,
    left_out_count: u64,
}

/// A file system in memory. Clones are the same one; see [`FaultFs::copy`].
#[derive(Clone)]
pub struct FaultFs(Arc<Mutex<State>>);

impl Default for FaultFs {
    fn default() -> Self {
        Self::with(State {
            files: Vec::new(),
            names: Names::default(),
            calls: Calls::default(),
            capacity: FaultFs::CAPACITY,
            taken: 0,
            left_out: None,
            left_out_count: 0,
        })
    }
}

impl FaultFs {
    /// How large it is unless a test says otherwise.
    pub const CAPACITY: u64 = 64 << 30;

    fn with(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another file system that holds the same, durable or not, with no file locked or open and no
    /// trouble planned: as after the process was killed.
    pub fn copy(&self) -> Self {
        let state = self.state();
        let mut copy = state.clone();
        copy.calls = state.calls.continued();
        for file in copy.files.iter_mut().filter(|file| file.is_locked) {
            Arc::make_mut(file).is_locked = false;
        }
        Self::with(copy)
    }

    /// What the power cut leaves. Barriers that are left out stay so.
    pub fn crash(&self, journal: Journal, dice: &mut Dice) -> Self {
        let state = self.state();
        let names = state.names.crash(journal, dice);
        let gone = Arc::<FileNode>::default();
        let mut files = vec![gone; state.files.len()];
        let mut taken = 0;
        for (_, file) in names.files() {
            let node = &state.files[file];
            files[file] = if node.is_durable() && !node.is_locked && node.reserved == 0 {
                Arc::clone(node)
            } else {
                Arc::new(node.crash(dice))
            };
            taken += files[file].taken();
        }
        Self::with(State {
            files,
            names,
            calls: state.calls.continued(),
            capacity: state.capacity,
            taken,
            left_out: state.left_out.clone(),
            left_out_count: state.left_out_count,
        })
    }

    /// How many calls were made.
    pub fn call_count(&self) -> u64 {
        self.state().calls.count()
    }

    /// How many calls of each kind were made.
    pub fn call_counts(&self) -> BTreeMap<Call, u64> {
        self.state().calls.counts().clone()
    }

    /// A hash over every call and what it was given, here and in what this was copied from.
    pub fn trace(&self) -> u64 {
        self.state().calls.trace()
    }

    /// Keeps from now on what each call was, and on which path.
    pub fn record(&self) {
        self.state().calls.record();
    }

    /// What each call was since [`FaultFs::record`]; a copy does not go on with it.
    pub fn recorded(&self) -> Vec<String> {
        self.state().calls.recorded()
    }

    /// Makes trouble at the `in_calls`th call from now; one at a time.
    pub fn trouble_in(&self, in_calls: u64, trouble: Trouble) {
        self.state().calls.plan(in_calls, trouble);
    }

    /// The call that was struck, if one was.
    pub fn struck(&self) -> Option<String> {
        self.state().calls.struck().map(str::to_owned)
    }

    /// Whether a [`Trouble::Dies`] struck.
    pub fn is_dead(&self) -> bool {
        self.state().calls.is_dead()
    }

    /// Ends all trouble; what is lost stays lost.
    pub fn heal(&self) {
        self.state().calls.heal();
    }

    /// Lets nothing more in that needs room, until it is healed.
    pub fn fill(&self) {
        self.state().calls.is_full = true;
    }

    /// Makes it larger or smaller.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// What files take.
    pub fn taken_bytes(&self) -> u64 {
        self.state().taken
    }

    /// Leaves out the barriers that `left_out` names: they succeed and do nothing.
    pub fn leave_out(&self, left_out: LeftOut) {
        self.state().left_out = Some(left_out);
    }

    /// How many barriers were left out.
    pub fn left_out_count(&self) -> u64 {
        self.state().left_out_count
    }

    /// Whether there is nothing that a crash could lose.
    pub fn is_durable(&self) -> bool {
        let state = self.state();
        let files = state.names.files();
        state.names.is_durable()
            && files
                .iter()
                .all(|(_, file)| state.files[*file].is_durable())
    }

    /// The paths of all files, in order.
    pub fn paths(&self) -> Vec<String> {
        let files = self.state().names.files();
        files.into_iter().map(|(path, _)| path).collect()
    }

    /// What a file holds, behind everybody's back.
    ///
    /// # Panics
    /// When there is none.
    pub fn bytes(&self, path: &str) -> Vec<u8> {
        let state = self.state();
        let file = state.names.find_file(Path::new(path)).expect("a file");
        state.files[file].live().bytes()
    }

    /// Gives a file other bytes, durably and behind everybody's back.
    ///
    /// # Panics
    /// When there is none.
    pub fn set_bytes(&self, path: &str, bytes: &[u8]) {
        let mut state = self.state();
        let file = state.names.find_file(Path::new(path)).expect("a file");
        state.files[file] = Arc::new(FileNode::durable(bytes));
    }

    /// Removes a file, durably and behind everybody's back.
    ///
    /// # Panics
    /// When there is none.
    pub fn erase(&self, path: &str) {
        self.state().names.erase(Path::new(path)).expect("a file");
    }

    /// A hash of all files and what they hold.
    pub fn image(&self) -> u64 {
        let state = self.state();
        let mut calls = Calls::default();
        for (path, file) in state.names.files() {
            calls.note(&(path, state.files[file].live().bytes()));
        }
        calls.trace()
    }

    fn begin(&self, call: Call, what: &str) -> io::Result<(MutexGuard<'_, State>, Verdict)> {
        let mut state = self.state();
        let verdict = state.calls.begin(call, what)?;
        Ok((state, verdict))
    }

    /// Makes a call that names change by. If the power fails in it, it may yet have come to something.
    fn rename_names<T>(
        &self,
        call: Call,
        path: &Path,
        act: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let (mut state, verdict) = self.begin(call, &path.to_string_lossy())?;
        let done = act(&mut state)?;
        alive(verdict)?;
        Ok(done)
    }

    fn handle(&self, path: &Path, file: usize) -> Box<dyn File> {
        Box::new(FaultFile {
            fs: self.clone(),
            path: path.to_string_lossy().into_owned(),
            file,
            has_lock: AtomicBool::new(false),
        })
    }
}

impl State {
    /// Changes a file, if what it takes then fits.
    fn change(&mut self, file: usize, act: impl FnOnce(&mut FileNode)) {
        let node = Arc::make_mut(&mut self.files[file]);
        let before = node.taken();
        act(node);
        self.taken = self.taken + node.taken() - before;
    }

    fn check_room(&self, file: usize, end: u64) -> io::Result<()> {
        let more = end.saturating_sub(self.files[file].taken());
        if self.taken + more > self.capacity && more > 0 {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn is_left_out(&mut self, barrier: &Barrier) -> bool {
        let is_left_out = self.left_out.as_ref().is_some_and(|says| says(barrier));
        self.left_out_count += u64::from(is_left_out);
        is_left_out
    }
}

fn alive(verdict: Verdict) -> io::Result<()> {
    match verdict {
        Verdict::LastBreath => Err(dead()),
        _ => Ok(()),
    }
}

impl Vfs for FaultFs {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = self.rename_names(Call::CreateNew, path, |state| {
            let file = state.files.len();
            state.names.create(path, file)?;
            state.files.push(Arc::default());
            Ok(file)
        })?;
        Ok(self.handle(path, file))
    }

    fn open(&self, path: &Path, _: Access) -> io::Result<Box<dyn File>> {
        let (state, _) = self.begin(Call::Open, &path.to_string_lossy())?;
        let file = state.names.find_file(path)?;
        drop(state);
        Ok(self.handle(path, file))
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.rename_names(Call::Rename, to, |state| {
            state.calls.note(&from);
            state.names.rename(from, to)
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.rename_names(Call::Remove, path, |state| {
            let file = state.names.remove(path)?;
            state.taken -= state.files[file].taken();
            Ok(())
        })
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.rename_names(Call::MakeDir, path, |state| state.names.make_dir(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Name>> {
        let (state, _) = self.begin(Call::List, &dir.to_string_lossy())?;
        let name = |(name, is_dir): (Arc<str>, bool)| Name {
            name: name.to_string(),
            is_dir,
        };
        Ok(state.names.list(dir)?.into_iter().map(name).collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let path = dir.to_string_lossy().into_owned();
        let (mut state, verdict) = self.begin(Call::SyncDir, &path)?;
        if matches!(verdict, Verdict::LosesPages(_)) {
            return Err(io::Error::other("made to fail"));
        }
        if state.is_left_out(&Barrier::Dir { path }) {
            return Ok(());
        }
        state.names.sync(dir)
    }

    fn room(&self) -> io::Result<Room> {
        let (state, _) = self.begin(Call::Room, "")?;
        let free_bytes = if state.calls.is_full {
            0
        } else {
            state.capacity.saturating_sub(state.taken)
        };
        Ok(Room {
            capacity_bytes: state.capacity,
            free_bytes,
        })
    }

    fn medium(&self) -> io::Result<Medium> {
        drop(self.begin(Call::Medium, "")?);
        Ok(Medium::Lasting)
    }
}

/// An open file. It stays what it is when its name changes or goes.
struct FaultFile {
    fs: FaultFs,
    path: String,
    file: usize,
    has_lock: AtomicBool,
}

impl FaultFile {
    fn begin(&self, call: Call) -> io::Result<(MutexGuard<'_, State>, Verdict)> {
        self.fs.begin(call, &self.path)
    }
}

impl File for FaultFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut state, verdict) = self.begin(Call::Read)?;
        state.calls.note(&(offset, buffer.len()));
        let count = state.files[self.file].live().read(buffer, offset);
        match verdict {
            Verdict::EndsEarly => Ok(count / 2),
            Verdict::Flips(bit) if count > 0 => {
                let bit = usize::try_from(bit).unwrap_or_default() % (count * 8);
                buffer[bit / 8] ^= 1 << (bit % 8);
                Ok(count)
            }
            _ => Ok(count),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut state, verdict) = self.begin(Call::Write)?;
        state.calls.note(&(offset, bytes));
        state.check_room(self.file, offset + bytes.len() as u64)?;
        state.change(self.file, |file| file.write(bytes, offset));
        alive(verdict)
    }

    fn len(&self) -> io::Result<u64> {
        let (state, _) = self.begin(Call::Length)?;
        Ok(state.files[self.file].live().length())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let (mut state, verdict) = self.begin(Call::SetLength)?;
        state.calls.note(&length);
        state.change(self.file, |file| file.set_length(length));
        alive(verdict)
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        let (mut state, verdict) = self.begin(Call::Reserve)?;
        let end = offset + length;
        state.calls.note(&end);
        state.check_room(self.file, end)?;
        state.change(self.file, |file| file.reserved = file.reserved.max(end));
        alive(verdict)
    }

    fn sync(&self) -> io::Result<()> {
        let (mut state, verdict) = self.begin(Call::Sync)?;
        if let Verdict::LosesPages(after) = verdict {
            state.change(self.file, |file| file.fail_sync(after));
            return Err(io::Error::other("made to fail, and took its pages along"));
        }
        let mut head = [0; 8];
        state.files[self.file].live().read(&mut head, 0);
        let path = self.path.clone();
        if !state.is_left_out(&Barrier::File { path, head }) {
            state.change(self.file, FileNode::sync);
        }
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        let (mut state, _) = self.begin(Call::Lock)?;
        let file = Arc::make_mut(&mut state.files[self.file]);
        if file.is_locked {
            return Ok(false);
        }
        file.is_locked = true;
        self.has_lock.store(true, Ordering::SeqCst);
        Ok(true)
    }
}

impl Drop for FaultFile {
    fn drop(&mut self) {
        if self.has_lock.load(Ordering::SeqCst) {
            let mut state = self.fs.state();
            Arc::make_mut(&mut state.files[self.file]).is_locked = false;
        }
    }
}
