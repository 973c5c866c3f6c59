//! Leaves out one kind of barrier at a time: the campaign must notice each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use stillwater_testkit::fault_fs::{Barrier, LeftOut};

use crate::power_cut::{Tally, Template, history};

/// Histories after which a barrier counts as one that nobody would miss.
const HISTORIES: u64 = 80;

fn is_file(barrier: &Barrier, magic: &[u8]) -> bool {
    matches!(barrier, Barrier::File { head, .. } if head.starts_with(magic))
}

fn is_dir(barrier: &Barrier, is: impl Fn(&str) -> bool) -> bool {
    matches!(barrier, Barrier::Dir { path } if is(path))
}

type Says = fn(&Barrier) -> bool;

const BARRIERS: [(&str, Says); 8] = [
    ("sync of packs", |barrier| is_file(barrier, b"SWPK")),
    ("sync of manifests", |barrier| is_file(barrier, b"SWMF")),
    ("sync of the commit log", |barrier| {
        is_file(barrier, b"SWLG")
    }),
    ("sync of superblocks", |barrier| {
        is_file(barrier, b"SWSUPER1")
    }),
    ("sync of directories of packs", |barrier| {
        is_dir(barrier, |path| path.starts_with("packs/"))
    }),
    ("sync of directories of manifests", |barrier| {
        is_dir(barrier, |path| path.contains("manifests/"))
    }),
    ("sync of the directory itself", |barrier| {
        is_dir(barrier, |path| path == "." || path.is_empty())
    }),
    ("sync of what is spread over directories", |barrier| {
        is_dir(barrier, |path| {
            ["packs", "manifests", "copy/manifests"].contains(&path)
        })
    }),
];

/// The first history that broke a promise, and how.
fn first_loss(template: &Template, says: Says) -> Option<(u64, String)> {
    let left_out: LeftOut = Arc::new(says);
    (1..=HISTORIES).find_map(|seed| {
        let mut tally = Tally::default();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            history(template, seed, Some(&left_out), &mut tally)
        }));
        match outcome {
            Ok(Ok(())) => None,
            Ok(Err(violation)) => Some((seed, format!("{violation:#}"))),
            Err(_) => Some((seed, "panicked".into())),
        }
    })
}

#[test]
fn every_barrier_that_is_left_out_is_missed() {
    let template = Template::new();
    let mut score = 0;
    for (name, says) in BARRIERS {
        let loss = first_loss(&template, says);
        println!("without the {name}: {loss:?}");
        score += usize::from(loss.is_some());
    }
    let none: Says = |_| false;
    assert_eq!(first_loss(&template, none), None, "with all barriers");
    println!("score: {score} of {}", BARRIERS.len());
    assert_eq!(score, BARRIERS.len());
}
