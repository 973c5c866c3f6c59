use proptest::prelude::*;
use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm};

use super::*;
use crate::PendingKey;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn ca() -> Ca {
    Ca::create(ClusterId::mint(), now()).expect("an authority")
}

fn issue(ca: &Ca, request: &[u8]) -> Result<String, Fault> {
    ca.issue(
        request,
        Role::Proxy,
        NodeId::from_bytes([7; 16]),
        NODE_VALIDITY,
        now(),
    )
}

fn leaf(chain: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(chain.as_bytes()).expect("a leaf")
}

fn request(
    algorithm: &'static SignatureAlgorithm,
    change: impl FnOnce(&mut CertificateParams),
) -> Vec<u8> {
    let key = KeyPair::generate_for(algorithm).expect("a key");
    let mut params = CertificateParams::default();
    change(&mut params);
    params
        .serialize_request(&key)
        .expect("a request")
        .der()
        .to_vec()
}

#[test]
fn a_leaf_says_who_its_holder_is_and_how_long() {
    let ca = ca();
    let (key, request) = PendingKey::generate().expect("a key");
    let identity = key
        .certify(&issue(&ca, &request).expect("a chain"))
        .expect("an identity");
    assert_eq!(
        (identity.role(), identity.cluster()),
        (Role::Proxy, ca.cluster())
    );
    assert_eq!(identity.node(), NodeId::from_bytes([7; 16]));
    assert_eq!(identity.ca_pin(), ca.spki_pin());
    assert_eq!(identity.not_before(), now() - CLOCK_SKEW);
    assert_eq!(identity.not_after(), now() + NODE_VALIDITY);
    let renew_at = now() + NODE_VALIDITY * 2 / 3;
    assert!(!identity.needs_renewal(renew_at - CLOCK_SKEW));
    assert!(identity.needs_renewal(renew_at));
}

#[test]
fn nothing_of_a_request_counts_but_its_key() {
    let ca = ca();
    let greedy = request(&PKCS_ECDSA_P256_SHA256, |params| {
        params.distinguished_name = common_name("stillwater controller".into());
        params.subject_alt_names = vec![
            dns_name(name::dns(Role::Controller)).expect("a name"),
            uri("spiffe://x/role/controller/y".into()).expect("a uri"),
        ];
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    });
    let chain = issue(&ca, &greedy).expect("a chain");
    let der = leaf(&chain);
    let (_, leaf) = X509Certificate::from_der(&der).expect("a leaf");
    let name = Name {
        cluster: ca.cluster(),
        role: Role::Proxy,
        node: NodeId::from_bytes([7; 16]),
    };
    assert_eq!(only_uri(&leaf), Some(name.to_string().as_str()));
    let names = leaf
        .subject_alternative_name()
        .expect("parses")
        .expect("has names");
    assert_eq!(names.value.general_names.len(), 2);
    assert!(
        names
            .value
            .general_names
            .contains(&GeneralName::DNSName("proxy.stillwater.internal"))
    );
    assert!(!leaf.is_ca());
    assert!(
        !leaf
            .key_usage()
            .expect("parses")
            .expect("has usages")
            .value
            .key_cert_sign()
    );
    assert!(!leaf.subject().to_string().contains("controller"));
}

#[test]
fn a_request_without_proof_or_with_another_kind_of_key_is_refused() {
    let ca = ca();
    let good = request(&PKCS_ECDSA_P256_SHA256, |_| {});
    assert!(issue(&ca, &good).is_ok());
    let mut unproven = good.clone();
    *unproven.last_mut().expect("bytes") ^= 1;
    for bad in [
        unproven,
        request(&PKCS_ED25519, |_| {}),
        request(&PKCS_ECDSA_P384_SHA384, |_| {}),
        good[..good.len() - 1].to_vec(),
        Vec::new(),
        vec![0x30; 9 << 10],
    ] {
        assert_eq!(
            issue(&ca, &bad).map_err(|fault| fault.reason),
            Err(Reason::BadField)
        );
    }
}

#[test]
fn an_authority_is_the_same_after_it_was_kept() {
    let one = ca();
    let again = Ca::from_pem(one.certificate_pem(), &one.key_pem()).expect("the same authority");
    assert_eq!(
        (again.cluster(), again.spki_pin()),
        (one.cluster(), one.spki_pin())
    );
    let (key, request) = PendingKey::generate().expect("a key");
    let identity = key
        .certify(&issue(&again, &request).expect("a chain"))
        .expect("an identity");
    assert_eq!(identity.ca_pin(), one.spki_pin());
}

#[test]
fn a_damaged_or_mixed_authority_is_refused() {
    let (one, two) = (ca(), ca());
    let leaf = issue(&one, &request(&PKCS_ECDSA_P256_SHA256, |_| {})).expect("a chain");
    for (certificate, key) in [
        (one.certificate_pem(), two.key_pem().as_str()),
        ("", one.key_pem().as_str()),
        (one.certificate_pem(), ""),
        (leaf.as_str(), one.key_pem().as_str()),
    ] {
        let reason = Ca::from_pem(certificate, key)
            .err()
            .map(|fault| fault.reason);
        assert_eq!(reason, Some(Reason::SecretUnreadable));
    }
}

#[test]
fn no_leaf_outlives_its_authority() {
    let ca = ca();
    let (key, request) = PendingKey::generate().expect("a key");
    let chain = ca
        .issue(
            &request,
            Role::Proxy,
            NodeId::mint(),
            NODE_VALIDITY,
            now() + CA_VALIDITY,
        )
        .expect("a chain");
    assert_eq!(leaf_end(&chain), now() + CA_VALIDITY);
    drop(key);
}

fn leaf_end(chain: &str) -> SystemTime {
    not_after(&leaf(chain)).expect("a leaf")
}

fn spki(chain: &str) -> Vec<u8> {
    let der = leaf(chain);
    let (_, leaf) = X509Certificate::from_der(&der).expect("a leaf");
    leaf.public_key().raw.to_vec()
}

proptest! {
    #[test]
    fn no_bytes_get_a_certificate_for_an_unproven_key(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        at in any::<prop::sample::Index>(),
        by in 1..=255u8,
    ) {
        let ca = ca();
        prop_assert!(issue(&ca, &bytes).is_err());
        let good = request(&PKCS_ECDSA_P256_SHA256, |_| {});
        let mut changed = good.clone();
        changed[at.index(good.len())] ^= by;
        // A few bytes say nothing, such as the parameters of an algorithm that has none.
        if let Ok(chain) = issue(&ca, &changed) {
            prop_assert_eq!(spki(&chain), spki(&issue(&ca, &good).expect("a chain")));
        }
    }
}
