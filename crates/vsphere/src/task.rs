//! vSphere's tasks.

/// A task that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskOutcome {
    /// The managed object that it made, if it made one.
    pub result: Option<String>,
}
