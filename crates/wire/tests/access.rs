//! Every method of the three protocols has its roles, and they are those that its comment names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost::Message;
use prost_types::FileDescriptorSet;
use stillwater_rpc::{Access, allow, gaps};
use stillwater_types::Role;

struct Api {
    name: &'static str,
    access: &'static [Access],
    descriptors: &'static [u8],
}

const APIS: [Api; 3] = [
    Api {
        name: "controller",
        access: stillwater_controller_api::ACCESS,
        descriptors: stillwater_controller_api::FILE_DESCRIPTOR_SET,
    },
    Api {
        name: "proxy",
        access: stillwater_proxy_api::ACCESS,
        descriptors: stillwater_proxy_api::FILE_DESCRIPTOR_SET,
    },
    Api {
        name: "repository",
        access: stillwater_repository_api::ACCESS,
        descriptors: stillwater_repository_api::FILE_DESCRIPTOR_SET,
    },
];

#[test]
fn a_table_covers_every_method_and_nothing_else() {
    for api in APIS {
        let descriptors = FileDescriptorSet::decode(api.descriptors).expect("descriptors");
        assert_eq!(
            gaps(api.access, &descriptors),
            Vec::<String>::new(),
            "{}",
            api.name
        );
    }
}

#[test]
fn a_role_may_call_just_what_the_protocol_says() {
    for api in APIS {
        let told = told(api.name);
        assert_eq!(
            told.len(),
            api.access.len(),
            "{}: methods in the text",
            api.name
        );
        for (path, callers) in told {
            for role in Role::ALL {
                // What anybody may call names no callers.
                let expected = callers.is_empty() || callers.contains(role.as_str());
                assert_eq!(
                    allow(api.access, &path, Some(role)).is_ok(),
                    expected,
                    "{path} {role}"
                );
            }
            let anonymous = path.ends_with("/JoinCluster");
            assert_eq!(
                allow(api.access, &path, None).is_ok(),
                anonymous,
                "{path} anonymous"
            );
        }
    }
}

/// The callers that the comments of a role's protocol name, by method.
fn told(role: &str) -> BTreeMap<String, BTreeSet<String>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../proto/stillwater")
        .join(role);
    let mut told = BTreeMap::new();
    for entry in std::fs::read_dir(dir.join("v1")).expect("protos") {
        let text = std::fs::read_to_string(entry.expect("a proto").path()).expect("text");
        let (mut service, mut comment) = (String::new(), String::new());
        for line in text.lines().map(str::trim) {
            if let Some(words) = line.strip_prefix("//") {
                comment.push_str(words);
            } else if let Some(name) = line.strip_prefix("service ") {
                service = first_word(name);
                comment.clear();
            } else if let Some(method) = line.strip_prefix("rpc ") {
                let path = format!("/stillwater.{role}.v1.{service}/{}", first_word(method));
                told.insert(path, callers(&comment));
                comment.clear();
            } else {
                comment.clear();
            }
        }
    }
    told
}

fn callers(comment: &str) -> BTreeSet<String> {
    let named = comment
        .split("Callers: ")
        .nth(1)
        .and_then(|rest| rest.split('.').next());
    let words = named.into_iter().flat_map(|named| named.split(','));
    words.map(|caller| first_word(caller.trim())).collect()
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric()).collect()
}
