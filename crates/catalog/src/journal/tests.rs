use proptest::prelude::*;
use serde::Deserialize;
use tempfile::TempDir;

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Event {
    Said(String),
}

fn said(text: &str) -> Draft<Event> {
    let at = "2026-11-22T12:00:00Z".parse().unwrap();
    Draft { at, by: "controller".into(), event: Event::Said(text.into()) }
}

struct Fixture {
    dir: TempDir,
}

impl Fixture {
    /// A journal with one frame per batch.
    fn new(batches: &[&[&str]]) -> Self {
        let fixture = Self { dir: tempfile::tempdir().unwrap() };
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
        let journal = Journal::open(&self.path(), |entry: Entry<Event>, _| {
            assert_eq!(entry.sequence, texts.len() as u64 + 1);
            let Event::Said(text) = entry.event;
            texts.push(text);
        })?;
        Ok((journal, texts))
    }
}

#[test]
fn what_was_appended_comes_back_in_order_and_can_be_continued() {
    let fixture = Fixture::new(&[&["a"], &["b", "c"]]);
    let (mut journal, texts) = fixture.open().unwrap();
    assert_eq!(texts, ["a", "b", "c"]);
    assert_eq!(journal.append(&[said("d")]).unwrap().sequence, 4);
    drop(journal);
    assert_eq!(fixture.open().unwrap().1, ["a", "b", "c", "d"]);
    let mut count = 0;
    replay::<Event>(&fixture.path(), |_, _| count += 1).unwrap();
    assert_eq!(count, 4);
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
fn a_cut_at_any_byte_leaves_whole_batches_and_a_usable_journal() {
    let fixture = Fixture::new(&[&["a"], &["b", "c"], &["d"]]);
    let whole = fixture.bytes();
    let ends: Vec<usize> = {
        let mut ends = vec![0];
        for batches in [&[&["a"][..]][..], &[&["a"], &["b", "c"]]] {
            ends.push(Fixture::new(batches).bytes().len());
        }
        ends.push(whole.len());
        ends
    };
    for cut in 0..=whole.len() {
        fixture.put(&whole[..cut]);
        let (mut journal, texts) = fixture.open().unwrap();
        let batches = ends.iter().filter(|end| **end <= cut).count() - 1;
        assert_eq!(texts.len(), [0, 1, 3, 4][batches], "cut at {cut}");
        journal.append(&[said("z")]).unwrap();
        drop(journal);
        assert_eq!(fixture.open().unwrap().1.last().unwrap(), "z");
    }
}

#[test]
fn a_flipped_bit_is_damage_before_the_end_and_a_torn_entry_at_it() {
    let fixture = Fixture::new(&[&["a"], &["b"], &["c"]]);
    let whole = fixture.bytes();
    let last = Fixture::new(&[&["a"], &["b"]]).bytes().len();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fixture.put(&bytes);
        match fixture.open() {
            Ok((_, texts)) => {
                assert!(at >= last, "the flip at {at} was not seen");
                assert_eq!(texts, ["a", "b"]);
            }
            Err(error) => {
                assert!(matches!(error, Error::Corrupt { .. }), "{error} at {at}");
                assert!(at < last, "the flip at {at} of the last entry is a torn end");
            }
        }
    }
}

#[test]
fn a_missing_or_doubled_entry_breaks_the_chain() {
    let fixture = Fixture::new(&[&["a"], &["b"], &["c"]]);
    let whole = fixture.bytes();
    let frame = whole.len() / 3;
    for spliced in [
        [&whole[..frame], &whole[2 * frame..]].concat(),
        [&whole[..frame], &whole[..frame], &whole[frame..]].concat(),
    ] {
        fixture.put(&spliced);
        assert!(matches!(fixture.open(), Err(Error::Corrupt { .. })));
    }
}

#[test]
fn an_entry_of_a_newer_release_is_refused_and_kept() {
    for payload in [
        r#"[{"version":2,"at":"2026-11-22T12:00:00Z","by":"x","event":{"Said":"a"}}]"#,
        r#"[{"version":1,"at":"2026-11-22T12:00:00Z","by":"x","event":{"Sung":"a"}}]"#,
    ] {
        let fixture = Fixture::new(&[]);
        let (bytes, _) = frame::encode(&Position::default(), payload.as_bytes());
        fixture.put(&bytes);
        let error = fixture.open().unwrap_err();
        assert_eq!(
            stillwater_types::Fault::from(error).reason,
            stillwater_types::Reason::FormatTooNew
        );
        assert_eq!(fixture.bytes(), bytes);
    }
}

#[test]
fn a_journal_that_failed_to_write_takes_nothing_more() {
    let fixture = Fixture::new(&[&["a"]]);
    let (mut journal, _) = fixture.open().unwrap();
    journal.file = File::open(fixture.path()).unwrap();
    assert!(matches!(journal.append(&[said("b")]), Err(Error::Io { .. })));
    assert!(matches!(journal.append(&[said("b")]), Err(Error::Poisoned)));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let fixture = Fixture::new(&[&["a"]]);
        let mut garbled = fixture.bytes();
        garbled.extend_from_slice(&bytes);
        fixture.put(&garbled);
        let (_, texts) = fixture.open().unwrap();
        prop_assert_eq!(texts, ["a"]);
    }
}
