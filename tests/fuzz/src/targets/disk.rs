//! What servers of disks, datastores and devices say.

use stillwater_disk::file::flat_extent;
use stillwater_disk::hotadd::{naa_ids, uuid_of_serial, uuids_of_product};
use stillwater_disk::nbd::{Assembly, CommandLine, Handshake, Step, Wishes, wire};
use stillwater_types::Extent;

use super::{Target, leave};
use crate::seeds;

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// A whole conversation before the transmission. The first byte decides whether TLS is wished.
pub(super) const NBD_HANDSHAKE: Target = Target {
    name: "nbd_handshake",
    run: |bytes| {
        let Some((first, mut words)) = bytes.split_first() else {
            return;
        };
        let tls = first & 1 != 0;
        let wishes = Wishes {
            export: "disk".into(),
            tls,
        };
        let mut handshake = Handshake::new(wishes).expect("a good name");
        let (mut secured, mut said) = (false, 0);
        loop {
            assert!(handshake.wanted() <= wire::OPTION_REPLY_MAX as usize);
            let Some((next, rest)) = words.split_at_checked(handshake.wanted()) else {
                return;
            };
            words = rest;
            let Ok(steps) = handshake.take(next) else {
                return;
            };
            for step in steps {
                match step {
                    Step::Read(bytes) => assert_eq!(bytes, handshake.wanted()),
                    Step::Send(bytes) => {
                        said += 1;
                        let named = bytes.windows(4).any(|part| part == b"disk");
                        assert!(!named || secured == tls, "the export is named without tls");
                    }
                    Step::StartTls => secured = true,
                    Step::Done(export) => {
                        assert_eq!(secured, tls, "tls was asked for");
                        assert!(export.block_bytes.is_power_of_two());
                        assert!(said <= 5 && i64::try_from(export.length).is_ok());
                        return;
                    }
                }
            }
        }
    },
    seeds: || [conversation(false), conversation(true)].to_vec(),
    mend: leave,
};

/// A server that agrees to everything.
fn conversation(tls: bool) -> Vec<u8> {
    let mut words = vec![u8::from(tls)];
    words.extend(b"NBDMAGICIHAVEOPT\0\x03");
    let mut answer = |option: u32, kind: u32, body: &[u8]| {
        words.extend(0x0003_e889_0455_65a9_u64.to_be_bytes());
        words.extend(option.to_be_bytes());
        words.extend(kind.to_be_bytes());
        words.extend(u32::try_from(body.len()).unwrap_or_default().to_be_bytes());
        words.extend(body);
    };
    if tls {
        answer(5, 1, &[]);
    }
    answer(8, 1, &[]);
    answer(10, 4, b"\0\0\0\x01base:allocation");
    answer(10, 1, &[]);
    answer(7, 3, b"\0\0\0\0\0\0\0\x10\0\0\x01\x05");
    answer(7, 3, b"\0\x03\0\0\x02\0\0\0\x10\0\x02\0\0\0");
    answer(7, 1, &[]);
    words
}

/// The words of the transmission, each by itself.
pub(super) const NBD_WORDS: Target = Target {
    name: "nbd_words",
    run: |bytes| {
        if let Some(head) = bytes.first_chunk()
            && let Ok(reply) = wire::OptionReply::decode(head)
        {
            assert!(reply.length <= wire::OPTION_REPLY_MAX);
        }
        if let Some(head) = bytes.first_chunk::<{ wire::REPLY_LEN }>() {
            drop(wire::Reply::decode(head));
        }
        if let Ok((_, ranges)) = wire::block_status(bytes) {
            assert_eq!(ranges.len() * 8 + 4, bytes.len());
            assert!(ranges.iter().all(|(length, _)| *length > 0));
        }
        if let Ok((number, words)) = wire::chunk_error(bytes) {
            assert!(number != 0 && words.chars().count() <= 300);
        }
        if let Ok(wire::Info::BlockSize { minimum, maximum }) = wire::Info::decode(bytes) {
            assert!(minimum.is_power_of_two() && minimum <= maximum);
        }
    },
    seeds: || {
        vec![
            b"\x67\x44\x66\x98\0\0\0\x05\0\0\0\0\0\0\0\x07".to_vec(),
            b"\x66\x8e\x33\xef\0\x01\x80\x02\0\0\0\0\0\0\0\x07".to_vec(),
            b"\0\0\0\x01\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\x03".to_vec(),
            b"\0\0\0\x05\0\x04oops".to_vec(),
            b"\0\x03\0\0\x02\0\0\0\x10\0\x02\0\0\0".to_vec(),
        ]
    },
    mend: leave,
};

