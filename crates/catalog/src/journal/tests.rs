use proptest::prelude::*;
use serde::Deserialize;
use stillwater_types::{Fault, Reason};
use tempfile::TempDir;

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Event {
    Said(String),
}

fn said(text: &str) -> Draft<Event> {
    let at = "2026-11-22T12:00:00Z".parse().unwrap();
    Draft {
        at,
        by: "controller".into(),
        event: Event::Said(text.into()),
    }
}

struct Fixture {
    dir: TempDir,
}

impl Fixture {
    /// A journal with one sync per batch.
    fn new(batches: &[&[&str]]) -> Self {
        let fixture = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let mut journal = Journal::open(&fixture.path(), |_, _| {}).unwrap();
        for batch in batches {
            let drafts: Vec<_> = batch.iter().map(|text| said(text)).collect();
            journal.append(&drafts).unwrap();
        }
        fixture
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }

    fn put(&self, bytes: &[u8]) {
        std::fs::write(self.path(), bytes).unwrap();
    }

    fn open(&self) -> Result<(Journal<Event>, Vec<String>), Error> {
        let mut texts = Vec::new();
        let journal = Journal::open(&self.path(), |entry: Entry<Event>, position| {
            assert_eq!(entry.sequence, texts.len() as u64 + 1);
            assert_eq!(entry.sequence, position.sequence);
            let Event::Said(text) = entry.event;
            texts.push(text);
        })?;
        Ok((journal, texts))
    }

    fn refusal(&self) -> Reason {
        Fault::from(self.open().unwrap_err()).reason
    }
}

/// Every frame of these small entries takes one sector.
const FRAME: usize = 512;

#[test]
fn what_was_appended_comes_back_in_order_and_can_be_continued() {
    let fixture = Fixture::new(&[&["a"], &["b", "c"]]);
    let (mut journal, texts) = fixture.open().unwrap();
    assert_eq!(texts, ["a", "b", "c"]);
    assert_eq!(journal.append(&[said("d")]).unwrap().sequence, 4);
    let position = journal.position();
    drop(journal);
    assert_eq!(fixture.open().unwrap().1, ["a", "b", "c", "d"]);
    let mut count = 0;
    assert_eq!(
        replay::<Event>(&fixture.path(), |_, _| count += 1).unwrap(),
        position
    );
    assert_eq!(count, 4);
}

#[test]
fn an_entry_larger_than_a_window_and_entries_across_windows_come_back() {
    let fixture = Fixture::new(&[]);
    let (mut journal, _) = fixture.open().unwrap();
    let long = "x".repeat(900_000);
    let texts: Vec<String> = (0..11).map(|n| format!("{n}{long}")).collect();
    for text in &texts {
        journal.append(&[said(text)]).unwrap();
    }
    drop(journal);
    assert_eq!(fixture.open().unwrap().1, texts);
}

#[test]
fn a_journal_has_one_writer() {
    let fixture = Fixture::new(&[]);
    let (journal, _) = fixture.open().unwrap();
    assert!(matches!(fixture.open(), Err(Error::Locked(_))));
    drop(journal);
    fixture.open().unwrap();
}

#[test]
fn a_cut_at_any_byte_leaves_whole_entries_and_a_usable_journal() {
    let fixture = Fixture::new(&[&["a"], &["b", "c"], &["d"]]);
    let whole = fixture.bytes();
    for cut in (0..=whole.len()).step_by(7) {
        fixture.put(&whole[..cut]);
        let (mut journal, texts) = fixture.open().unwrap();
        assert_eq!(texts.len(), cut / FRAME, "cut at {cut}");
        journal.append(&[said("z")]).unwrap();
        drop(journal);
        assert_eq!(fixture.open().unwrap().1.last().unwrap(), "z");
    }
}

#[test]
fn a_batch_that_a_power_cut_tore_in_the_middle_is_a_torn_end() {
    let fixture = Fixture::new(&[&["a"], &["b", "c", "d"]]);
    let mut bytes = fixture.bytes();
    bytes[FRAME..2 * FRAME].fill(0);
    fixture.put(&bytes);
    assert_eq!(fixture.open().unwrap().1, ["a"]);
    assert_eq!(fixture.bytes().len(), FRAME);
}

#[test]
fn a_flipped_bit_is_damage_before_the_end_and_a_torn_entry_at_it() {
    let fixture = Fixture::new(&[&["a"], &["b"], &["c"]]);
    let whole = fixture.bytes();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fixture.put(&bytes);
        match fixture.open() {
            Ok((_, texts)) => {
                assert!(at >= 2 * FRAME, "the flip at {at} was not seen");
                assert_eq!(texts, ["a", "b"]);
            }
            Err(error) => {
                assert_eq!(Fault::from(error).reason, Reason::JournalCorrupt, "{at}");
                assert!(
                    at < 2 * FRAME,
                    "the flip at {at} of the last entry is a torn end"
                );
            }
        }
    }
}

#[test]
fn a_missing_or_doubled_entry_breaks_the_chain() {
    let fixture = Fixture::new(&[&["a"], &["b"], &["c"]]);
    let whole = fixture.bytes();
    for spliced in [
        [&whole[..FRAME], &whole[2 * FRAME..]].concat(),
        [&whole[..FRAME], &whole[..FRAME], &whole[FRAME..]].concat(),
    ] {
        fixture.put(&spliced);
        assert_eq!(fixture.refusal(), Reason::JournalCorrupt);
    }
}

#[test]
fn an_entry_of_a_newer_release_is_refused_and_kept() {
    let payload = |version, variant| {
        format!(
            r#"{{"version":{version},"at":"2026-11-22T12:00:00Z","by":"x","event":{{"{variant}":"a"}}}}"#
        )
    };
    for (kind, payload) in [
        (KIND_ENTRY, payload(2, "Said")),
        (KIND_ENTRY, payload(1, "Sung")),
        (KIND_ENTRY + 1, payload(1, "Said")),
    ] {
        let fixture = Fixture::new(&[]);
        let bytes = Chain::empty().append(kind, payload.as_bytes()).unwrap();
        fixture.put(&bytes);
        assert_eq!(fixture.refusal(), Reason::FormatTooNew);
        assert_eq!(fixture.bytes(), bytes);
    }
}

#[test]
fn a_journal_that_failed_to_write_takes_nothing_more() {
    let fixture = Fixture::new(&[&["a"]]);
    let (mut journal, _) = fixture.open().unwrap();
    journal.file = File::open(fixture.path()).unwrap();
    assert!(matches!(
        journal.append(&[said("b")]),
        Err(Error::Io { .. })
    ));
    assert!(matches!(journal.append(&[said("b")]), Err(Error::Poisoned)));
}

proptest! {
    #[test]
    fn no_bytes_behind_the_last_entry_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..1500),
    ) {
        let fixture = Fixture::new(&[&["a"]]);
        let mut garbled = fixture.bytes();
        garbled.extend_from_slice(&bytes);
        fixture.put(&garbled);
        let (_, texts) = fixture.open().unwrap();
        prop_assert_eq!(texts, ["a"]);
    }
}

#[test]
fn an_entry_that_no_frame_holds_is_known_before_it_is_written() {
    assert!(Journal::check(&said("a")).is_ok());
    let huge = said(&"x".repeat(stillwater_format::log::MAX_PAYLOAD));
    assert!(matches!(Journal::check(&huge), Err(Error::Frame(_))));
}
