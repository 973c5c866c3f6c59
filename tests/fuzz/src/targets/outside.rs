//! What nodes, administrators and vCenters send.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use stillwater_chunking::{Cutter, CutterParams};
use stillwater_rpc::Token;
use stillwater_rpc::grant::{Expected, GRANT_BYTES, GrantVerifier, Verb};
use stillwater_rpc::signing::{SignedStatement, SigningKey};
use stillwater_types::{ChunkId, NodeId, PointId, TreeId, VmId};
use stillwater_vsphere::{ChangeId, Fingerprint, NewVm};

use super::{Target, leave};
use crate::seeds;

const SIGNATURE_BYTES: usize = 64;

/// What parses must print as a text that parses to the same.
fn check<T: std::str::FromStr + std::fmt::Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let printed = value.to_string();
        assert!(
            printed.parse::<T>().is_ok_and(|again| again == value),
            "{printed}"
        );
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

pub(super) const IDS: Target = Target {
    name: "ids",
    run: |bytes| {
        let text = text(bytes);
        check::<PointId>(text);
        check::<ChunkId>(text);
        check::<TreeId>(text);
        check::<VmId>(text);
    },
    seeds: || {
        let id = "019b0000-0001-7000-8000-000000000001";
        let hash = "7f".repeat(32);
        seeds::texts(&[id, &hash, &format!("{id}:vm-16"), &format!("{id}/vm-16")])
    },
    mend: leave,
};

pub(super) const CUTTER_NAME: Target = Target {
    name: "cutter_name",
    run: |bytes| {
        let text = text(bytes);
        check::<CutterParams>(text);
        if let Ok(params) = text.parse::<CutterParams>() {
            let cutter = Cutter::new(params, 7).expect("parameters that parse can be worked with");
            let length = cutter.first(&[0x5a; 70_000]);
            assert!((1..=70_000).contains(&length));
        }
    },
    seeds: || {
        seeds::texts(&[
            "block-v1/4096/16384/32768/131072",
            "fastcdc-v2020/16384/32768/131072",
            "fastcdc-v2020/64/256/2097152",
        ])
    },
    mend: leave,
};

pub(super) const JOIN_TOKEN: Target = Target {
    name: "join_token",
    run: |bytes| {
        if let Ok(token) = text(bytes).parse::<Token>() {
            assert!(!token.controller.is_empty());
            assert!(
                token
                    .to_text()
                    .parse::<Token>()
                    .is_ok_and(|again| again == token)
            );
        }
    },
    seeds: || {
        // Role, pin, secret and address in base64url.
        let body = format!("Aw{}", "A".repeat(84));
        seeds::texts(&[
            &format!("swt1.{body}OmxvY2FsaG9zdDo3NDAw"),
            "swt1.",
            "swt1.Aw",
        ])
    },
    mend: leave,
};

fn signing_key() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    KEY.get_or_init(|| SigningKey::generate().expect("randomness"))
}

/// Claims that the cluster's own key signed, whatever they say.
pub(super) const GRANT: Target = Target {
    name: "grant",
    run: |bytes| {
        let verifier = GrantVerifier::new(signing_key().public_key());
        let expected = Expected {
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            proxy: NodeId::from_bytes([1; 16]),
            repository: NodeId::from_bytes([2; 16]),
            verb: Verb::Read,
        };
        assert!(
            verifier.verify(bytes, &expected).is_err(),
            "a grant that nobody signed"
        );
        let signed = [bytes, &signing_key().sign(bytes)].concat();
        if let Ok(claims) = verifier.verify(&signed, &expected) {
            assert_eq!(signed.len(), GRANT_BYTES);
            assert_eq!(
                (claims.proxy, claims.repository),
                (expected.proxy, expected.repository)
            );
            assert!(claims.expires_at > 1_800_000_000 && claims.verbs.contains(Verb::Read));
        }
    },
    seeds: || {
        let mut body = b"stillwater grant v1\0\0\0\0\0".to_vec();
        for id in [3, 4, 5, 2, 1] {
            body.extend([id; 16]);
        }
        body.push(0b111);
        body.extend(1_900_000_000u64.to_le_bytes());
        body.truncate(GRANT_BYTES - SIGNATURE_BYTES);
        vec![body]
    },
    mend: leave,
};

pub(super) const SIGNED_STATEMENT: Target = Target {
    name: "signed_statement",
    run: |bytes| check::<SignedStatement>(text(bytes)),
    seeds: || {
        let mut statement = SignedStatement::new(b"SWSTATEMENT 1\r\n\0 and so on".to_vec());
        let plain = statement.to_string();
        statement.sign(signing_key());
        seeds::texts(&[&plain, &statement.to_string()])
    },
    mend: leave,
};

/// The configuration in a point, as a vCenter wrote it: all of the XML reader, and what makes a VM of it.
pub(super) const VM_CONFIG: Target = Target {
    name: "vm_config",
    run: |bytes| {
        if let Ok(vm) = NewVm::from_config(text(bytes), "web") {
            assert_eq!(vm.name, "web");
        }
    },
    seeds: || {
        let deep = format!("{}{}", "<a>".repeat(5000), "</a>".repeat(5000));
        let entity = "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>";
        seeds::texts(&[seeds::CONFIG_XML, "<a/>", entity, &deep])
    },
    mend: leave,
};

pub(super) const VSPHERE_WORDS: Target = Target {
    name: "vsphere_words",
    run: |bytes| {
        let text = text(bytes);
        check::<Fingerprint>(text);
        if let Some(id) = ChangeId::parse(text) {
            assert_eq!(ChangeId::parse(id.as_str()).as_ref(), Some(&id));
            assert!(id.same_tracking(&id));
        }
    },
    seeds: || {
        let print = vec!["ab"; 32].join(":");
        seeds::texts(&[
            &print,
            "52 00 11 22 33 44 55 66-77 88 99 aa bb cc dd ee/12",
            "*",
        ])
    },
    mend: leave,
};
