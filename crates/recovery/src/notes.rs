//! What was found out of order and got by.

/// Oddities, in the order in which they were found, each once and in words for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes(Vec<String>);

impl Notes {
    pub(crate) fn add(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.0.contains(&note) {
            self.0.push(note);
        }
    }

    /// The notes.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// Takes the notes out, for whoever shows them as they come.
    pub fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.0)
    }
}
