//! Which datastores are mounted where.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The datastores that this machine has mounted, as its configuration says. Callers name
/// datastores and never directories.
#[derive(Debug, Clone, Default)]
pub struct Mounts(BTreeMap<String, PathBuf>);

impl Mounts {
    /// Directories by the url (`ds:///vmfs/volumes/…/`) or the name of their datastore.
    pub fn new(entries: impl IntoIterator<Item = (String, PathBuf)>) -> Self {
        let entries = entries.into_iter();
        Self(
            entries
                .map(|(key, path)| (key_of(&key).to_owned(), path))
                .collect(),
        )
    }

    /// Where a datastore is mounted. Its url counts before its name: names repeat from one
    /// datacenter to the next.
    pub fn find(&self, url: &str, name: &str) -> Option<&Path> {
        let found = self.0.get(key_of(url)).or_else(|| self.0.get(key_of(name)));
        found.map(PathBuf::as_path)
    }

    /// What the configuration calls the datastores.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// vSphere ends urls with a slash, people may not.
fn key_of(text: &str) -> &str {
    text.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_datastore_counts_before_its_name() {
        let mounts = Mounts::new([
            ("nfs".to_owned(), PathBuf::from("/by-name")),
            (
                "ds:///vmfs/volumes/1234-abcd/".to_owned(),
                PathBuf::from("/by-url"),
            ),
        ]);
        let find = |url, name| {
            mounts
                .find(url, name)
                .map(|path| path.display().to_string())
        };
        assert_eq!(
            find("ds:///vmfs/volumes/1234-abcd", "nfs").as_deref(),
            Some("/by-url")
        );
        assert_eq!(
            find("ds:///vmfs/volumes/other/", "nfs").as_deref(),
            Some("/by-name")
        );
        assert_eq!(find("ds:///vmfs/volumes/other/", "san"), None);
        assert_eq!(mounts.names().count(), 2);
    }
}
