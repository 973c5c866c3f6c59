//! What a host sends, from its first line to the fragments of a disk.

use stillwater_disk::nfc::assembly::Assembly;
use stillwater_disk::nfc::frame::{
    Access, FRAGMENT_BYTES_MAX, Fragment, HEADER_BYTES, Header, IoRequest, Kind, Opened,
    check_written,
};
use stillwater_disk::nfc::{authd, fastlz, session};

use super::{Target, leave};
use crate::seeds;

const HANDLE: u64 = 7;
const OFFSET: u64 = 1 << 33;
const LENGTH: u32 = 150_000;

/// Frames behind each other, as the answer to one read: whatever they say, no byte of it is written twice,
/// and it is whole only when each was written.
pub(super) const NFC_FRAMES: Target = Target {
    name: "nfc_frames",
    run: |bytes| {
        let mut answer = Answer {
            assembly: Assembly::new(OFFSET, LENGTH),
            buffer: vec![0; LENGTH as usize],
            came: vec![false; LENGTH as usize],
        };
        let mut rest = bytes;
        while let Some(behind) = answer.frame(rest) {
            rest = behind;
        }
        let is_whole = answer.came.iter().all(|came| *came);
        assert_eq!(answer.assembly.is_whole(), is_whole);
    },
    seeds: || {
        let whole = [(0, 65_536), (131_072, 18_928), (65_536, 65_536)];
        let odd = [(149_999, 1), (0, 100_000), (100_000, 7), (100_007, 49_992)];
        let packed = packed_fragment();
        let frames = [plain(&whole), plain(&odd), packed.clone()];
        let again = [plain(&[(0, 65_536)]), packed, plain(&[(512, 512)])].concat();
        frames.into_iter().chain([again]).collect()
    },
    mend: |bytes| {
        let magic = 0xa100_da7a_u32.to_le_bytes();
        if let Some(place) = bytes.first_chunk_mut() {
            *place = magic;
        }
    },
};

struct Answer {
    assembly: Assembly,
    buffer: Vec<u8>,
    came: Vec<bool>,
}

impl Answer {
    /// What is behind the first frame; none when there is none that is taken.
    fn frame<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let header = Header::decode(header).ok()?;
        assert_eq!(Header::decode(&header.encode()), Ok(header));
        let (payload, rest) = rest.split_at_checked(header.payload_bytes as usize)?;
        if header.kind == Kind::OpenFile {
            // Any capacity goes; it is held against the disk's.
            return Opened::decode(payload, Access::Write).ok().map(|_| rest);
        }
        if header.kind != Kind::Io {
            return Some(rest);
        }
        if check_written(payload).is_ok() {
            return Some(rest);
        }
        let fragment = Fragment::decode(payload, HANDLE).ok()?;
        assert!(fragment.plain_bytes <= FRAGMENT_BYTES_MAX);
        let (extra, rest) = rest.split_at_checked(fragment.extra_bytes as usize)?;
        let place = self.assembly.place(&fragment).ok()?;
        assert_eq!(place.len(), fragment.plain_bytes as usize);
        let came = &mut self.came[place.clone()];
        assert!(came.iter().all(|came| !came), "a byte came twice");
        came.fill(true);
        let buffer = &mut self.buffer[place];
        if fragment.is_compressed {
            fastlz::decompress(extra, buffer).ok()?;
        } else {
            buffer.copy_from_slice(extra);
        }
        Some(rest)
    }
}

/// The frames that a client sends for a write are those of a read's answer but for the opcode.
fn fragment(at: u32, plain_bytes: u32, compression: u8, extra: &[u8]) -> Vec<u8> {
    let request = IoRequest {
        operation: 4,
        handle: HANDLE,
        offset: OFFSET,
        length: LENGTH,
    };
    let mut frame = request.write_fragment(at, plain_bytes).to_vec();
    let payload = &mut frame[HEADER_BYTES..];
    (payload[8], payload[12]) = (1, compression);
    payload[36..40].copy_from_slice(&(extra.len() as u32).to_le_bytes());
    frame.extend(extra);
    frame
}

