use proptest::prelude::*;

use super::*;

type Payloads = Vec<(u16, Vec<u8>)>;

fn payloads() -> impl Strategy<Value = Payloads> {
    prop::collection::vec(
        (any::<u16>(), prop::collection::vec(any::<u8>(), 0..1200)),
        1..8,
    )
}

/// A log in which every frame was synced before the next, with the offset of each frame.
fn write(payloads: &Payloads) -> (Vec<u8>, Vec<usize>) {
    let (mut chain, mut log, mut starts) = (Chain::empty(), Vec::new(), Vec::new());
    for (kind, payload) in payloads {
        starts.push(log.len());
        log.extend(chain.append(*kind, payload).unwrap());
        chain.synced();
    }
    (log, starts)
}

fn read(log: &[u8]) -> Result<(Payloads, End), Corrupt> {
    let mut scanner = Scanner::new(log);
    let mut found = Vec::new();
    while let Some(frame) = scanner.read()? {
        found.push((frame.kind, frame.payload.to_vec()));
    }
    let end = if scanner.offset() == log.len() {
        End::Clean
    } else {
        End::Torn
    };
    Ok((found, end))
}

proptest! {
    #[test]
    fn what_is_appended_is_read_back(given in payloads()) {
        let (log, _) = write(&given);
        prop_assert_eq!(log.len() % ALIGN, 0);
        prop_assert_eq!(read(&log), Ok((given, End::Clean)));
    }

    #[test]
    fn a_log_cut_anywhere_keeps_every_whole_frame(given in payloads(), cut in any::<prop::sample::Index>()) {
        let (log, starts) = write(&given);
        let cut = cut.index(log.len());
        let whole = starts.iter().skip(1).chain([&log.len()]).filter(|end| **end <= cut).count();
        let end = if starts.contains(&cut) { End::Clean } else { End::Torn };
        prop_assert_eq!(read(&log[..cut]), Ok((given[..whole].to_vec(), end)));
    }

    #[test]
    fn one_flipped_bit_never_yields_a_wrong_frame(given in payloads(), bit in any::<prop::sample::Index>()) {
        let (mut log, starts) = write(&given);
        let bit = bit.index(log.len() * 8);
        log[bit / 8] ^= 1 << (bit % 8);
        let hit = starts.iter().rposition(|start| *start <= bit / 8).unwrap();
        if hit + 1 == given.len() {
            prop_assert_eq!(read(&log), Ok((given[..hit].to_vec(), End::Torn)));
        } else {
            prop_assert_eq!(read(&log).unwrap_err().offset, starts[hit]);
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let mut log = write(&vec![(1, b"first".to_vec())]).0;
        log.extend(&bytes);
        let _outcome = (decode(&bytes).is_ok(), read(&bytes).is_ok(), read(&log).is_ok());
    }
}

#[test]
fn a_group_that_lost_its_first_frame_to_a_power_cut_is_torn() {
    let (mut log, _) = write(&vec![(1, b"synced".to_vec())]);
    let mut chain = Scanner::new(&log).finish().unwrap().0;
    let group: Vec<_> = (2..5)
        .map(|kind| chain.append(kind, b"together").unwrap())
        .collect();
    log.extend(vec![0; group[0].len()]);
    log.extend(group[1..].concat());
    assert_eq!(read(&log), Ok((vec![(1, b"synced".to_vec())], End::Torn)));
}

#[test]
fn a_frame_after_the_group_was_synced_proves_damage() {
    let (mut log, _) = write(&vec![(1, b"synced".to_vec())]);
    let mut chain = Scanner::new(&log).finish().unwrap().0;
    let start = log.len();
    let group: Vec<_> = (2..5)
        .map(|kind| chain.append(kind, b"together").unwrap())
        .collect();
    chain.synced();
    log.extend(vec![0; group[0].len()]);
    log.extend(group[1..].concat());
    log.extend(chain.append(5, b"after").unwrap());
    assert_eq!(read(&log).unwrap_err().offset, start);
}

#[test]
fn a_frame_of_another_place_or_log_is_refused() {
    let (log, starts) = write(&vec![
        (1, b"a".to_vec()),
        (2, b"b".to_vec()),
        (3, b"c".to_vec()),
    ]);
    let swapped = [&log[..starts[1]], &log[starts[2]..]].concat();
    assert_eq!(
        read(&swapped).unwrap_err(),
        Corrupt {
            offset: starts[1],
            cause: None
        }
    );
}

#[test]
fn space_that_was_reserved_ahead_is_a_torn_tail() {
    let (mut log, _) = write(&vec![(7, b"x".to_vec())]);
    log.extend(vec![0; 4096]);
    assert_eq!(read(&log), Ok((vec![(7, b"x".to_vec())], End::Torn)));
}

#[test]
fn a_payload_beyond_the_bound_is_refused_and_moves_nothing() {
    let mut chain = Chain::empty();
    assert!(chain.append(1, &vec![0; MAX_PAYLOAD + 1]).is_err());
    assert_eq!(chain, Chain::empty());
    assert!(chain.append(1, &vec![0; MAX_PAYLOAD]).is_ok());
}

#[test]
fn a_newer_frame_stops_the_reader() {
    let mut frame = encode(1, FrameHash::GENESIS, 1, b"x").unwrap();
    frame[8] = 2;
    let crc = crc32c::crc32c(&frame[..HEADER_LEN - 4]).to_le_bytes();
    frame[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&crc);
    let newer = Error::TooNew {
        what: WHAT,
        found: 2,
        known: 1,
    };
    assert_eq!(
        read(&frame),
        Err(Corrupt {
            offset: 0,
            cause: Some(newer)
        })
    );
}
