//! Names of files on datastores, as vSphere writes them.

use crate::{Error, Result};

/// A file on a datastore, such as `[ds] web/web.vmdk`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DatastorePath {
    pub datastore: String,
    /// Relative to the datastore's root.
    pub file: String,
}

impl DatastorePath {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let bad = || Error::BadPath {
            path: text.to_owned(),
        };
        let inside = text.trim().strip_prefix('[').ok_or_else(bad)?;
        let (datastore, file) = inside.split_once(']').ok_or_else(bad)?;
        let file = file.trim_start();
        let whole = file.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if datastore.is_empty() || !whole || !file.ends_with(".vmdk") {
            return Err(bad());
        }
        Ok(Self {
            datastore: datastore.to_owned(),
            file: file.to_owned(),
        })
    }

    /// Another file in the same directory.
    pub(crate) fn beside(&self, name: &str) -> Self {
        let file = match self.file.rsplit_once('/') {
            Some((directory, _)) => format!("{directory}/{name}"),
            None => name.to_owned(),
        };
        Self {
            datastore: self.datastore.clone(),
            file,
        }
    }
}

impl std::fmt::Display for DatastorePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}] {}", self.datastore, self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_prints_as_it_was_read() {
        for text in ["[ds] web/web.vmdk", "[a b] x y/z 1.vmdk", "[ds] root.vmdk"] {
            assert_eq!(
                DatastorePath::parse(text).expect("a path").to_string(),
                text
            );
        }
        let path = DatastorePath::parse("[ds] web/web.vmdk").expect("a path");
        assert_eq!(
            path.beside("web-flat.vmdk").to_string(),
            "[ds] web/web-flat.vmdk"
        );
    }

    #[test]
    fn what_is_no_disk_on_a_datastore_is_refused() {
        for text in [
            "",
            "web.vmdk",
            "[ds]",
            "[] a.vmdk",
            "[ds] a.vmx",
            "[ds] ../a.vmdk",
            "[ds] /a.vmdk",
        ] {
            assert!(
                matches!(DatastorePath::parse(text), Err(Error::BadPath { .. })),
                "{text}"
            );
        }
    }
}
