//! A short run of every target, the same each time.

use stillwater_fuzz::{Budget, TARGETS, cap_memory, run};

const SEED: u64 = 20_261_122;

#[track_caller]
fn check(name: &str, cases: u64) {
    cap_memory().expect("a limit of memory");
    let target = TARGETS
        .iter()
        .find(|target| target.name == name)
        .expect("a target");
    if let Err(failure) = run(target, SEED, Budget::Cases(cases)) {
        let input: String = failure
            .input
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        panic!(
            "input {} of seed {SEED}: {}\n{input}",
            failure.case, failure.what
        );
    }
}

macro_rules! targets {
    ($($name:ident: $cases:literal),* $(,)?) => {
        $(#[test] fn $name() { check(stringify!($name), $cases); })*

        #[test]
        fn every_target_is_run() {
            let mut run = vec![$(stringify!($name)),*];
            let mut known: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            run.sort_unstable();
            known.sort_unstable();
            assert_eq!(run, known);
        }
    };
}

targets! {
    chunk_text: 20_000,
    commit_entry: 100_000,
    commit_log: 5_000,
    cutter_name: 50_000,
    disk_root: 100_000,
    disk_words: 100_000,
    grant: 20_000,
    ids: 100_000,
    join_token: 50_000,
    manifest: 50_000,
    messages: 100_000,
    nbd_handshake: 100_000,
    nbd_parts: 50_000,
    nbd_words: 100_000,
    nfc_fastlz: 100_000,
    nfc_frames: 20_000,
    nfc_set_up: 50_000,
    node: 20_000,
    pack_ends: 20_000,
    pack_header: 100_000,
    pack_scan: 2_000,
    record_header: 100_000,
    recovery_key: 20_000,
    repository: 100,
    scsi_page: 100_000,
    sealed_blob: 20_000,
    section: 50_000,
    signed_statement: 20_000,
    statement: 100_000,
    superblocks: 50_000,
    tree: 2_000,
    vm_config: 10_000,
    vsphere_answers: 20_000,
    vsphere_words: 50_000,
    wrapped_key: 5_000,
}
