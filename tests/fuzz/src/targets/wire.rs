//! What nodes send one another: every message that a call takes or answers.
//!
//! The messages are made from the protocols' own descriptions, so that none is forgotten: a call that is
//! added is thrown at as well, or the list of arrivals lacks it and the seeds cannot be made.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use stillwater_wire::arrive::Arrival;

use super::{Target, leave};
use crate::random::Random;

/// Deeper messages are left empty.
const DEPTH_MAX: u32 = 6;
/// How many are drawn of a message until one is taken.
const DRAWS: u64 = 4000;

struct Protocol {
    description: &'static [u8],
    arrive: fn(&str, &[u8]) -> Option<Arrival>,
}

const PROTOCOLS: [Protocol; 3] = [
    Protocol {
        description: stillwater_controller_api::FILE_DESCRIPTOR_SET,
        arrive: stillwater_controller_api::arrive,
    },
    Protocol {
        description: stillwater_proxy_api::FILE_DESCRIPTOR_SET,
        arrive: stillwater_proxy_api::arrive,
    },
    Protocol {
        description: stillwater_repository_api::FILE_DESCRIPTOR_SET,
        arrive: |message, bytes| {
            if message == "PutPackRequest" {
                stillwater_repository_api::arrive_part(bytes);
            }
            stillwater_repository_api::arrive(message, bytes)
        },
    },
];

/// The first two bytes say of which protocol and which message the others are.
pub(super) const MESSAGES: Target = Target {
    name: "messages",
    run: |bytes| {
        let Some(([protocol, message], bytes)) = bytes.split_first_chunk::<2>() else {
            return;
        };
        let place = usize::from(*protocol) % PROTOCOLS.len();
        let names = &names()[place];
        let name = &names[usize::from(*message) % names.len()];
        let arrival = (PROTOCOLS[place].arrive)(name, bytes);
        assert!(arrival.is_some(), "{name} is in no list of arrivals");
    },
    seeds,
    mend: leave,
};

/// One good message of each kind and one that was drawn at random.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (place, protocol) in PROTOCOLS.iter().enumerate() {
        let types = Types::of(protocol);
        for (number, name) in names()[place].iter().enumerate() {
            let draw = |seed| types.draw(&mut Random::new(seed), name);
            let is_taken = |bytes: &Vec<u8>| (protocol.arrive)(name, bytes) == Some(Arrival::Taken);
            let good = (1..DRAWS).map(draw).find(is_taken);
            let good = good.unwrap_or_else(|| panic!("no {name} that was drawn is taken"));
            for bytes in [good, draw(0)] {
                seeds.push([&[place as u8, number as u8], bytes.as_slice()].concat());
            }
        }
    }
    seeds
}

/// The messages of calls, by protocol.
fn names() -> &'static [Vec<String>; 3] {
    static NAMES: OnceLock<[Vec<String>; 3]> = OnceLock::new();
    NAMES.get_or_init(|| {
        PROTOCOLS
            .each_ref()
            .map(|protocol| calls(&described(protocol)))
    })
}

fn described(protocol: &Protocol) -> FileDescriptorSet {
    FileDescriptorSet::decode(protocol.description).expect("the protocol's own description")
}

fn calls(set: &FileDescriptorSet) -> Vec<String> {
    let services = set.file.iter().flat_map(|file| &file.service);
    let methods = services.flat_map(|service| &service.method);
    let named: BTreeSet<_> = methods
        .flat_map(|method| [method.input_type(), method.output_type()])
        .map(|name| last(name).to_owned())
        .collect();
    named.into_iter().collect()
}

/// The last part of a name with dots.
fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Messages and enums by the last part of their names.
struct Types {
    messages: Vec<DescriptorProto>,
    enums: Vec<EnumDescriptorProto>,
}

impl Types {
    fn of(protocol: &Protocol) -> Self {
        let (mut messages, mut enums) = (Vec::new(), Vec::new());
        for file in described(protocol).file {
            enums.extend(file.enum_type);
            messages.extend(file.message_type);
        }
        let mut at = 0;
        while let Some(message) = messages.get(at) {
            let (inner, words) = (message.nested_type.clone(), message.enum_type.clone());
            messages.extend(inner);
            enums.extend(words);
            at += 1;
        }
        Self { messages, enums }
    }