fn plain(parts: &[(u32, u32)]) -> Vec<u8> {
    let part = |(at, bytes): &(u32, u32)| fragment(*at, *bytes, 0, &vec![7; *bytes as usize]);
    parts.iter().flat_map(part).collect()
}

/// 264 bytes by level 1, 523 by level 2.
const BLOCKS: [(u32, &[u8]); 2] = [
    (265, &[0x00, 0x7a, 0xe0, 0xff, 0x00]),
    (523, &[0x20, 0x7a, 0xe0, 0xff, 0xff, 0x03, 0x00]),
];

fn packed_fragment() -> Vec<u8> {
    let [(first, block_1), (second, block_2)] = BLOCKS;
    [
        fragment(0, first, 2, block_1),
        fragment(first, second, 2, block_2),
    ]
    .concat()
}

/// A block behind the size that it should have.
pub(super) const NFC_FASTLZ: Target = Target {
    name: "nfc_fastlz",
    run: |bytes| {
        let Some((size, block)) = bytes.split_first_chunk::<2>() else {
            return;
        };
        let size = usize::from(u16::from_le_bytes(*size));
        let mut output = vec![0; size + 1];
        output[size] = 0xaa;
        if fastlz::decompress(block, &mut output[..size]).is_ok() {
            assert!(size > 0 && !block.is_empty());
            // It says the same whatever was there before.
            let mut again = vec![0xff; size];
            assert_eq!(fastlz::decompress(block, &mut again), Ok(()));
            assert!(again == output[..size]);
        }
        assert_eq!(output[size], 0xaa);
    },
    seeds: || {
        let example: &[u8] = &[0x03, 0x41, 0x42, 0x43, 0x44, 0x20, 0x02];
        let run = [[31; 33]; 265].concat();
        let far = [&[0x20, 7][..], &run, &[0x3f, 0xff, 0, 9]].concat();
        let mut seeds = vec![[&7u16.to_le_bytes(), example].concat()];
        seeds.extend(BLOCKS.map(|(size, block)| [&(size as u16).to_le_bytes(), block].concat()));
        seeds.push([&(1 + 265 * 32 + 3u16).to_le_bytes(), &far[..]].concat());
        seeds
    },
    mend: leave,
};

/// Lines and messages before frames begin.
pub(super) const NFC_SET_UP: Target = Target {
    name: "nfc_set_up",
    run: |bytes| {
        if let Ok(line) = authd::text(bytes) {
            assert!(!line.contains(['\r', '\n']));
            if authd::connected(line).is_some() || authd::thumbprint(line).is_some() {
                assert!(line.starts_with("200") && !authd::is_greeting(line));
            }
            if let Some(command) = authd::proxy(line) {
                assert!(command.ends_with("ssl\r\n") && command.lines().count() == 1);
            }
        }
        let mut message = [0; session::MESSAGE_BYTES];
        message
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
        if let Ok(version) = session::check_version(&message) {
            assert!(version >= session::VERSION);
        }
        let answers = [
            session::check_parameters(&message).is_ok(),
            session::check_version(&message).is_ok(),
            session::check_open_aio(&message).is_ok(),
        ];
        assert!(answers.iter().filter(|is_it| **is_it).count() <= 1);
    },
    seeds: || {
        let mut seeds = seeds::texts(&[
            "220 VMware Authentication Daemon Version 1.10: SSL Required, NFCSSL supported/t\r\n",
            &format!("200 {}\r\n", vec!["AB"; 32].join(":")),
            "200 Connect ha-nfcssl\r\n",
            "vpxa-nfc",
        ]);
        seeds.push(session::version().to_vec());
        seeds.push(session::open_aio().to_vec());
        seeds.push([&[36, 0, 0, 0][..], &[0; 12], &[1]].concat());
        seeds
    },
    mend: leave,
};
