//! Serde over values that know where they were set.
//!
//! Serde stops at the first fault. To find them all, a value with a fault is replaced by a
//! stand-in and the walk starts again; a configuration with any fault is never returned.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::fault::{ConfigFault, Faults};
use super::tree::{Node, Value};

/// After so many faults the file is not ours.
const FAULTS_MAX: usize = 200;

/// Texts that one or another setting takes; see [`Value::StandIn`].
const STAND_INS: &[&str] = &[
    "x",
    "1",
    "1s",
    "1B",
    "127.0.0.1:1",
    "127.0.0.1",
    "/x",
    "file:/x",
    "00000000-0000-7000-8000-000000000000",
    "",
];

/// Reads settings from `root`, or adds every fault it finds.
pub(super) fn read<S: DeserializeOwned>(mut root: Node, faults: &mut Faults) -> Option<S> {
    // Each round ends a fault or tries one more text for one stand-in.
    for _ in 0..FAULTS_MAX * STAND_INS.len() {
        let error = match S::deserialize(Walk(&root)) {
            Ok(settings) => return faults.is_empty().then_some(settings),
            Err(error) => error,
        };
        if !repair(&mut root, error, faults) || faults.len() >= FAULTS_MAX {
            return None;
        }
    }
    None
}

/// Notes `error` and puts something in its place; `false` when nothing fits there.
fn repair(root: &mut Node, error: Error, faults: &mut Faults) -> bool {
    let at = root.nearest(&error.path).at.clone();
    let key = error.path.join(".");
    if let What::Invalid(message) = &error.what {
        let mut node = root.nearest(&error.path).clone();
        if let Value::StandIn(tried) = &mut node.value {
            *tried += 1;
            return *tried < STAND_INS.len() && root.set(&error.path, node);
        }
        faults.push(ConfigFault::new(&at, &key, message));
    }
    match error.what {
        What::Invalid(_) => root.set(
            &error.path,
            Node {
                value: Value::StandIn(0),
                at,
            },
        ),
        What::Missing => {
            faults.push(ConfigFault::new(&at, &key, "this key is required"));
            root.set(
                &error.path,
                Node {
                    value: Value::StandIn(0),
                    at,
                },
            )
        }
        What::Unknown(expected) => {
            let known = expected.join(", ");
            let message = format!("there is no such key; known here: {known}");
            faults.push(ConfigFault::new(&at, &key, &message));
            root.remove(&error.path);
            true
        }
    }
}

/// One fault on the walk.
#[derive(Debug)]
struct Error {
    path: Vec<String>,
    what: What,
}

#[derive(Debug)]
enum What {
    Missing,
    Unknown(&'static [&'static str]),
    Invalid(String),
}

impl Error {
    fn under(mut self, key: &str) -> Self {
        self.path.insert(0, key.to_owned());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.what)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            path: Vec::new(),
            what: What::Invalid(message.to_string()),
        }
    }

    /// Does not repeat the value: somebody may have written a secret where its name belongs.
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Bool(_) => "a boolean",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a number",
            Unexpected::Float(_) => "a number with a point",
            Unexpected::Str(_) => "a text",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a section",
            _ => "something else",
        };
        Self::custom(format!("expected {expected}, found {found}"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self {
            path: vec![field.to_owned()],
            what: What::Unknown(expected),
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            path: vec![field.to_owned()],
            what: What::Missing,
        }
    }
}

/// Reads one value.
#[derive(Clone, Copy)]
struct Walk<'a>(&'a Node);

impl<'a> Walk<'a> {
    /// The text to read a loose value or a stand-in from.
    fn loose(self) -> Option<&'a str> {
        match &self.0.value {
            Value::Loose(text) => Some(text),
            Value::StandIn(tried) => STAND_INS.get(*tried).copied(),
            _ => None,
        }
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.loose() {
                Some(text) => match text.trim().parse::<$type>() {
                    Ok(number) => visitor.$visit(number),
                    Err(_) => Err(de::Error::invalid_type(Unexpected::Str(text), &visitor)),
                },
                None => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Walk<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) | Value::Loose(text) => visitor.visit_str(text),
            Value::List(list) => visitor.visit_seq(Items { list, next: 0 }),
            Value::Table(table) => visitor.visit_map(Entries {
                entries: table.iter(),
                value: None,
            }),
            Value::StandIn(_) => visitor.visit_str(self.loose().unwrap_or_default()),
        }
    }

    numbers!(
        deserialize_bool visit_bool bool,
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
        deserialize_f32 visit_f32 f32,
        deserialize_f64 visit_f64 f64
    );

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0.value {
            Value::StandIn(_) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0.value {
            // A list in the environment or a flag is written with commas.
            Value::Loose(text) => {
                let item = |text: &str| Node {
                    value: Value::Loose(text.trim().to_owned()),
                    at: self.0.at.clone(),
                };
                let list: Vec<Node> = text
                    .split(',')
                    .filter(|text| !text.trim().is_empty())
                    .map(item)
                    .collect();
                visitor.visit_seq(Items {
                    list: &list,
                    next: 0,
                })
            }
            Value::StandIn(_) => visitor.visit_seq(Items { list: &[], next: 0 }),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0.value {
            Value::StandIn(_) => {
                let nothing = std::collections::BTreeMap::new();
                visitor.visit_map(Entries {
                    entries: nothing.iter(),
                    value: None,
                })
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.0.value {
            Value::Text(text) | Value::Loose(text) => visitor.visit_enum(by_name(text)),
            Value::StandIn(_) => {
                visitor.visit_enum(by_name(variants.first().copied().unwrap_or_default()))
            }
            Value::Table(table) => visitor.visit_enum(MapAccessDeserializer::new(Entries {
                entries: table.iter(),
                value: None,
            })),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct identifier
        ignored_any
    }
}

fn by_name(name: &str) -> StrDeserializer<'_, Error> {
    name.into_deserializer()
}

struct Items<'a> {
    list: &'a [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let index = self.next;
        let Some(item) = self.list.get(index) else {
            return Ok(None);
        };
        self.next += 1;
        seed.deserialize(Walk(item))
            .map(Some)
            .map_err(|err| err.under(&index.to_string()))
    }
}

struct Entries<'a> {
    entries: std::collections::btree_map::Iter<'a, String, Node>,
    value: Option<(&'a str, &'a Node)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((key, node)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some((key, node));
        seed.deserialize(by_name(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, node) = self
            .value
            .take()
            .ok_or_else(|| de::Error::custom("a key is missing"))?;
        seed.deserialize(Walk(node)).map_err(|err| err.under(key))
    }
}
