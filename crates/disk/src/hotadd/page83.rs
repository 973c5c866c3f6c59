//! A SCSI device's identification, vital product data page 0x83.

const PAGE: u8 = 0x83;
const HEADER: usize = 4;
const TYPE_NAA: u8 = 3;

/// The 16-byte NAA identifiers of the logical unit. A page that is cut short or contradicts itself
/// gives those before the fault.
pub fn naa_ids(page: &[u8]) -> Vec<[u8; 16]> {
    let Some(([_, PAGE, high, low], rest)) = page.split_first_chunk::<HEADER>() else {
        return Vec::new();
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let mut rest = rest.get(..length).unwrap_or(rest);
    let mut ids = Vec::new();
    while let Some(([_, kind, _, length], behind)) = rest.split_first_chunk::<HEADER>() {
        let Some((body, next)) = behind.split_at_checked(usize::from(*length)) else {
            break;
        };
        // Bits 4 and 5 are whom it names: the unit itself is 0.
        if kind & 0x3f == TYPE_NAA
            && let Ok(id) = body.try_into()
        {
            ids.push(id);
        }
        rest = next;
    }
    ids
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAA: [u8; 16] = [
        0x60, 0x00, 0xc2, 0x98, 0x5e, 0x4c, 0x10, 0x61, 0x42, 0x01, 0x7d, 0x92, 0x08, 0xa1, 0xb2,
        0xc3,
    ];

    fn page(designators: &[(u8, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, bytes) in designators {
            body.extend([1, *kind, 0, bytes.len() as u8]);
            body.extend(*bytes);
        }
        let mut page = vec![0, PAGE, 0, body.len() as u8];
        page.extend(body);
        page
    }

    #[test]
    fn the_naa_identifier_of_the_unit_is_found_among_others() {
        let t10 = b"VMware  Virtual disk".as_slice();
        assert_eq!(naa_ids(&page(&[(1, t10), (3, &NAA)])), [NAA]);
        // Of the port, and one of eight bytes.
        assert!(naa_ids(&page(&[(0x13, &NAA), (3, &NAA[..8])])).is_empty());
    }

    #[test]
    fn a_page_of_another_kind_or_cut_short_has_none() {
        let good = page(&[(3, &NAA)]);
        for cut in 0..good.len() {
            assert!(naa_ids(&good[..cut]).is_empty());
        }
        let mut other = good.clone();
        other[1] = 0x80;
        assert!(naa_ids(&other).is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in any::<Vec<u8>>(), with_head in any::<bool>()) {
            let mut page = if with_head { vec![0, PAGE, 0, 200] } else { Vec::new() };
            page.extend(&bytes);
            prop_assert!(naa_ids(&page).len() * 20 <= page.len());
        }
    }
}