    fn draw(&self, random: &mut Random, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.put_message(random, name, DEPTH_MAX, &mut bytes);
        bytes
    }

    fn put_message(&self, random: &mut Random, name: &str, depth: u32, out: &mut Vec<u8>) {
        let found = self.messages.iter().find(|message| message.name() == name);
        let Some(message) = found.filter(|_| depth > 0) else {
            return;
        };
        let choices: Vec<_> = (0..message.oneof_decl.len())
            .map(|place| {
                let of_choice =
                    |field: &&FieldDescriptorProto| field.oneof_index == Some(place as i32);
                let fields: Vec<_> = message.field.iter().filter(of_choice).collect();
                random.pick(&fields).map(|field| field.number())
            })
            .collect();
        for field in &message.field {
            let chosen = field
                .oneof_index
                .is_none_or(|place| choices[place as usize] == Some(field.number()));
            // A text may be left out, which for many of them means that there is none.
            if !chosen || random.below(24) == 0 {
                continue;
            }
            let repeated = field.label() == Label::Repeated;
            for _ in 0..if repeated { random.below(3) } else { 1 } {
                self.put_field(random, field, depth, out);
            }
        }
    }

    fn put_field(
        &self,
        random: &mut Random,
        field: &FieldDescriptorProto,
        depth: u32,
        out: &mut Vec<u8>,
    ) {
        let number = field.number() as u32;
        let mut inner = Vec::new();
        match field.r#type() {
            Type::Message => match last(field.type_name()) {
                // Seconds of 2027, or a few of a span.
                "Timestamp" => put_number(1, 1_800_000_000, &mut inner),
                "Duration" => put_number(1, 30, &mut inner),
                name => self.put_message(random, name, depth - 1, &mut inner),
            },
            Type::String => inner.extend(text(random, field.name()).bytes()),
            Type::Bytes => {
                let lengths = [32, 32, 32, 16, 64, 96, 116, 177, 1, 181];
                let length = random.pick(&lengths).copied().unwrap_or_default();
                let noise = (0..length).map(|_| random.next() as u8 % 2);
                inner.extend(noise);
            }
            Type::Enum => {
                let words = self.enums.iter();
                let found = words
                    .clone()
                    .find(|word| word.name() == last(field.type_name()));
                let numbers: Vec<_> = found
                    .map(|word| word.value.iter().map(|value| value.number()).collect())
                    .unwrap_or_default();
                let picked = random.pick(&numbers[1.min(numbers.len())..]).copied();
                return put_number(number, picked.unwrap_or_default() as u64, out);
            }
            Type::Bool => return put_number(number, random.below(2) as u64, out),
            _ => {
                let number_of = [1, 2, 4096, 1 << 20].map(|edge| edge + random.below(2) as u64);
                let picked = random.pick(&number_of).copied();
                return put_number(number, picked.unwrap_or_default(), out);
            }
        }
        encode_key(number, WireType::LengthDelimited, out);
        encode_varint(inner.len() as u64, out);
        out.append(&mut inner);
    }
}

fn put_number(field: u32, number: u64, out: &mut Vec<u8>) {
    encode_key(field, WireType::Varint, out);
    encode_varint(number, out);
}

/// A text that fits a field of that name more often than not.
fn text(random: &mut Random, field: &str) -> String {
    let id = format!("019b0000-000{}-7000-8000-000000000001", random.below(10));
    let is_id = field.ends_with("id") || field.ends_with("ids") || field == "proxy";
    let others = [
        "a text",
        "vm-16",
        "BAD_FIELD",
        "block-v1/4096/16384/32768/131072",
        "127.0.0.1:7401",
        "9",
    ];
    if field == "vm_id" && random.below(4) > 0 {
        let between = random.pick(&[':', '/']).copied().unwrap_or_default();
        return format!("{id}{between}vm-16");
    }
    let other = random.pick(&others).copied().unwrap_or_default().to_owned();
    match random.below(4) {
        0 if is_id => other,
        _ if is_id => id,
        0 => id,
        _ => other,
    }
}
