//! Case-insensitive keys: they are folded to lower case before objects are decoded.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields};

use crate::fault::Fault;

/// The fields with names in lower case, at any depth.
pub(crate) fn fold_names(fields: &Fields) -> Fields {
    fields.iter().map(|f| Arc::new(fold_type(f).with_name(f.name().to_lowercase()))).collect()
}

fn fold_type(field: &FieldRef) -> Field {
    use DataType as D;
    let item = |item: &FieldRef| Arc::new(fold_type(item));
    let folded = match field.data_type() {
        D::Struct(fields) => D::Struct(fold_names(fields)),
        D::List(of) => D::List(item(of)),
        D::LargeList(of) => D::LargeList(item(of)),
        D::FixedSizeList(of, n) => D::FixedSizeList(item(of), *n),
        D::Map(entries, sorted) => {
            let D::Struct(pair) = entries.data_type() else { return field.as_ref().clone() };
            let pair = D::Struct(pair.iter().map(item).collect());
            D::Map(Arc::new(entries.as_ref().clone().with_data_type(pair)), *sorted)
        }
        other => other.clone(),
    };
    field.as_ref().clone().with_data_type(folded)
}

/// Folds the keys of the object at `row`, and of nested objects, to lower case, in place. The keys of maps are data and
/// stay unchanged.
pub(crate) fn fold_keys(text: &mut [u8], row: Range<usize>, fields: &Fields) -> Result<(), Fault> {
    let mut folder = Folder { text: &mut text[..row.end], at: row.start, keys: Vec::new() };
    folder.object(Some(fields), None)
}

/// Walks over a value. Malformed text is left unchanged; the decoder will report it.
struct Folder<'a> {
    text: &'a mut [u8],
    at: usize,
    /// The keys of the open objects.
    keys: Vec<Range<usize>>,
}

