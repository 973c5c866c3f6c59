use proptest::prelude::*;

use super::*;

/// Bytes from hexadecimal, as they stand in the tables: blanks are for reading only.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("two digits"))
        .collect()
}

#[test]
fn frames_without_data_are_byte_for_byte_what_the_tables_say() {
    let zeros = "00000000";
    let session = format!("7ada00a1 02000000 10000000 00000000 {}", zeros.repeat(4));
    assert_eq!(open_session(0), hex(&session));
    let options = format!("7ada00a1 09000000 0c000000 01000000 {}", zeros.repeat(3));
    assert_eq!(socket_options(1), hex(&options));
    let pool = hex("7ada00a1 16000000 04000000 02000000 01000000");
    assert_eq!(resource_pool(2), pool);
    let file = hex("7ada00a1 05000000 08000000 2c010000 8877665544332211");
    assert_eq!(close_file(300, 0x1122_3344_5566_7788), file);
    let session = hex("7ada00a1 03000000 04000000 2d010000 00000000");
    assert_eq!(close_session(301), session);
}

#[test]
fn a_disk_is_opened_byte_for_byte_as_the_table_says() {
    let path = "[datastore1] vm/vm-000002.vmdk";
    let expected = |flags: &str| {
        let mut bytes = hex(&format!(
            "7ada00a1 04000000 3c000000 03000000 \
             1e000000 00000000 00000000 00000000 02000000 {flags}000000 {}",
            "00".repeat(36)
        ));
        bytes.extend(path.as_bytes());
        bytes
    };
    assert_eq!(open_file(3, path, Access::Read), expected("1e"));
    assert_eq!(open_file(3, path, Access::Write), expected("1a"));
}

const OPENED: &str = "00000000 00000000 8877665544332211 02000000 1e000000 00000000 \
                      0000005002000000 00020000 0000000000000000000000000000000000000000";

#[test]
fn an_opened_disk_is_read_as_the_table_says() {
    let payload = hex(OPENED);
    assert_eq!(payload.len(), 60);
    let expected = Opened {
        handle: 0x1122_3344_5566_7788,
        capacity: 0x2_5000_0000,
        sector_bytes: 512,
    };
    assert_eq!(Opened::decode(&payload, Access::Read), Ok(expected));
    assert_eq!(Opened::decode(&payload[..40], Access::Read), Ok(expected));
}

#[test]
fn a_disk_that_is_not_opened_as_asked_is_refused() {
    let changed = |at: usize, byte| {
        let mut payload = hex(OPENED);
        payload[at] = byte;
        Opened::decode(&payload, Access::Read)
    };
    assert_eq!(changed(16, 3), Err(Violation::FileType(3)));
    assert_eq!(changed(37, 0), Err(Violation::SectorSize(0)));
    assert_eq!(changed(37, 3), Err(Violation::SectorSize(768)));
    let payload = hex(OPENED);
    assert_eq!(
        Opened::decode(&payload, Access::Write),
        Err(Violation::Flags(0x1e))
    );
    assert_eq!(
        Opened::decode(&payload[..39], Access::Read),
        Err(Violation::PayloadSize { kind: 4, bytes: 39 })
    );
}

const REQUEST: IoRequest = IoRequest {
    operation: 4,
    handle: 0x1122_3344_5566_7788,
    offset: 0x0000_0001_0020_0000,
    length: 0x0012_0000,
};

#[test]
fn a_read_is_byte_for_byte_what_the_table_says() {
    let expected = |compression: &str| {
        hex(&format!(
            "7ada00a1 07000000 2c000000 04000000 \
             8877665544332211 01000000 {compression}000000 0000200001000000 \
             0000120000000000 00001200 00001200 00000000"
        ))
    };
    assert_eq!(REQUEST.read(false)[..], expected("00"));
    assert_eq!(REQUEST.read(true)[..], expected("02"));
}

#[test]
fn a_fragment_of_a_write_is_byte_for_byte_what_the_table_says() {
    let expected = hex("7ada00a1 07000000 2c000000 04000000 \
         8877665544332211 0000000000000000 0000200001000000 \
         00001200 00001000 00000100 00000100 00000000");
    assert_eq!(REQUEST.write_fragment(0x10_0000, 0x1_0000)[..], expected);
}

/// A fragment of 512 bytes at 64 KiB of a request of 1 MiB at 5 GiB.
const FRAGMENT: &str = "0000000000000000 0100000000000000 0000004001000000 \
                        00001000 00000100 00020000 00020000 00000000";

