//! Which VM this machine is, in vSphere's words.

use uuid::Uuid;

/// What `config.uuid` of the VM may be whose firmware says `product_uuid`, likeliest first.
///
/// The kernel reads the first three fields as little-endian numbers, vSphere prints the bytes as
/// they stand; firmware of old hardware versions had the kernel print them so too.
pub fn uuids_of_product(product_uuid: &str) -> Option<[Uuid; 2]> {
    let printed = Uuid::try_parse(product_uuid.trim()).ok()?;
    if printed.is_nil() || printed.is_max() {
        // Firmware without an identity.
        return None;
    }
    Some([Uuid::from_bytes(printed.to_bytes_le()), printed])
}

/// `config.uuid` of the VM whose serial number is such as
/// `VMware-56 4d 1a 2b 3c 4d 5e 6f-70 81 92 a3 b4 c5 d6 e7`.
pub fn uuid_of_serial(product_serial: &str) -> Option<Uuid> {
    let digits = product_serial.trim().strip_prefix("VMware-")?;
    let digits: String = digits.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    let uuid = Uuid::try_parse(&digits).ok()?;
    (digits.len() == 32 && !uuid.is_nil()).then_some(uuid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_three_fields_are_swapped() {
        let uuids = uuids_of_product("2B1A4D56-4D3C-6F5E-7081-92A3B4C5D6E7\n").expect("a uuid");
        assert_eq!(uuids[0].to_string(), "564d1a2b-3c4d-5e6f-7081-92a3b4c5d6e7");
        assert_eq!(uuids[1].to_string(), "2b1a4d56-4d3c-6f5e-7081-92a3b4c5d6e7");
    }

    #[test]
    fn the_serial_number_names_the_same_vm() {
        let serial = "VMware-56 4d 1a 2b 3c 4d 5e 6f-70 81 92 a3 b4 c5 d6 e7\n";
        let uuids = uuids_of_product("2b1a4d56-4d3c-6f5e-7081-92a3b4c5d6e7").expect("a uuid");
        assert_eq!(uuid_of_serial(serial), Some(uuids[0]));
    }

    #[test]
    fn what_names_no_vm_is_nothing() {
        for text in [
            "",
            "Not Settable",
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "2b1a4d56-4d3c-6f5e-7081",
        ] {
            assert_eq!(uuids_of_product(text), None, "{text}");
        }
        for text in ["", "VMware-", "56 4d", "VMware-56 4d 1a 2b", "VMware-{}"] {
            assert_eq!(uuid_of_serial(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn swapping_twice_is_nothing(bytes in any::<[u8; 16]>()) {
            let printed = Uuid::from_bytes(bytes);
            let once = uuids_of_product(&printed.to_string()).expect("a uuid")[0];
            let twice = uuids_of_product(&once.to_string()).expect("a uuid")[0];
            prop_assert_eq!(twice, printed);
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in "(VMware-)?[ -~é]{0,60}") {
            if let (Some([uuid, _]), None) = (uuids_of_product(&text), uuid_of_serial(&text)) {
                prop_assert!(!uuid.is_nil());
            }
        }
    }
}
