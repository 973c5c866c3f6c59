use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(block: &[u8], expected: &[u8]) {
    let mut output = vec![0xee; expected.len()];
    assert_eq!(decompress(block, &mut output), Ok(()));
    assert_eq!(output, expected);
    // Exactly means neither more nor less.
    output.push(0);
    assert_eq!(decompress(block, &mut output), Err(Error::Short));
    output.truncate(expected.len() - 1);
    assert_eq!(decompress(block, &mut output), Err(Error::Long));
}

#[test]
fn the_examples_of_the_format_are_taken_apart() {
    check(&[0x02, 0x41, 0x42, 0x43], b"ABC");
    check(&[0x03, 0x41, 0x42, 0x43, 0x44, 0x20, 0x02], b"ABCDBCD");
    check(&[0x00, 0x61, 0x40, 0x00], b"aaaaa");
    check(&[0x01, 0x44, 0x45, 0xe0, 0x01, 0x01], b"DEDEDEDEDEDE");
}

#[test]
fn the_longest_match_of_level_1_has_264_bytes() {
    check(&[0x00, 0x7a, 0xe0, 0xff, 0x00], &[0x7a; 265]);
    // The byte behind it is no continuation.
    let mut expected = [0x7a; 267];
    expected[265..].copy_from_slice(b"XY");
    check(&[0x00, 0x7a, 0xe0, 0xff, 0x00, 0x01, 0x58, 0x59], &expected);
}

#[test]
fn lengths_of_level_2_go_on_while_bytes_are_255() {
    // 1 literal, then 7 + 2 + 255 + 255 + 3.
    check(&[0x20, 0x7a, 0xe0, 0xff, 0xff, 0x03, 0x00], &[0x7a; 523]);
}

#[test]
fn distances_of_level_2_go_on_in_two_bytes() {
    let mut block = vec![0x20, b'S'];
    let mut expected = vec![b'S'];
    for _ in 0..(8192 + 0x0102) / 32 {
        block.push(31);
        block.extend([b'.'; 32]);
        expected.extend([b'.'; 32]);
    }
    block.extend([1, b'.', b'.']);
    expected.extend(*b"..");
    // The first byte of all is 8451 = 8192 + 0x0103 - 1 + 1 back.
    assert_eq!(expected.len(), 8451);
    block.extend([0x3f, 0xff, 0x01, 0x03]);
    expected.extend(*b"S..");
    check(&block, &expected);
    // One less reaches the byte after it; one more lies before the beginning.
    let end = block.len() - 1;
    block[end] = 0x02;
    let mut output = vec![0; expected.len()];
    assert_eq!(decompress(&block, &mut output), Ok(()));
    assert_eq!(output[8451..], *b"...");
    block[end] = 0x04;
    assert_eq!(decompress(&block, &mut output), Err(Error::Distance));
}

#[test]
fn what_is_no_block_is_refused() {
    let refused = |block: &[u8]| decompress(block, &mut [0; 64]).expect_err("refused");
    assert_eq!(refused(&[]), Error::Truncated);
    assert_eq!(refused(&[0x40, 0x61]), Error::Level(3));
    assert_eq!(refused(&[0xff, 0x61]), Error::Level(8));
    assert_eq!(refused(&[0x02, 0x41, 0x42]), Error::Truncated);
    assert_eq!(refused(&[0x00, 0x41, 0x20]), Error::Truncated);
    assert_eq!(refused(&[0x00, 0x41, 0xe0, 0x01]), Error::Truncated);
    assert_eq!(refused(&[0x20, 0x41, 0xe0, 0xff, 0xff]), Error::Truncated);
    assert_eq!(refused(&[0x20, 0x41, 0x3f, 0xff, 0x00]), Error::Truncated);
    assert_eq!(refused(&[0x00, 0x41, 0x20, 0x01]), Error::Distance);
    assert_eq!(refused(&[0x00, 0x41, 0xe0, 0x37, 0x00]), Error::Long);
}

/// Puts a block together in the simplest way that uses every instruction: the longest match among the
/// nearest distances and `far`, literals otherwise.
fn compress(data: &[u8], far: usize, is_level_2: bool) -> Vec<u8> {
    let mut block = Vec::new();
    let mut literals: Vec<u8> = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let (length, distance) = longest(data, at, far, is_level_2);
        // The first instruction must be a run.
        if length < 4 || (block.is_empty() && literals.is_empty()) {
            literals.push(data[at]);
            at += 1;
            continue;
        }
        run(&mut block, &mut literals);
        reference(&mut block, length, distance - 1, is_level_2);
        at += length;
    }
    run(&mut block, &mut literals);
    if is_level_2 {
        block[0] |= 1 << 5;
    }
    block
}

fn longest(data: &[u8], at: usize, far: usize, is_level_2: bool) -> (usize, usize) {
    let (reach, most) = match is_level_2 {
        true => (8192 + 65535, usize::MAX),
        false => (8192, 264),
    };
    let near = 1..=16;
    near.chain([far])
        .filter(|distance| *distance <= at.min(reach))
        .map(|distance| {
            let same = (at..data.len()).take_while(|i| data[*i] == data[*i - distance]);
            (same.count().min(most), distance)
        })
        .max_by_key(|(length, distance)| (*length, usize::MAX - distance))
        .unwrap_or((0, 0))
}

fn run(block: &mut Vec<u8>, literals: &mut Vec<u8>) {
    for run in literals.chunks(32) {
        block.push(run.len() as u8 - 1);
        block.extend(run);
    }
    literals.clear();
}

fn reference(block: &mut Vec<u8>, length: usize, distance: usize, is_level_2: bool) {
    let near = if is_level_2 {
        distance.min(8191)
    } else {
        distance
    };
    let high = (near >> 8) as u8;
    match length {
        3..=8 => block.push((length as u8 - 2) << 5 | high),
        _ => {
            block.push(7 << 5 | high);
            let mut rest = length - 9;
            while is_level_2 && rest >= 255 {
                block.push(255);
                rest -= 255;
            }
            block.push(rest as u8);
        }
    }
    block.push(near as u8);
    if is_level_2 && near == 8191 {
        block.extend(((distance - 8191) as u16).to_be_bytes());
    }
}

proptest! {
    // Each is some thousand bytes, searched in full.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_put_together_comes_out(
        data in prop::collection::vec(0..4u8, 1..700),
        far in 0..4usize,
        is_level_2: bool,
    ) {
        // Something to refer to from far away.
        let gap: Vec<u8> = (0..far * 4096).map(|i| (i * 7 % 251) as u8).collect();
        let far = data.len() + gap.len();
        let data = [&data[..], &gap, &data].concat();
        let mut output = vec![0; data.len()];
        let block = compress(&data, far, is_level_2);
        prop_assert_eq!(decompress(&block, &mut output), Ok(()));
        prop_assert!(output == data);
    }

}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        block in prop::collection::vec(any::<u8>(), 0..300),
        first in 0..64u8,
        room in 0..5000usize,
    ) {
        let block = [&[first][..], &block].concat();
        let mut output = vec![0; room];
        if decompress(&block, &mut output).is_ok() {
            // What a block says can be no shorter than its literals.
            prop_assert!(room > 0);
        }
    }
}
