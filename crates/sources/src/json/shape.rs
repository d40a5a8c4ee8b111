//! Infers the types of JSON rows from every value.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::keys;
use super::rows::syntax_fault;
use crate::fault::Fault;
use crate::kind::Kind as Scalar;

/// The fields of an object and what is known about each, in the order of first occurrence.
#[derive(Debug, Default)]
pub(super) struct Shape {
    names: BTreeMap<String, usize>,
    fields: Vec<(String, ValueShape)>,
    /// Fields by their names in lower case.
    folded: BTreeMap<String, Vec<usize>>,
    /// The number of objects, and for each field the last of them that had it.
    objects: u64,
    last: Vec<u64>,
    /// Two fields of one object whose names differ only in case.
    both: Option<(usize, usize)>,
    /// The fields' types that are given.
    told: GivenTypes,
}

/// Given types of fields, by name in lower case.
pub(super) type GivenTypes = Arc<[(String, DataType)]>;

/// What is known about a value.
#[derive(Debug, Default)]
struct ValueShape {
    kind: Kind,
    /// The first file in which it was a list or an object, or neither.
    file: Option<Arc<str>>,
}

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Null,
    Scalar(Scalar),
    List(Box<ValueShape>),
    Object(Shape),
    /// Read as text, whatever it is, because its type is given as text.
    Anything,
}

/// A value with a structure in one place and a different one, or none, in another.
#[derive(Debug)]
pub(super) struct Conflict {
    pub(super) path: String,
    /// The file, and what the value is there.
    pub(super) one: (String, &'static str),
    pub(super) other: (String, &'static str),
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Scalar(Scalar::Bool) => "a boolean",
            Self::Scalar(Scalar::Int | Scalar::Long | Scalar::Float) => "a number",
            Self::Scalar(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
            Self::Anything => "anything",
        }
    }

    /// The shape of this object, or of the objects in this list.
    fn inner(&self) -> Option<&Shape> {
        match self {
            Self::Object(shape) => Some(shape),
            Self::List(item) => item.kind.inner(),
            Self::Null | Self::Scalar(_) | Self::Anything => None,
        }
    }
}

impl Shape {
    /// A shape of objects with some given types.
    pub(super) fn told(told: &GivenTypes) -> Self {
        Self { told: Arc::clone(told), ..Self::default() }
    }

    fn told_of(&self, name: &str) -> Option<&DataType> {
        self.told.iter().find(|(told, _)| *told == name.to_lowercase()).map(|(_, of)| of)
    }

    /// Adds one row, which starts at `offset` of the text.
    pub(super) fn observe(&mut self, row: &[u8], offset: usize) -> Result<(), Fault> {
        let mut json = serde_json::Deserializer::from_slice(row);
        let mixed = Cell::default();
        let root = ObjectSeed { shape: self, path: "", depth: 0, mixed: &mixed };
        let observed = root.deserialize(&mut json).and_then(|()| json.end());
        observed.map_err(|error| {
            syntax_fault(row, offset).or_else(|| keys::fault(row, offset, None)).unwrap_or_else(|| {
                let text = error.to_string();
                let fault = Fault::new(offset, text.split(" at line ").next().unwrap_or_default());
                mixed.take().into_iter().fold(fault, |fault, path| fault.hint(hint(&path)))
            })
        })
    }

    /// Adds the rows of another file.
    pub(super) fn merge(&mut self, other: Self, file: &str) -> Result<(), Conflict> {
        self.merge_at(other, &Arc::from(file), "")
    }

    fn merge_at(&mut self, other: Self, file: &Arc<str>, path: &str) -> Result<(), Conflict> {
        let both = other.both.map(|(one, two)| (other.fields[one].0.clone(), other.fields[two].0.clone()));
        for (name, seen) in other.fields {
            let path = join(path, &name);
            let at = self.field(&name);
            self.fields[at].1.merge(seen, file, &path)?;
        }
        if let Some((one, two)) = both {
            self.both = Some((self.field(&one), self.field(&two)));
        }
        Ok(())
    }