impl Folder<'_> {
    fn value(&mut self, of: &DataType) -> Result<(), Fault> {
        self.blanks();
        match (self.text.get(self.at), of) {
            (Some(b'{'), DataType::Struct(fields)) => self.object(Some(fields), None),
            (Some(b'{'), DataType::Map(entries, _)) => match entries.data_type() {
                DataType::Struct(pair) if pair.len() == 2 => self.object(None, Some(pair[1].data_type())),
                _ => self.skip(),
            },
            (Some(b'['), DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)) => {
                self.list(item.data_type())
            }
            _ => self.skip(),
        }
    }

    /// Walks over an object: with these fields, whose keys are folded, or with values of a single type.
    fn object(&mut self, fields: Option<&Fields>, values: Option<&DataType>) -> Result<(), Fault> {
        let (outer, mut folded) = (self.keys.len(), false);
        self.at += 1;
        loop {
            self.blanks();
            match self.text.get(self.at) {
                Some(b'"') => {}
                Some(b',') => {
                    self.at += 1;
                    continue;
                }
                _ => break,
            }
            let mut key = self.string();
            if let Some(fields) = fields {
                let changed;
                (key, changed) = self.fold(key, fields)?;
                folded |= changed;
                self.keys.push(key.clone());
            }
            self.blanks();
            if self.text.get(self.at) != Some(&b':') {
                break;
            }
            self.at += 1;
            let field =
                fields.and_then(|fields| fields.iter().find(|f| f.name().as_bytes() == &self.text[key.clone()]));
            match field.map(|f| f.data_type()).or(values) {
                Some(of) => self.value(of)?,
                None => self.skip()?,
            }
        }
        self.at += 1;
        let keys = self.keys.split_off(outer);
        if folded { self.unique(keys) } else { Ok(()) }
    }

    /// Folds a key to lower case, in place; returns its new range and whether it changed.
    fn fold(&mut self, key: Range<usize>, fields: &Fields) -> Result<(Range<usize>, bool), Fault> {
        let content = &mut self.text[key.clone()];
        if content.is_ascii() && !content.contains(&b'\\') {
            let folds = content.iter().any(u8::is_ascii_uppercase);
            content.make_ascii_lowercase();
            return Ok((key, folds));
        }
        let quoted = key.start - 1..key.end + 1;
        let name = self.text.get(quoted.clone()).and_then(|quoted| serde_json::from_slice::<String>(quoted).ok());
        let Some(name) = name else { return Ok((key, false)) };
        let folded = name.to_lowercase();
        // Unneeded escapes are dropped, so it is rarely longer than before; blanks may follow a key.
        let Ok(written) = serde_json::to_string(&folded) else { return Ok((key, false)) };
        let place = &mut self.text[quoted.clone()];
        if place == written.as_bytes() {
            return Ok((key, false));
        }
        let Some((start, rest)) = place.split_at_mut_checked(written.len()) else {
            return match fields.iter().any(|f| *f.name() == folded) {
                true => {
                    let why = format!(
                        "`{name}` is the column `{folded}`, but there is no room for it; write it in lower case"
                    );
                    Err(Fault::new(key.start, why).column(folded))
                }
                // No field has this name.
                false => Ok((key, false)),
            };
        };
        start.copy_from_slice(written.as_bytes());
        rest.fill(b' ');
        Ok((key.start..key.start + written.len() - 2, true))
    }

    /// Refuses keys that are equal after folding, because it is ambiguous which is meant.
    fn unique(&self, mut keys: Vec<Range<usize>>) -> Result<(), Fault> {
        let name = |key: &Range<usize>| &self.text[key.clone()];
        keys.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        match keys.windows(2).find(|pair| name(&pair[0]) == name(&pair[1])) {
            None => Ok(()),
            Some(pair) => {
                let key = String::from_utf8_lossy(name(&pair[0])).into_owned();
                let start = pair[0].start.max(pair[1].start);
                Err(Fault::new(start, format!("an object has `{key}` twice, where case does not count")).column(key))
            }
        }
    }

    fn list(&mut self, item: &DataType) -> Result<(), Fault> {
        self.at += 1;
        loop {
            self.blanks();
            match self.text.get(self.at) {
                None | Some(b']' | b'}') => break,
                Some(b',') => self.at += 1,
                Some(_) => self.value(item)?,
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Skips a value.
    fn skip(&mut self) -> Result<(), Fault> {
        self.blanks();
        let mut depth = 0_usize;
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b'"' => _ = self.string(),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' | b',' if depth == 0 => break,
                b'}' | b']' => {
                    depth -= 1;
                    self.at += 1;
                }
                _ => self.at += 1,
            }
        }
        Ok(())
    }

    /// The content of the string that starts here.
    fn string(&mut self) -> Range<usize> {
        let start = self.at + 1;
        self.at = start;
        while let Some(found) = self.text.get(self.at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
            self.at += found;
            if self.text[self.at] == b'"' {
                self.at += 1;
                return start..self.at - 1;
            }
            self.at += 2;
        }
        self.at = self.text.len();
        start.min(self.at)..self.at
    }

    fn blanks(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Map, Value};

    use super::*;

    fn fields() -> Fields {
        let of = |name: &str, of| Field::new(name, of, true);
        let inner = DataType::Struct(vec![of("In", DataType::Int32)].into());
        let entry = DataType::Struct(vec![of("key", DataType::Utf8), of("value", inner.clone())].into());
        let map = DataType::Map(Arc::new(Field::new("entries", entry, false)), false);
        Schema::new(vec![
            of("id", DataType::Int32),
            of("A", inner.clone()),
            of("l", DataType::new_list(inner.clone(), true)),
            of("LL", DataType::new_large_list(inner.clone(), true)),
            of("F", DataType::new_fixed_size_list(inner.clone(), 2, true)),
            of("Größe", inner),
            of("m", map),
            of("\u{2c65}", DataType::Int32),
        ])
        .fields()
        .clone()
    }

    fn folded(text: &str) -> Result<String, String> {
        let mut bytes = text.as_bytes().to_vec();
        let row = 0..bytes.len();
        fold_keys(&mut bytes, row, &fold_names(&fields()))
            .map_err(|fault| format!("{} at {}", fault.message, fault.offset))?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[rstest]
    #[case(r#"{"ID": "ID", "Other": {"In": 1}}"#, r#"{"id": "ID", "other": {"In": 1}}"#)]
    #[case(r#"{"a":{"IN":[1,{"X":2}]},"ID":1}"#, r#"{"a":{"in":[1,{"X":2}]},"id":1}"#)]
    #[case(
        r#"{"L": [{"IN": 1}, null, {"In": {"Y": 1}}], "ID" : 1}"#,
        r#"{"l": [{"in": 1}, null, {"in": {"Y": 1}}], "id" : 1}"#
    )]
    #[case(r#"{"M": {"Key": {"IN": 1}, "KEY": {"In": 2}}}"#, r#"{"m": {"Key": {"in": 1}, "KEY": {"in": 2}}}"#)]
    #[case(r#"{"A": "not {\"In\": 1}", "L": 7}"#, r#"{"a": "not {\"In\": 1}", "l": 7}"#)]
    #[case(r#"{"Größe": 1, "ÜBER": 2, "I\u0044": 3}"#, r#"{"größe": 1, "über": 2, "id"     : 3}"#)]
    // As Python's `json.dumps` writes them; necessary escapes stay.
    #[case(r#"{"\u0041":{"\u0049N":1}}"#, r#"{"a"     :{"in"     :1}}"#)]
    #[case(r#"{"\u00dc\"\\\n":1,"\ud83d\ude00":2}"#, r#"{"ü\"\\\n"    :1,"😀"        :2}"#)]
    // Objects within objects with escaped keys.
    #[case(r#"{"GRÖßE": {"IN": 1}}"#, r#"{"größe": {"in": 1}}"#)]
    #[case(
        r#"{"\u0041": {"IN": 1}, "\u004c\u004c": [{"IN": 2}]}"#,
        r#"{"a"     : {"in": 1}, "ll"          : [{"in": 2}]}"#
    )]
    // The lower case is shorter (a Kelvin sign), or longer, which matters only for columns.
    #[case("{\"\u{212a}\":1,\"\u{23e}\":2}", "{\"k\"  :1,\"\u{23e}\":2}")]
    fn keys_are_folded_where_they_are_names(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(folded(text).unwrap(), expected);
    }

    #[rstest]
    #[case(r#"{"id": 1, "n": {"id": 2}, "ID": 3}"#, Err("an object has `id` twice, where case does not count at 27"))]
    #[case(r#"{"id": 1, "a": {"ID": 2}}"#, Ok(()))]
    #[case(r#"{"id": 1, "\u0069d": 2}"#, Err("an object has `id` twice, where case does not count at 11"))]
    #[case(
        "{\"\u{23a}\": 1}",
        Err("`\u{23a}` is the column `\u{2c65}`, but there is no room for it; write it in lower case at 2")
    )]
    #[case(r#"{"a": {"In": 1, "in": 2}}"#, Err("an object has `in` twice, where case does not count at 17"))]
    fn a_key_that_is_there_twice_is_refused(#[case] text: &str, #[case] expected: Result<(), &str>) {
        assert_eq!(folded(text).map(drop), expected.map_err(str::to_owned));
    }

    /// The expected result of folding: the keys of structs are in lower case; none if two of them are then equal.
    fn naive(value: Value, of: Option<&DataType>) -> Option<Value> {
        Some(match (value, of) {
            (Value::Object(object), Some(DataType::Struct(fields))) => {
                let mut folded = Map::new();
                for (key, value) in object {
                    let key = key.to_lowercase();
                    let field = fields.iter().find(|f| *f.name() == key);
                    if folded.insert(key, naive(value, field.map(|f| f.data_type()))?).is_some() {
                        return None;
                    }
                }
                folded.into()
            }
            (Value::Object(object), Some(DataType::Map(entries, _))) => {
                let DataType::Struct(pair) = entries.data_type() else { unreachable!() };
                let values = object.into_iter().map(|(k, v)| Some((k, naive(v, Some(pair[1].data_type()))?)));
                Value::Object(values.collect::<Option<_>>()?)
            }
            (
                Value::Array(items),
                Some(DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)),
            ) => items.into_iter().map(|i| naive(i, Some(item.data_type()))).collect::<Option<Vec<_>>>()?.into(),
            (other, _) => other,
        })
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let key =
            || prop::sample::select(vec!["id", "ID", "A", "l", "L", "LL", "F", "M", "In", "IN", "in", "Über", "Key"]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            "[Aa{}\\[\\],:\"\\\\ ]{0,5}".prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key(), inner), 0..4)
                    .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()),
            ]
        });
        prop::collection::vec((key(), value), 0..5)
            .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
    }

    proptest! {
        #[test]
        fn values_are_folded_as_far_as_their_types_go(value in any_json(), pretty in any::<bool>()) {
            let expected = naive(value.clone(), Some(&DataType::Struct(fold_names(&fields()))));
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            let found = folded(&text).ok().map(|text| serde_json::from_str::<Value>(&text).unwrap());
            prop_assert_eq!(found, expected);
        }

        /// The decoder reports malformed texts.
        #[test]
        fn no_text_makes_it_panic_or_changes_more_than_case(text in "\\{[{}\\[\\],:\"\\\\ AaIidLlMm1]{0,40}") {
            if let Ok(folded) = folded(&text) {
                prop_assert_eq!(folded.to_lowercase(), text.to_lowercase());
            }
        }
    }
}