#[test]
fn a_fragment_is_read_as_the_table_says() {
    let mut payload = hex(FRAGMENT);
    let plain = Fragment {
        offset: 5 << 30,
        total: 1 << 20,
        at: 1 << 16,
        plain_bytes: 512,
        extra_bytes: 512,
        is_compressed: false,
    };
    assert_eq!(Fragment::decode(&payload, 7), Ok(plain));
    payload[12] = 2;
    payload[36] = 9;
    payload[37] = 0;
    let compressed = Fragment {
        extra_bytes: 9,
        is_compressed: true,
        ..plain
    };
    assert_eq!(Fragment::decode(&payload, 7), Ok(compressed));
}

#[test]
fn the_handle_in_a_fragment_is_left_out_or_ours() {
    let mut payload = hex(FRAGMENT);
    payload[0] = 7;
    assert!(Fragment::decode(&payload, 7).is_ok());
    assert_eq!(Fragment::decode(&payload, 8), Err(Violation::Handle(7)));
}

#[track_caller]
fn refused(changes: &[(usize, u32)]) -> Violation {
    let mut payload = hex(FRAGMENT);
    for (at, number) in changes {
        payload[*at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
    Fragment::decode(&payload, 7).expect_err("refused")
}

#[test]
fn a_fragment_that_announces_what_it_may_not_is_refused() {
    let size = |violation| matches!(violation, Violation::FragmentSize { .. });
    assert!(size(refused(&[(32, 0), (36, 0)])), "empty");
    assert!(size(refused(&[(32, 65537), (36, 65537)])), "too large");
    assert!(size(refused(&[(36, 511)])), "less than it says");
    assert!(size(refused(&[(36, u32::MAX)])), "more than it says");
    assert!(size(refused(&[(12, 2), (36, 0)])), "compressed to nothing");
    let too_long = COMPRESSED_BYTES_MAX + 1;
    assert!(size(refused(&[(12, 2), (36, too_long)])), "compressed");
    assert_eq!(refused(&[(8, 0)]), Violation::Opcode(0));
    assert_eq!(refused(&[(8, 2)]), Violation::Opcode(2));
    assert_eq!(refused(&[(12, 1)]), Violation::Opcode(1 << 32 | 1));
    let short = Fragment::decode(&hex(FRAGMENT)[..43], 7);
    assert_eq!(short, Err(Violation::PayloadSize { kind: 7, bytes: 43 }));
}

#[test]
fn the_reply_to_a_write_says_that_it_is_one() {
    let mut payload = [0; 44];
    assert_eq!(check_written(&payload), Ok(()));
    // The last fragment's numbers, repeated, are no data.
    payload[36] = 200;
    assert_eq!(check_written(&payload), Ok(()));
    payload[8] = 1;
    assert_eq!(check_written(&payload), Err(Violation::Opcode(1)));
    let short = Err(Violation::PayloadSize { kind: 7, bytes: 43 });
    assert_eq!(check_written(&payload[..43]), short);
}

#[test]
fn a_header_that_is_none_is_refused() {
    let good = hex("7ada00a1 07000000 2c000000 04000000");
    let decode = |at: usize, byte| {
        let mut bytes: [u8; 16] = good.clone().try_into().expect("a header");
        bytes[at] = byte;
        Header::decode(&bytes)
    };
    assert!(decode(0, 0x7a).is_ok());
    assert_eq!(decode(0, 0x7b), Err(Violation::Magic(0xa100_da7b)));
    assert_eq!(decode(4, 99), Err(Violation::Type(99)));
    assert_eq!(
        decode(11, 1),
        Err(Violation::PayloadSize {
            kind: 7,
            bytes: 0x0100_002c
        })
    );
    assert!(decode(9, 3).is_ok());
    assert!(decode(9, 4).is_err(), "more than 1 KiB");
}

proptest! {
    #[test]
    fn a_header_reads_what_it_wrote(kind in 0..8usize, payload_bytes in 0..1025u32, operation: u32) {
        let header = Header { kind: Kind::ALL[kind], payload_bytes, operation };
        prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn no_payload_makes_a_decoder_panic(payload in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(fragment) = Fragment::decode(&payload, 7) {
            prop_assert!((1..=65536).contains(&fragment.plain_bytes));
            prop_assert!(fragment.extra_bytes <= COMPRESSED_BYTES_MAX);
        }
        if let Ok(opened) = Opened::decode(&payload, Access::Read) {
            prop_assert!(opened.sector_bytes.is_power_of_two());
        }
    }
}
