//! What was taken out of a point, and what was not.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stillwater_files::{Facts, VolumeFacts};

use super::shown;

/// More than these are counted and not listed: a hostile disk may hold any number.
const LOST_MAX: usize = 100_000;

/// What is not as the guest has it.
#[derive(Debug, PartialEq, Eq)]
struct Lost {
    path: Vec<u8>,
    what: String,
}

/// What was taken, and everything that was not, in one list.
#[derive(Debug, Default)]
pub(crate) struct Report {
    files: u64,
    directories: u64,
    links: u64,
    bytes: u64,
    lost: Vec<Lost>,
    /// What was lost beyond those that are listed.
    more: u64,
    /// What holds for all files of the volume.
    of_volume: Vec<String>,
}

impl Report {
    /// What a volume cannot show of any file.
    pub fn volume(&mut self, volume: VolumeFacts) {
        self.of_volume.extend(volume.losses);
    }

    /// Something holds for all files, and is said once.
    pub fn of_all(&mut self, what: &str) {
        if !self.of_volume.iter().any(|known| known == what) {
            self.of_volume.push(what.to_owned());
        }
    }

    pub fn lost(&mut self, path: &[u8], what: impl Into<String>) {
        if self.lost.len() >= LOST_MAX {
            self.more += 1;
            return;
        }
        self.lost.push(Lost {
            path: path.to_vec(),
            what: what.into(),
        });
    }

    pub fn taken(&mut self, facts: &Facts) {
        match facts.kind.as_str() {
            "directory" => self.directories += 1,
            "link" => self.links += 1,
            _ => self.files += 1,
        }
    }

    pub const fn bytes(&mut self, count: u64) {
        self.bytes = self.bytes.saturating_add(count);
    }

    pub const fn is_whole(&self) -> bool {
        self.lost.is_empty()
    }

    pub fn summary(&self) -> String {
        format!(
            "{} files, {} directories, {} links, {}",
            self.files,
            self.directories,
            self.links,
            crate::output::size(self.bytes)
        )
    }

    /// A line for each sort of loss, with the first name that it is of.
    pub fn notes(&self) -> Vec<String> {
        let mut sorts: BTreeMap<&str, (u64, &[u8])> = BTreeMap::new();
        for lost in &self.lost {
            sorts.entry(&lost.what).or_insert((0, &lost.path)).0 += 1;
        }
        let of_one = |(what, (count, path)): (&&str, &(u64, &[u8]))| match count {
            1 => format!("note: {:?}: {what}", shown(path)),
            _ => format!("note: {:?} and {} more: {what}", shown(path), count - 1),
        };
        let mut notes: Vec<_> = sorts.iter().map(of_one).collect();
        if self.more > 0 {
            notes.push(format!("note: {} more things are lost", self.more));
        }
        let all = self.of_volume.iter();
        notes.extend(all.map(|what| format!("note: of all files: {what}")));
        notes
    }

    pub fn json(&self) -> Value {
        let lost = self.lost.iter().map(|lost| {
            let text = std::str::from_utf8(&lost.path).ok();
            let bytes = text
                .is_none()
                .then(|| data_encoding::HEXLOWER.encode(&lost.path));
            json!({ "path": shown(&lost.path), "path_bytes": bytes, "what": lost.what })
        });
        json!({
            "files": self.files,
            "directories": self.directories,
            "links": self.links,
            "size_bytes": self.bytes,
            "lost": lost.collect::<Vec<_>>(),
            "lost_beyond_list": self.more,
            "losses_of_all": self.of_volume,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_files_lose_is_one_line_and_a_flood_is_counted() {
        let mut report = Report::default();
        for number in 0..LOST_MAX + 5 {
            report.lost(format!("dev/{number}").as_bytes(), "it is a pipe");
        }
        report.of_all("there are no modes");
        report.of_all("there are no modes");
        assert_eq!(
            report.notes(),
            [
                "note: \"dev/0\" and 99999 more: it is a pipe",
                "note: 5 more things are lost",
                "note: of all files: there are no modes",
            ]
        );
        assert_eq!(report.json()["lost_beyond_list"], 5);
        assert!(!report.is_whole());
    }
}
