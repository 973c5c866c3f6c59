use proptest::prelude::*;

use super::*;

const DATASET: DatasetId = DatasetId::from_bytes([0x44; 16]);

fn key() -> RecoveryKey {
    RecoveryKey(Secret::from_slice(&std::array::from_fn::<u8, 32, _>(|i| i as u8 * 7)).unwrap())
}

#[test]
fn the_text_is_the_one_of_the_format() {
    assert_eq!(
        *key().to_text().unwrap(),
        "SWRK1-003G-W58W-4CN3-2E1Z-8S6N-8PV2-D5R7-EZM5-HJ9S-N8D8-NYVB-VH6B-TBCJ-VZB0"
    );
}

#[test]
fn the_agreement_is_that_of_rfc_7748() {
    let decode = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
    let alice = decode("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    let key = RecoveryKey(Secret::from_slice(&alice).unwrap());
    let public = decode("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    assert_eq!(key.public().unwrap().as_bytes().as_slice(), public);
}

#[test]
fn a_wrapped_key_has_the_bytes_of_the_format() {
    let ephemeral = PrivateKey::from_private_key(&X25519, &[0x21; 32]).unwrap();
    let dataset_key = DatasetKey::from_slice(&[0x33; 32]).unwrap();
    let public = key().public().unwrap();
    let wrapped = public.wrap_with(&ephemeral, DATASET, &dataset_key).unwrap();
    assert_eq!(
        data_encoding::HEXLOWER.encode(&wrapped.as_bytes()[68..]),
        "aa2f3389ecb406e7d03993ad598cbe31e973e4b48bba90fe297fab86531a4cd30459e0ff4c6803b437b6f2819333d85c"
    );
    assert_eq!(key().unwrap(DATASET, &wrapped), Ok(dataset_key));
}

#[test]
fn the_text_is_read_the_way_people_type() {
    let text = key().to_text().unwrap();
    for typed in [
        text.to_lowercase(),
        text.replace('-', ""),
        text.replace('-', " \n"),
        text.replace('0', "O")
            .replace('1', "l")
            .replacen("SWRKl", "SWRK1", 1),
    ] {
        assert_eq!(typed.parse::<RecoveryKey>(), Ok(key()), "{typed}");
    }
}

#[test]
fn a_text_of_another_kind_or_length_is_refused() {
    let text = key().to_text().unwrap();
    for typed in [
        &text[..text.len() - 1],
        &text[1..],
        "",
        "SWRK1",
        &format!("{}0", *text),
    ] {
        assert!(
            matches!(
                typed.parse::<RecoveryKey>(),
                Err(SealError::RecoveryText(_))
            ),
            "{typed}"
        );
    }
}

#[test]
fn a_key_wrapped_for_one_dataset_or_owner_does_not_unwrap_for_another() {
    let dataset_key = DatasetKey::generate().unwrap();
    let wrapped = key().public().unwrap().wrap(DATASET, &dataset_key).unwrap();
    assert_eq!(key().unwrap(DATASET, &wrapped), Ok(dataset_key));
    assert!(
        key()
            .unwrap(DatasetId::from_bytes([0x45; 16]), &wrapped)
            .is_err()
    );
    assert!(
        RecoveryKey::generate()
            .unwrap()
            .unwrap(DATASET, &wrapped)
            .is_err()
    );
}

#[test]
fn debug_shows_no_secret() {
    assert_eq!(format!("{:?}", key()), "RecoveryKey([secret])");
}

proptest! {
    #[test]
    fn every_key_reads_back_and_every_single_typing_error_is_noticed(
        bytes in any::<[u8; 32]>(), at in 6..75usize, to in 0..32usize,
    ) {
        let key = RecoveryKey(Secret::from_slice(&bytes).unwrap());
        let text = key.to_text().unwrap();
        prop_assert_eq!(text.parse::<RecoveryKey>(), Ok(key));
        let mut typed: Vec<char> = text.chars().collect();
        let digit = "0123456789ABCDEFGHJKMNPQRSTVWXYZ".chars().nth(to).unwrap();
        if typed[at] != '-' && typed[at] != digit {
            typed[at] = digit;
            prop_assert!(typed.iter().collect::<String>().parse::<RecoveryKey>().is_err());
        }
    }

    #[test]
    fn any_changed_byte_of_a_wrapped_key_is_noticed(at in 0..WRAPPED_LEN, flip in 1..=255u8) {
        let dataset_key = DatasetKey::generate().unwrap();
        let wrapped = key().public().unwrap().wrap(DATASET, &dataset_key).unwrap();
        let mut bytes = wrapped.as_bytes().to_vec();
        bytes[at] ^= flip;
        let opened = WrappedDatasetKey::from_slice(&bytes)
            .and_then(|wrapped| key().unwrap(DATASET, &wrapped));
        prop_assert!(opened.is_err());
    }
}
