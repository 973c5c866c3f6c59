use proptest::prelude::*;

use super::*;

/// Bytes that any implementation can make: `x = x * 6364136223846793005 + 1442695040888963407`
/// (modulo 2^64) from `seed`, the top byte of each `x`.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut x = seed;
    let mut step = || {
        x = x
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (x >> 56) as u8
    };
    (0..len).map(|_| step()).collect()
}

fn lengths(params: CutterParams, seed: u64, bytes: &[u8]) -> Vec<usize> {
    Cutter::new(params, seed)
        .unwrap()
        .chunks(bytes)
        .map(<[u8]>::len)
        .collect()
}

#[test]
fn the_block_cutter_cuts_where_the_format_says() {
    let bytes = noise(400_000, 1);
    let blocks: Vec<usize> = lengths(CutterParams::DISK, 7, &bytes);
    assert_eq!(
        blocks,
        [
            16384, 24576, 16384, 40960, 32768, 16384, 20480, 20480, 20480, 61440, 32768, 24576,
            16384, 40960, 14976
        ]
    );
    assert_ne!(blocks, lengths(CutterParams::DISK, 8, &bytes));
}

#[test]
fn fastcdc_cuts_where_the_format_says() {
    let bytes = noise(400_000, 1);
    let cuts = lengths(CutterParams::STREAM, 7, &bytes);
    assert_eq!(
        cuts,
        [
            37361, 37051, 47151, 46601, 43240, 36862, 39873, 17176, 79081, 15604
        ]
    );
    assert_ne!(cuts, lengths(CutterParams::STREAM, 8, &bytes));
}

#[test]
fn chunks_of_noise_have_the_average_length() {
    let bytes = noise(16 << 20, 3);
    // FastCDC aims at its average beyond the minimum that it skips, so it comes out longer.
    for (params, near) in [(CutterParams::DISK, 32_768), (CutterParams::STREAM, 41_500)] {
        let average = bytes.len() / lengths(params, 5, &bytes).len();
        assert!(average.abs_diff(near) < near / 20, "{params}: {average}");
    }
}

#[test]
fn a_cutter_reads_back_in_one_spelling() {
    for params in [CutterParams::DISK, CutterParams::STREAM] {
        assert_eq!(params.to_string().parse(), Ok(params));
    }
    assert_eq!(
        CutterParams::DISK.to_string(),
        "block-v1/4096/16384/32768/131072"
    );
    assert_eq!(
        CutterParams::STREAM.to_string(),
        "fastcdc-v2020/16384/32768/131072"
    );
}

#[test]
fn unknown_cutters_and_impossible_parameters_are_refused() {
    for text in [
        "",
        "block-v2/4096/16384/32768/131072",
        "block-v1/512/16384/32768/131072",
        "block-v1/4096/16384/32768",
        "block-v1/4096/16384/32768/131072/1",
        "block-v1/4096/016384/32768/131072",
        "block-v1/4096/+16384/32768/131072",
        "block-v1/4096/0/32768/131072",
        "block-v1/4096/16384/8192/131072",
        "block-v1/4096/16384/32768/131073",
        "block-v1/4096/16384/32768/4194304",
        "block-v1/4096/16384/32768/99999999999999999999999",
        "fastcdc-v2020/16385/32768/131072",
        "fastcdc-v2020/16384/30000/131072",
        "fastcdc-v2020/2/32768/131072",
    ] {
        assert!(text.parse::<CutterParams>().is_err(), "{text}");
    }
    assert!(
        Cutter::new(
            CutterParams::Block {
                min: 1,
                average: 2,
                max: 3
            },
            0
        )
        .is_err()
    );
}

proptest! {
    #[test]
    fn chunks_together_are_the_bytes_and_keep_their_bounds(
        len in 0..600_000usize, seed in any::<u64>(), content in any::<u64>(), stream in any::<bool>(),
    ) {
        let params = if stream { CutterParams::STREAM } else { CutterParams::DISK };
        let bytes = noise(len, content);
        let cutter = Cutter::new(params, seed).unwrap();
        let chunks: Vec<&[u8]> = cutter.chunks(&bytes).collect();
        prop_assert_eq!(&chunks.concat(), &bytes);
        if let Some((_, whole)) = chunks.split_last() {
            prop_assert!(whole.iter().all(|chunk| (16_384..=131_072).contains(&chunk.len())));
        }
        prop_assert!(chunks.iter().all(|chunk| (1..=131_072).contains(&chunk.len())));
    }
}
