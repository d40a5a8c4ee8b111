//! What rows of JSON look like: types found by looking at every value.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::rows::syntax_fault;
use crate::fault::Fault;

/// The fields of an object: what is known of each, in the order in which they were first seen.
#[derive(Debug, Default)]
pub(super) struct Shape {
    names: BTreeMap<String, usize>,
    fields: Vec<(String, Seen)>,
}

/// What is known of a value.
#[derive(Debug, Default)]
struct Seen {
    kind: Kind,
    /// The file in which it was first seen to be a list or an object, or to be neither.
    file: Option<Arc<str>>,
}

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Null,
    Scalar(Scalar),
    List(Box<Seen>),
    Object(Shape),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Bool,
    Int,
    Float,
    Text,
}

impl Scalar {
    fn widen(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Int | Self::Float, Self::Int | Self::Float) => Self::Float,
            _ => Self::Text,
        }
    }
}

/// A value that has a structure in one place and another, or none, in another place.
#[derive(Debug)]
pub(super) struct Conflict {
    pub(super) path: String,
    /// File and what it is there.
    pub(super) one: (String, &'static str),
    pub(super) other: (String, &'static str),
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Scalar(Scalar::Bool) => "a boolean",
            Self::Scalar(Scalar::Int | Scalar::Float) => "a number",
            Self::Scalar(Scalar::Text) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

impl Shape {
    /// Takes in one row, which starts at `offset` of the text.
    pub(super) fn observe(&mut self, row: &[u8], offset: usize) -> Result<(), Fault> {
        let mut json = serde_json::Deserializer::from_slice(row);
        let observed = ObjectSeed { shape: self, path: "" }.deserialize(&mut json).and_then(|()| json.end());
        observed.map_err(|error| {
            syntax_fault(row, offset).unwrap_or_else(|| {
                let text = error.to_string();
                Fault::new(offset, text.split(" at line ").next().unwrap_or_default())
            })
        })
    }

    /// Takes in the rows of another file.
    pub(super) fn merge(&mut self, other: Self, file: &str) -> Result<(), Conflict> {
        self.merge_at(other, &Arc::from(file), "")
    }

    fn merge_at(&mut self, other: Self, file: &Arc<str>, path: &str) -> Result<(), Conflict> {
        for (name, seen) in other.fields {
            let path = join(path, &name);
            self.field(&name).merge(seen, file, &path)?;
        }
        Ok(())
    }

    fn field(&mut self, name: &str) -> &mut Seen {
        let at = match self.names.get(name) {
            Some(at) => *at,
            None => {
                self.names.insert(name.to_owned(), self.fields.len());
                self.fields.push((name.to_owned(), Seen::default()));
                self.fields.len() - 1
            }
        };
        &mut self.fields[at].1
    }

    /// The fields as Arrow has them, all nullable.
    pub(super) fn fields(&self) -> Fields {
        let typed = self.fields.iter().filter_map(|(name, seen)| Some(Field::new(name, seen.data_type()?, true)));
        typed.collect()
    }
}

impl Seen {
    /// `None` for an object that never had a field: there is nothing in it to read.
    fn data_type(&self) -> Option<DataType> {
        Some(match &self.kind {
            Kind::Null | Kind::Scalar(Scalar::Text) => DataType::Utf8,
            Kind::Scalar(Scalar::Bool) => DataType::Boolean,
            Kind::Scalar(Scalar::Int) => DataType::Int64,
            Kind::Scalar(Scalar::Float) => DataType::Float64,
            Kind::List(item) => DataType::new_list(item.data_type()?, true),
            Kind::Object(shape) => match shape.fields() {
                fields if fields.is_empty() => return None,
                fields => DataType::Struct(fields),
            },
        })
    }

    fn merge(&mut self, other: Self, file: &Arc<str>, path: &str) -> Result<(), Conflict> {
        let was_null = matches!(self.kind, Kind::Null);
        match (&mut self.kind, other.kind) {
            (_, Kind::Null) => return Ok(()),
            (mine @ Kind::Null, theirs) => *mine = theirs,
            (Kind::Scalar(mine), Kind::Scalar(theirs)) => *mine = mine.widen(theirs),
            (Kind::List(mine), Kind::List(theirs)) => mine.merge(*theirs, file, &format!("{path}[]"))?,
            (Kind::Object(mine), Kind::Object(theirs)) => mine.merge_at(theirs, file, path)?,
            (mine, theirs) => {
                let first = self.file.as_deref().unwrap_or_default().to_owned();
                return Err(Conflict {
                    path: path.to_owned(),
                    one: (first, mine.name()),
                    other: (file.to_string(), theirs.name()),
                });
            }
        }
        if was_null {
            self.claim(file);
        }
        Ok(())
    }

    /// Notes that everything below comes from `file`, where nothing is noted yet.
    fn claim(&mut self, file: &Arc<str>) {
        self.file.get_or_insert_with(|| Arc::clone(file));
        match &mut self.kind {
            Kind::List(item) => item.claim(file),
            Kind::Object(shape) => shape.fields.iter_mut().for_each(|(_, seen)| seen.claim(file)),
            Kind::Null | Kind::Scalar(_) => {}
        }
    }

    fn scalar<E: serde::de::Error>(&mut self, scalar: Scalar, path: &str) -> Result<(), E> {
        match &mut self.kind {
            Kind::Null => self.kind = Kind::Scalar(scalar),
            Kind::Scalar(mine) => *mine = mine.widen(scalar),
            other => return Err(conflict(path, other, &Kind::Scalar(scalar))),
        }
        Ok(())
    }
}

fn conflict<E: serde::de::Error>(path: &str, before: &Kind, now: &Kind) -> E {
    E::custom(format!("`{path}` is {} here and {} in an earlier row; declare a schema", now.name(), before.name()))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

struct ObjectSeed<'a> {
    shape: &'a mut Shape,
    path: &'a str,
}

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ObjectSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            map.next_value_seed(ValueSeed { seen: self.shape.field(&name), parent: self.path, name: &name })?;
        }
        Ok(())
    }
}

/// Looks at one value. The path is put together only when it is needed.
struct ValueSeed<'a> {
    seen: &'a mut Seen,
    parent: &'a str,
    name: &'a str,
}

impl ValueSeed<'_> {
    fn path(&self) -> String {
        if self.name == "[]" { format!("{}[]", self.parent) } else { join(self.parent, self.name) }
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        let path = self.path();
        self.seen.scalar(Scalar::Bool, &path)
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        let path = self.path();
        self.seen.scalar(Scalar::Int, &path)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        let path = self.path();
        self.seen.scalar(if i64::try_from(value).is_ok() { Scalar::Int } else { Scalar::Text }, &path)
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        let path = self.path();
        self.seen.scalar(Scalar::Float, &path)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        let path = self.path();
        self.seen.scalar(Scalar::Text, &path)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let path = self.path();
        if matches!(self.seen.kind, Kind::Null) {
            self.seen.kind = Kind::List(Box::default());
        }
        let Kind::List(item) = &mut self.seen.kind else {
            return Err(conflict(&path, &self.seen.kind, &Kind::List(Box::default())));
        };
        while items.next_element_seed(ValueSeed { seen: item, parent: &path, name: "[]" })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let path = self.path();
        if matches!(self.seen.kind, Kind::Null) {
            self.seen.kind = Kind::Object(Shape::default());
        }
        let Kind::Object(shape) = &mut self.seen.kind else {
            return Err(conflict(&path, &self.seen.kind, &Kind::Object(Shape::default())));
        };
        ObjectSeed { shape, path: &path }.visit_map(map)
    }
}
