use futures::TryStreamExt;
use stillwater_repository_api::RecordType;

use super::*;
use crate::exports::tests::{Setup, setup};

/// Asks for a part and puts it together as a reader does.
async fn read(setup: &Setup, start: u64, length: u32) -> Result<Vec<u8>, Fault> {
    let parts: Vec<_> = ask(setup, start, length, false)?.try_collect().await?;
    let mut bytes = Vec::new();
    let mut sent = 0;
    for part in parts {
        match part {
            ExportRangePart::Data(data) => {
                let at = (data.offset_bytes - start) as usize;
                assert!(
                    at >= bytes.len() && (1..=EXPORT_DATA_BYTES_MAX).contains(&data.data.len())
                );
                bytes.resize(at, 0);
                bytes.extend_from_slice(&data.data);
                sent += data.data.len() as u64;
            }
            ExportRangePart::Finish(finish) => {
                assert_eq!(finish.data_bytes, sent);
                bytes.resize(length as usize, 0);
                return Ok(bytes);
            }
            ExportRangePart::Area(_) => panic!("data was asked for"),
        }
    }
    panic!("no finish")
}

fn ask(setup: &Setup, start: u64, length: u32, areas_only: bool) -> Result<Parts, Fault> {
    setup.exports.read_range(&ReadExportRangeRequest {
        export_id: setup.request.export_id,
        ticket: setup.request.ticket.clone(),
        offset_bytes: start,
        length_bytes: length,
        areas_only,
    })
}

#[tokio::test]
async fn any_part_is_what_the_disk_has_there() {
    let setup = setup(21).await;
    setup.open();
    let disk = &setup.reach.disk.bytes;
    let mut state = 5u64;
    let mut next = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 20) % below
    };
    for _ in 0..200 {
        let start = next(disk.len() as u64);
        let length = next(300_000).min(disk.len() as u64 - start);
        let part = read(&setup, start, length as u32).await.unwrap();
        assert!(
            part == disk[start as usize..(start + length) as usize],
            "{start}+{length}"
        );
    }
    let whole = read(&setup, 0, disk.len() as u32).await.unwrap();
    assert!(whole == *disk);
    // One after the other, in steps that no chunk has: the reader is stretched.
    for (start, part) in (0..).step_by(4096).zip(disk.chunks(4096)) {
        assert!(
            read(&setup, start, part.len() as u32).await.unwrap() == part,
            "{start}"
        );
    }
}

#[tokio::test]
async fn areas_cover_whatever_is_not_zero() {
    let setup = setup(22).await;
    setup.open();
    let disk = &setup.reach.disk.bytes;
    let parts: Vec<_> = ask(&setup, 0, disk.len() as u32, true)
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let (mut at, mut covered) = (0, 0);
    for part in &parts[..parts.len() - 1] {
        let ExportRangePart::Area(area) = part else {
            panic!("{part:?}")
        };
        assert!(area.offset_bytes > at || at == 0, "neighbours are one");
        assert!(
            disk[at as usize..area.offset_bytes as usize]
                .iter()
                .all(|byte| *byte == 0)
        );
        at = area.offset_bytes + area.length_bytes;
        covered += area.length_bytes;
    }
    assert!(disk[at as usize..].iter().all(|byte| *byte == 0));
    assert!(covered < disk.len() as u64, "the disk has holes");
    assert_eq!(
        parts.last(),
        Some(&ExportRangePart::Finish(ExportFinish { data_bytes: 0 }))
    );
}

#[tokio::test]
async fn whoever_read_once_asks_the_repository_for_chunks_alone() {
    let setup = setup(25).await;
    setup.open();
    read(&setup, 0, 512).await.unwrap();
    // The tree is read ahead meanwhile: nothing in this test makes that wait.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    for id in setup.reach.store.ids(RecordType::Node) {
        setup.reach.store.tamper(&id, |record| {
            record.record.stored = bytes::Bytes::new();
        });
    }
    let disk = &setup.reach.disk.bytes;
    let part = read(&setup, 0, disk.len() as u32).await.unwrap();
    assert!(part == *disk, "another content");
}

#[tokio::test]
async fn a_damaged_chunk_is_an_error_of_the_parts_that_have_it() {
    let setup = setup(23).await;
    setup.open();
    let length = setup.reach.disk.bytes.len() as u32;
    for id in setup.reach.store.ids(RecordType::Chunk) {
        setup.reach.store.tamper(&id, |record| {
            let mut stored = record.record.stored.to_vec();
            stored[0] ^= 1;
            record.record.stored = stored.into();
        });
    }
    let fault = read(&setup, 0, length).await.unwrap_err();
    assert_eq!(fault.reason, Reason::ChunkHashMismatch);
}

#[tokio::test]
async fn a_reader_of_parts_keeps_the_export_and_finishes_it() {
    let setup = setup(24).await;
    let open = || setup.exports.open(setup.request.clone()).unwrap();
    assert!(!open().reading);
    read(&setup, 0, 0).await.unwrap();
    assert!(
        open().reading && !open().completed,
        "a sign of life keeps it"
    );
    let other = Ticket::new([9; 32]);
    let refused = setup.exports.finish(setup.request.export_id, &other);
    assert_eq!(
        refused.map_err(|fault| fault.reason),
        Err(Reason::GrantInvalid)
    );
    setup
        .exports
        .finish(setup.request.export_id, &setup.request.ticket)
        .unwrap();
    setup
        .exports
        .finish(setup.request.export_id, &setup.request.ticket)
        .unwrap();
    assert!(open().completed);
    let after = ask(&setup, 0, 512, false)
        .map(|_| ())
        .map_err(|fault| fault.reason);
    assert_eq!(after, Err(Reason::GrantInvalid));
}

#[tokio::test]
async fn a_part_beyond_the_disk_is_refused() {
    let setup = setup(25).await;
    setup.open();
    let length = setup.reach.disk.bytes.len() as u64;
    for (start, count) in [
        (length, 1),
        (length - 1, 2),
        (u64::MAX, 1),
        (u64::MAX, u32::MAX),
    ] {
        let refused = ask(&setup, start, count, false)
            .map(|_| ())
            .map_err(|fault| fault.reason);
        assert_eq!(refused, Err(Reason::BadField), "{start}+{count}");
    }
}