/// Parts of an answer: sixteen bytes each, offset and length.
pub(super) const NBD_PARTS: Target = Target {
    name: "nbd_parts",
    run: |bytes| {
        let asked = Extent::new(4096, 65_536);
        let mut assembly = Assembly::new(asked);
        let mut noted = 0;
        for part in bytes.as_chunks::<16>().0 {
            let number = |half: &[u8]| half.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            let (offset, length) = part.split_at(8);
            let (offset, length) = (number(offset), number(length));
            if let Ok(place) = assembly.part(offset, length) {
                assert!(place.end <= 65_536 && place.len() as u64 == length);
                assert_eq!(place.start as u64 + 4096, offset);
                noted += length;
            }
        }
        assert_eq!(assembly.answered().bytes(), noted);
        assert_eq!(assembly.is_whole(), noted == asked.length);
    },
    seeds: || {
        let parts = |parts: &[(u64, u64)]| {
            let bytes = parts
                .iter()
                .map(|(offset, length)| [offset.to_be_bytes(), length.to_be_bytes()].concat());
            bytes.flatten().collect()
        };
        vec![
            parts(&[(4096, 65_536)]),
            parts(&[(36_864, 32_768), (4096, 32_768)]),
            parts(&[(4096, 512), (5120, 512), (4608, 512)]),
        ]
    },
    mend: leave,
};

pub(super) const SCSI_PAGE: Target = Target {
    name: "scsi_page",
    run: |bytes| assert!(naa_ids(bytes).len() * 20 <= bytes.len()),
    seeds: || {
        let mut page = b"\0\x83\0\x20\x02\x01\0\x08VMware  \x01\x03\0\x10".to_vec();
        page.extend(0x6000_c298_5e4c_1061_4201_7d92_08a1_b2c3_u128.to_be_bytes());
        vec![page]
    },
    mend: leave,
};

/// Texts that tell a disk or a machine, and what an administrator wrote.
pub(super) const DISK_WORDS: Target = Target {
    name: "disk_words",
    run: |bytes| {
        let text = text(bytes);
        if let Ok(extent) = flat_extent(text) {
            assert!(text.contains(&extent.name) && !extent.name.contains('/'));
            assert!(extent.bytes.is_multiple_of(512));
        }
        if let Some([swapped, printed]) = uuids_of_product(text) {
            assert_eq!(swapped.to_bytes_le(), printed.into_bytes());
        }
        if let Some(uuid) = uuid_of_serial(text) {
            assert!(!uuid.is_nil());
        }
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        if CommandLine::parse(&words).is_ok() {
            assert!(text.starts_with('/') && text.contains("{socket}"));
        }
    },
    seeds: || {
        seeds::texts(&[
            "version=1\nCID=8f1c02aa\nparentCID=ffffffff\ncreateType=\"vmfs\"\nRW 8192 VMFS \"web-flat.vmdk\"\n",
            "2b1a4d56-4d3c-6f5e-7081-92a3b4c5d6e7",
            "VMware-56 4d 1a 2b 3c 4d 5e 6f-70 81 92 a3 b4 c5 d6 e7",
            "/usr/sbin/nbdkit -f -U {socket} vddk file={file} password=+{password_file} {{}}",
        ])
    },
    mend: leave,
};