    /// The index of the field of this name.
    fn field(&mut self, name: &str) -> usize {
        if let Some(at) = self.names.get(name) {
            return *at;
        }
        let at = self.fields.len();
        self.names.insert(name.to_owned(), at);
        self.folded.entry(name.to_lowercase()).or_default().push(at);
        let kind = if self.told_of(name).is_some_and(DataType::is_string) { Kind::Anything } else { Kind::Null };
        self.fields.push((name.to_owned(), ValueShape { kind, file: None }));
        self.last.push(0);
        at
    }

    /// Checks whether the object that just ended has a field in two spellings.
    fn object_ends(&mut self) {
        if self.both.is_none() && self.folded.len() < self.fields.len() {
            let has = |at: &&usize| self.last[**at] == self.objects;
            self.both = self.folded.values().find_map(|spellings| {
                let mut had = spellings.iter().filter(has);
                Some((*had.next()?, *had.next()?))
            });
        }
    }

    /// Two names of one object that differ only in case.
    pub(super) fn in_two_spellings(&self) -> Option<(&str, &str)> {
        let own = self.both.map(|(one, two)| (self.fields[one].0.as_str(), self.fields[two].0.as_str()));
        own.or_else(|| self.fields.iter().find_map(|(_, seen)| seen.kind.inner()?.in_two_spellings()))
    }

    /// Whether objects spell a field differently.
    pub(super) fn is_spelled_differently(&self) -> bool {
        let inner = |(_, seen): &(String, ValueShape)| seen.kind.inner().is_some_and(Self::is_spelled_differently);
        self.folded.len() < self.fields.len() || self.fields.iter().any(inner)
    }

    /// Unites fields whose names differ only in case, under the first spelling.
    pub(super) fn united(self, path: &str) -> Result<Self, Conflict> {
        let mut united = Self { told: self.told, ..Self::default() };
        for (name, seen) in self.fields {
            let path = join(path, &name);
            let first = united.folded.get(&name.to_lowercase()).and_then(|spellings| spellings.first()).copied();
            let at = first.unwrap_or_else(|| united.field(&name));
            let file = seen.file.clone().unwrap_or_else(|| Arc::from(""));
            united.fields[at].1.merge(seen, &file, &path)?;
        }
        // The contents of two spellings are united, too.
        for (name, seen) in &mut united.fields {
            *seen = std::mem::take(seen).united(&join(path, name))?;
        }
        Ok(united)
    }

    /// The fields as Arrow has them, all nullable.
    pub(super) fn fields(&self) -> Fields {
        let of = |(name, seen): &(String, ValueShape)| match (&seen.kind, self.told_of(name)) {
            // Only the given type is known.
            (Kind::Null, Some(told)) => Some(Field::new(name, told.clone(), true)),
            _ => Some(Field::new(name, seen.data_type()?, true)),
        };
        self.fields.iter().filter_map(of).collect()
    }
}

impl ValueShape {
    /// `None` for an object that never had a field: there is nothing to read in it.
    fn data_type(&self) -> Option<DataType> {
        Some(match &self.kind {
            Kind::Null | Kind::Anything => DataType::Utf8,
            Kind::Scalar(scalar) => scalar.data_type(),
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
            (_, Kind::Null) | (Kind::Anything, _) => return Ok(()),
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

    fn united(self, path: &str) -> Result<Self, Conflict> {
        let kind = match self.kind {
            Kind::List(item) => Kind::List(Box::new(item.united(&format!("{path}[]"))?)),
            Kind::Object(shape) => Kind::Object(shape.united(path)?),
            kind => kind,
        };
        Ok(Self { kind, ..self })
    }

    /// Records `file` as the origin of everything below that has none yet.
    fn claim(&mut self, file: &Arc<str>) {
        self.file.get_or_insert_with(|| Arc::clone(file));
        match &mut self.kind {
            Kind::List(item) => item.claim(file),
            Kind::Object(shape) => shape.fields.iter_mut().for_each(|(_, seen)| seen.claim(file)),
            Kind::Null | Kind::Scalar(_) | Kind::Anything => {}
        }
    }
}

/// The hint for a mixture of objects, lists and other values: no type holds them all, but their JSON can be read.
pub(super) fn hint(path: &str) -> String {
    let column = path.split(['.', '[']).next().unwrap_or_default();
    format!(
        "read `{column}` as JSON text: `with_json_text([\"{column}\"])`, `crawl --type {column}=string`; declare a schema \
         without it; or leave files out: `crawl --exclude`"
    )
}

fn conflict(mixed: &Mixed, path: String, before: &Kind, now: &Kind) -> serde_json::Error {
    let error = format!("`{path}` is {} here and {} in an earlier row", now.name(), before.name());
    mixed.set(Some(path));
    serde_json::Error::custom(error)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The maximum nesting of objects and lists.
const MAX_DEPTH: usize = 128;

struct ObjectSeed<'a> {
    shape: &'a mut Shape,
    path: &'a str,
    depth: usize,
    mixed: &'a Mixed,
}

/// The path of a value that has a structure in one place and a different one, or none, in another: serde's errors have
/// only a text.
type Mixed = Cell<Option<String>>;

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
        self.shape.objects += 1;
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let at = self.shape.field(&name);
            if std::mem::replace(&mut self.shape.last[at], self.shape.objects) == self.shape.objects {
                return Err(A::Error::custom(format!("an object has `{name}` twice")));
            }
            let seen = &mut self.shape.fields[at].1;
            map.next_value_seed(ValueSeed {
                seen,
                parent: self.path,
                name: &name,
                depth: self.depth,
                mixed: self.mixed,
            })?;
        }
        self.shape.object_ends();
        Ok(())
    }
}

/// Visits one value. The path is only built when it is needed.
struct ValueSeed<'a> {
    seen: &'a mut ValueShape,
    parent: &'a str,
    name: &'a str,
    depth: usize,
    mixed: &'a Mixed,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();

