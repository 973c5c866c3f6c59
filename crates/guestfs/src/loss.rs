//! What of a guest's files cannot be shown as the guest sees it.

use std::fmt;

/// Something that is not shown, or not as it was. Always said, never silent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Loss {
    /// Names and content are encrypted by the guest's file system.
    Encrypted,
    /// The content is compressed in a way that is not known here.
    Compression(&'static str),
    /// The file system keeps no owner, or one that means nothing outside its domain.
    Owner,
    /// The file system keeps no POSIX mode.
    Mode,
    /// Access control that is not translated.
    AccessControl(&'static str),
    /// Times are of the guest's clock without a zone.
    TimesWithoutZone,
    /// The content is elsewhere: what a reparse point of this tag leads to.
    Reparse(u32),
    /// The content is on a device that is not here.
    Elsewhere(&'static str),
    /// The guest had not put this in place yet, and it is not done here.
    Unfinished(&'static str),
    /// Short names of letters beyond ASCII, whose code page is not known.
    CodePage,
    /// Subvolumes or snapshots that cannot be told from files here.
    Subvolumes,
}

impl fmt::Display for Loss {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encrypted => to.write_str("it is encrypted by the guest"),
            Self::Compression(how) => write!(to, "it is compressed by {how}"),
            Self::Owner => to.write_str("owners are not shown"),
            Self::Mode => to.write_str("there are no modes"),
            Self::AccessControl(kind) => write!(to, "{kind} are not translated"),
            Self::TimesWithoutZone => to.write_str("times have no zone"),
            Self::Reparse(tag) => write!(to, "it is a reparse point of tag {tag:#010x}"),
            Self::Elsewhere(what) => write!(to, "its content is on {what}"),
            Self::Unfinished(what) => write!(to, "{what} is left out"),
            Self::CodePage => to.write_str("the code page of short names is not known"),
            Self::Subvolumes => to.write_str("subvolumes are shown as directories"),
        }
    }
}
