use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn claims() -> Claims {
    Claims {
        grant: [1; 16],
        run: RunId::from_bytes([2; 16]),
        dataset: DatasetId::from_bytes([3; 16]),
        repository: NodeId::from_bytes([4; 16]),
        proxy: NodeId::from_bytes([5; 16]),
        verbs: [Verb::Find, Verb::Put].into(),
        expires_at: 1_000,
    }
}

fn expected() -> Expected {
    Expected {
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(999),
        proxy: claims().proxy,
        repository: claims().repository,
        verb: Verb::Put,
    }
}

fn pair() -> (GrantSigner, GrantVerifier) {
    let signer = GrantSigner::generate().expect("the system has randomness");
    let verifier = GrantVerifier::new(signer.public_key());
    (signer, verifier)
}

#[track_caller]
fn refused(verifier: &GrantVerifier, grant: &[u8], expected: &Expected, why: &str) {
    let fault = verifier
        .verify(grant, expected)
        .expect_err("a grant that must not pass");
    assert_eq!(fault.reason, Reason::GrantInvalid);
    assert!(fault.message.contains(why), "{fault}");
}

#[test]
fn a_grant_says_what_was_signed() {
    let (signer, verifier) = pair();
    let grant = signer.sign(&claims());
    assert_eq!(grant.len(), GRANT_BYTES);
    assert_eq!(verifier.verify(&grant, &expected()), Ok(claims()));
}

#[test]
fn a_key_that_was_kept_still_signs() {
    let (signer, verifier) = pair();
    let again = GrantSigner::from_pkcs8(&signer.to_pkcs8()).expect("the key we kept");
    assert_eq!(
        verifier.verify(&again.sign(&claims()), &expected()),
        Ok(claims())
    );
    let fault = GrantSigner::from_pkcs8(b"nonsense")
        .err()
        .map(|fault| fault.reason);
    assert_eq!(fault, Some(Reason::SecretUnreadable));
}

#[test]
fn every_forged_claim_breaks_the_signature() {
    let (signer, verifier) = pair();
    let signed = signer.sign(&claims());
    let forgeries: [fn(&mut Claims); 7] = [
        |claims| claims.grant = [9; 16],
        |claims| claims.run = RunId::from_bytes([9; 16]),
        |claims| claims.dataset = DatasetId::from_bytes([9; 16]),
        |claims| claims.repository = NodeId::from_bytes([9; 16]),
        |claims| claims.proxy = NodeId::from_bytes([9; 16]),
        |claims| claims.verbs = [Verb::Find, Verb::Put, Verb::Read].into(),
        |claims| claims.expires_at = u64::MAX,
    ];
    for forge in forgeries {
        let mut forged = claims();
        forge(&mut forged);
        let mut grant = forged.encode();
        grant.extend_from_slice(&signed[BODY_BYTES..]);
        refused(&verifier, &grant, &expected(), "not signed");
    }
}

#[test]
fn another_controllers_grant_is_refused() {
    let (stranger, _) = pair();
    let (_, verifier) = pair();
    refused(
        &verifier,
        &stranger.sign(&claims()),
        &expected(),
        "not signed",
    );
}

#[test]
fn a_grant_ends_with_its_last_second() {
    let (signer, verifier) = pair();
    let grant = signer.sign(&claims());
    let late = Expected {
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000),
        ..expected()
    };
    refused(&verifier, &grant, &late, "expired");
}

#[test]
fn a_grant_helps_only_its_proxy_at_its_repository_for_its_verbs() {
    let (signer, verifier) = pair();
    let grant = signer.sign(&claims());
    let other = NodeId::from_bytes([9; 16]);
    refused(
        &verifier,
        &grant,
        &Expected {
            proxy: other,
            ..expected()
        },
        "another proxy",
    );
    refused(
        &verifier,
        &grant,
        &Expected {
            repository: other,
            ..expected()
        },
        "another repository",
    );
    refused(
        &verifier,
        &grant,
        &Expected {
            verb: Verb::Read,
            ..expected()
        },
        "does not allow",
    );
}

proptest! {
    #[test]
    fn a_grant_with_any_byte_changed_or_cut_is_refused(at in 0..GRANT_BYTES, by in 1..=255u8) {
        let (signer, verifier) = pair();
        let mut grant = signer.sign(&claims());
        prop_assert!(verifier.verify(&grant[..at], &expected()).is_err());
        grant[at] ^= by;
        prop_assert!(verifier.verify(&grant, &expected()).is_err());
    }
}

#[test]
fn a_grant_that_passed_before_passes_for_nothing_else() {
    let (signer, verifier) = pair();
    let grant = signer.sign(&claims());
    let verifier_elsewhere = verifier.clone();
    assert_eq!(verifier.verify(&grant, &expected()), Ok(claims()));
    assert_eq!(verifier_elsewhere.verify(&grant, &expected()), Ok(claims()));
    let late = Expected {
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000),
        ..expected()
    };
    refused(&verifier, &grant, &late, "expired");
    let reader = Expected {
        verb: Verb::Read,
        ..expected()
    };
    refused(&verifier, &grant, &reader, "does not allow");
    for at in 0..grant.len() {
        let mut changed = grant.clone();
        changed[at] ^= 1;
        refused(&verifier, &changed, &expected(), "not signed");
    }
}

#[test]
fn more_grants_than_are_remembered_all_pass() {
    let (signer, verifier) = pair();
    for round in 0..2 {
        for name in 0..=u8::try_from(PROVED).expect("a small number") {
            let claims = Claims {
                grant: [name; 16],
                ..claims()
            };
            let grant = signer.sign(&claims);
            assert_eq!(verifier.verify(&grant, &expected()), Ok(claims), "{round}");
        }
    }
    assert_eq!(verifier.proved.lock().expect("no panic").len(), PROVED);
}