    /// As raw text: a parsed number has lost its original digits.
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.look(<&RawValue>::deserialize(deserializer)?.get()).map_err(D::Error::custom)
    }
}

impl ValueSeed<'_> {
    fn look(self, text: &str) -> Result<(), serde_json::Error> {
        if matches!(self.seen.kind, Kind::Anything) {
            return Ok(());
        }
        let scalar = match text.as_bytes().first() {
            None | Some(b'n') => return Ok(()),
            Some(b'{' | b'[') => return self.look_into(text),
            Some(b'"') => Scalar::Text,
            Some(b't' | b'f') => Scalar::Bool,
            Some(_) => Scalar::of_json_number(text),
        };
        match &mut self.seen.kind {
            Kind::Null => self.seen.kind = Kind::Scalar(scalar),
            Kind::Scalar(mine) => *mine = mine.widen(scalar),
            other => return Err(conflict(self.mixed, path(self.parent, self.name), other, &Kind::Scalar(scalar))),
        }
        Ok(())
    }

    fn look_into(self, text: &str) -> Result<(), serde_json::Error> {
        if self.depth == MAX_DEPTH {
            return Err(serde_json::Error::custom(format!("objects and lists are more than {MAX_DEPTH} deep")));
        }
        let (path, depth, mixed) = (path(self.parent, self.name), self.depth + 1, self.mixed);
        let is_list = text.starts_with('[');
        let new = || if is_list { Kind::List(Box::default()) } else { Kind::Object(Shape::default()) };
        if matches!(self.seen.kind, Kind::Null) {
            self.seen.kind = new();
        }
        let mut json = serde_json::Deserializer::from_str(text);
        match &mut self.seen.kind {
            Kind::List(item) if is_list => json.deserialize_seq(ListSeed { item, path: &path, depth, mixed }),
            Kind::Object(shape) if !is_list => ObjectSeed { shape, path: &path, depth, mixed }.deserialize(&mut json),
            other => Err(conflict(mixed, path, other, &new())),
        }
    }
}

struct ListSeed<'a> {
    item: &'a mut ValueShape,
    path: &'a str,
    depth: usize,
    mixed: &'a Mixed,
}

impl<'de> Visitor<'de> for ListSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { item, path, depth, mixed } = self;
        while items.next_element_seed(ValueSeed { seen: item, parent: path, name: ITEM, depth, mixed })?.is_some() {}
        Ok(())
    }
}

/// The path segment for the items of a list.
const ITEM: &str = "[]";

fn path(parent: &str, name: &str) -> String {
    if name == ITEM { format!("{parent}{ITEM}") } else { join(parent, name) }
}
