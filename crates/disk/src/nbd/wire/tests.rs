//! Bytes as `proto.md` of the NetworkBlockDevice project describes them, written by hand.

use proptest::prelude::*;

use super::*;

/// Hexadecimal digits, with spaces between fields.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|c| !c.is_ascii_whitespace()).collect();
    data_encoding::HEXLOWER.decode(&digits).expect("hex")
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    hex(text).try_into().expect("as long as it must be")
}

#[test]
fn the_fixed_newstyle_is_answered_and_nothing_else() {
    let hello = array("4e42444d41474943 49484156454f5054 0003");
    assert_eq!(greeting(&hello).expect("newstyle"), [0, 0, 0, 3]);
    let plain = array("4e42444d41474943 49484156454f5054 ff01");
    assert_eq!(greeting(&plain).expect("newstyle"), [0, 0, 0, 1]);
    for other in [
        // Newstyle that is not fixed, the old style, and no nbd at all.
        "4e42444d41474943 49484156454f5054 0002",
        "4e42444d41474943 00420281861253 0000 01",
        "5353482d322e302d 4f70656e5353485f 0001",
    ] {
        assert!(greeting(&array(other)).is_err(), "{other}");
    }
}

#[test]
fn options_are_written_as_the_protocol_says() {
    let starttls = "49484156454f5054 00000005 00000000";
    assert_eq!(option(OptionKind::STARTTLS, &[]), hex(starttls));
    let go = "49484156454f5054 00000007 0000000c 00000004 6469736b 0001 0003";
    assert_eq!(option(OptionKind::GO, &super::go("disk")), hex(go));
    let context = "49484156454f5054 0000000a 0000001f 00000004 6469736b 00000001 \
                   0000000f 626173653a616c6c6f636174696f6e";
    let data = meta_context("disk", "base:allocation");
    assert_eq!(option(OptionKind::SET_META_CONTEXT, &data), hex(context));
}

#[test]
fn requests_are_written_as_the_protocol_says() {
    let read = "25609513 0000 0000 0102030405060708 0000000000100000 00010000";
    let bytes = request(Command::READ, 0x0102_0304_0506_0708, 1 << 20, 65536);
    assert_eq!(bytes.to_vec(), hex(read));
    let status = "25609513 0000 0007 0000000000000001 0000000000000000 40000000";
    let bytes = request(Command::BLOCK_STATUS, 1, 0, 1 << 30);
    assert_eq!(bytes.to_vec(), hex(status));
}

#[test]
fn answers_to_options_are_read_and_bounded() {
    let reply = OptionReply::decode(&array("0003e889045565a9 00000007 00000003 0000000c"));
    let want = OptionReply {
        option: OptionKind::GO,
        answer: OptionAnswer::INFO,
        length: 12,
    };
    assert_eq!(reply.expect("a reply"), want);
    let unknown = OptionReply::decode(&array("0003e889045565a9 00000007 80000006 00000000"));
    let words = unknown.expect("a reply").answer.error();
    assert_eq!(words.as_deref(), Some("it has no such export"));
    for bad in [
        "0003e889045565aa 00000007 00000003 0000000c",
        "0003e889045565a9 00000007 00000003 00004001",
        "0003e889045565a9 00000007 00000003 ffffffff",
    ] {
        assert!(OptionReply::decode(&array(bad)).is_err(), "{bad}");
    }
}

#[test]
fn an_export_is_described_or_the_description_is_refused() {
    let export = Info::decode(&hex("0000 0000000000100000 0567")).expect("an export");
    let Info::Export { length, abilities } = export else {
        panic!("{export:?}");
    };
    assert_eq!(length, 1 << 20);
    assert!(abilities.is_read_only() && abilities.can_flush());
    assert!(abilities.can_zero() && abilities.can_multi_conn());
    // Without bit 0 no other means anything.
    assert!(!Abilities(0x0566).is_read_only());
    let sizes = Info::decode(&hex("0003 00000200 00001000 02000000")).expect("sizes");
    let want = Info::BlockSize {
        minimum: 512,
        maximum: 32 << 20,
    };
    assert_eq!(sizes, want);
    assert_eq!(Info::decode(&hex("0002 6869")).expect("words"), Info::Other);
    for bad in [
        "",
        "00",
        "0000 0000000000100000",
        "0000 0000000000100000 0567 00",
        "0000 8000000000000000 0567",
        "0003 00000000 00001000 02000000",
        "0003 00000300 00001000 02000000",
        "0003 00001000 00001000 00000200",
        "0003 00000200 00001000",
    ] {
        assert!(Info::decode(&hex(bad)).is_err(), "{bad}");
    }
}

#[test]
fn answers_are_told_apart() {
    let simple = Reply::decode(&array("67446698 00000005 0000000000000007"));
    let want = Reply::Simple {
        handle: 7,
        error: 5,
    };
    assert_eq!(simple.expect("a reply"), want);
    let chunk = Reply::decode(&array("668e33ef 0001 8002 0000000000000007")).expect("a chunk");
    let Reply::Chunk { handle, done, kind } = chunk else {
        panic!("{chunk:?}");
    };
    assert!(handle == 7 && done && kind.is_error());
    assert!(Reply::decode(&array("67446699 00000005 0000000000000007")).is_err());
}

#[test]
fn what_a_server_says_of_an_error_is_bounded_and_without_control_characters() {
    let (number, words) = chunk_error(&hex("00000005 0006 6f68 1b 0a 6e6f")).expect("an error");
    assert_eq!((number, words.as_str()), (5, "ohno"));
    let mut long = hex("00000005 ffff");
    long.extend([b'x'; 65535]);
    assert_eq!(chunk_error(&long).expect("an error").1.len(), 300);
    for bad in ["", "00000005", "00000005 0003 6f68", "00000000 0000"] {
        assert!(chunk_error(&hex(bad)).is_err(), "{bad}");
    }
}

#[test]
fn ranges_have_a_length_and_are_whole() {
    let bytes = hex("00000001 00010000 00000000 00020000 00000003");
    let want = (1, vec![(0x10000, 0), (0x20000, 3)]);
    assert_eq!(block_status(&bytes).expect("ranges"), want);
    for bad in [
        "",
        "00000001",
        "00000001 00010000",
        "00000001 00000000 00000000",
        "00000001 00010000 00000000 00",
    ] {
        assert!(block_status(&hex(bad)).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Some(head) = bytes.first_chunk() {
            prop_assert!(greeting(head).is_err());
        }
        if let Some(head) = bytes.first_chunk() && let Ok(reply) = OptionReply::decode(head) {
            prop_assert!(reply.length <= OPTION_REPLY_MAX);
        }
        if let Ok(Info::BlockSize { minimum, maximum }) = Info::decode(&bytes) {
            prop_assert!(minimum.is_power_of_two() && minimum <= maximum);
        }
        if let Ok((_, ranges)) = block_status(&bytes) {
            prop_assert!(ranges.len() * 8 + 4 == bytes.len());
        }
        if let Ok((_, words)) = chunk_error(&bytes) {
            prop_assert!(words.chars().count() <= 300);
        }
        prop_assert_eq!(context_reply(&bytes).is_ok(), bytes.len() >= 4);
    }
}
