//! JSON files.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use hardtack_fuzz::json::{Json, rows as naive_rows};
use hardtack_fuzz::meaning::{Meaning, Written};
use hardtack_fuzz::targets::rows;
use hardtack_sources::JsonFiles;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::csv::{declared_type, judge, meanings};
use crate::files::{FOLDER, File, put};
use crate::texts::{Theme, distinct, name, odd, text, theme};
use crate::trial::{Outcome, WrittenRow, context, is_refusal, read, same_rows, try_cases, within_time};

/// What the values of a field mostly are.
#[derive(Debug, Clone)]
enum Kind {
    /// Of a theme: numbers and booleans as such, or as strings.
    Scalar(Theme, bool),
    List(Box<Kind>),
    Object(Vec<(String, Kind)>),
}

fn kind() -> impl Strategy<Value = Kind> {
    let scalar = (theme(), prop::bool::weighted(0.2)).prop_map(|(theme, as_text)| Kind::Scalar(theme, as_text));
    scalar.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            1 => inner.clone().prop_map(|item| Kind::List(Box::new(item))),
            1 => vec((name(), inner), 0..3).prop_map(|fields| Kind::Object(distinct(fields))),
        ]
    })
}

/// A number if it is one in JSON; other texts are strings.
fn token(text: String) -> Json {
    match naive_rows(&format!("{{\"x\":{text}}}")) {
        Ok(_) if text.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) => {
            Json::Number(text.trim().to_owned())
        }
        _ => Json::Text(text),
    }
}

fn value(kind: &Kind) -> BoxedStrategy<Json> {
    let of_kind = match kind {
        Kind::Scalar(Theme::Bools, false) => any::<bool>().prop_map(Json::Bool).boxed(),
        Kind::Scalar(theme, true) => text(*theme).prop_map(Json::Text).boxed(),
        Kind::Scalar(theme, false) => text(*theme).prop_map(token).boxed(),
        Kind::List(item) => vec(value(item), 0..4).prop_map(Json::List).boxed(),
        Kind::Object(fields) => object(fields).boxed(),
    };
    prop_oneof![12 => of_kind, 1 => Just(Json::Null)].boxed()
}

/// An object with some of these fields, in any order.
fn object(fields: &[(String, Kind)]) -> impl Strategy<Value = Json> + use<> {
    let some = prop::sample::subsequence(fields.to_vec(), 0..=fields.len()).prop_shuffle();
    let some = prop_oneof![3 => Just(fields.to_vec()), 1 => some];
    some.prop_flat_map(|fields| {
        let values: Vec<_> = fields.iter().map(|(_, kind)| value(kind)).collect();
        values.prop_map(move |values| Json::Object(fields.iter().map(|(name, _)| name.clone()).zip(values).collect()))
    })
}

/// A mistake of a careless supplier: a duplicate key, a key in another case, a value of another kind.
#[derive(Debug, Clone)]
enum Slip {
    Twice,
    OtherCase,
    OtherKind(Json),
}

fn slip() -> impl Strategy<Value = Slip> {
    let other = prop_oneof![
        odd().prop_map(token),
        Just(Json::List(vec![])),
        Just(Json::Object(vec![])),
        Just(Json::List(vec![Json::Bool(true)])),
        Just(Json::Object(vec![("a".to_owned(), Json::Number("1".to_owned()))])),
    ];
    prop_oneof![Just(Slip::Twice), Just(Slip::OtherCase), other.prop_map(Slip::OtherKind)]
}

fn slipped(mut row: Json, slip: Option<Slip>) -> Json {
    let Json::Object(fields) = &mut row else { return row };
    let Some((name, value)) = fields.first().cloned() else { return row };
    match slip {
        None => {}
        Some(Slip::Twice) => {
            let other = match value {
                Json::Bool(value) => Json::Bool(!value),
                Json::Number(_) => Json::Number("100".to_owned()),
                Json::Text(text) => Json::Text(text + "x"),
                other => other,
            };
            fields.push((name, other));
        }
        Some(Slip::OtherCase) => {
            fields[0].0 = if name.to_uppercase() == name { name.to_lowercase() } else { name.to_uppercase() }
        }
        Some(Slip::OtherKind(other)) => fields[0].1 = other,
    }
    row
}

/// How objects are laid out.
#[derive(Debug, Clone, Copy)]
enum Layout {
    Lines,
    Together,
    List,
    Pretty,
}

fn layout() -> impl Strategy<Value = (Layout, bool, bool)> {
    let layouts = prop_oneof![4 => Just(Layout::Lines), 1 => Just(Layout::Together), 1 => Just(Layout::List), 1 => Just(Layout::Pretty)];
    (layouts, prop::bool::weighted(0.1), prop::bool::weighted(0.2))
}

fn write(rows: &[Json], (layout, bom, escapes): (Layout, bool, bool)) -> Vec<u8> {
    let between = match layout {
        Layout::Lines | Layout::Pretty => "\n",
        Layout::Together => "",
        Layout::List => ", ",
    };
    let blank = if let Layout::Pretty = layout { "\n  " } else { "" };
    let rows: Vec<String> = rows.iter().map(|row| show(row, blank, escapes)).collect();
    let text = rows.join(between);
    let text = if let Layout::List = layout { format!("[{text}]\n") } else { text + between };
    format!("{}{text}", if bom { "\u{feff}" } else { "" }).into_bytes()
}

pub fn show(json: &Json, blank: &str, escapes: bool) -> String {
    let string = |text: &str| {
        let escape = |c: char| match c {
            '"' | '\\' => format!("\\{c}"),
            '\n' => "\\n".to_owned(),
            c if c < ' ' || (escapes && !c.is_ascii_digit()) => {
                c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
            }
            c => c.to_string(),
        };
        format!("\"{}\"", text.chars().map(escape).collect::<String>())
    };
    match json {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(token) => token.clone(),
        Json::Text(text) => string(text),
        Json::List(items) => {
            format!(
                "[{}]",
                items.iter().map(|item| blank.to_owned() + &show(item, blank, escapes)).collect::<Vec<_>>().join(",")
            )
        }
        Json::Object(fields) => {
            let field = |(key, value): &(String, Json)| {
                format!("{blank}{}:{blank}{}", string(key), show(value, blank, escapes))
            };
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(","))
        }
    }
}

/// The rows of a file, before they are written.
type Rows = Vec<Json>;

fn a_file(fields: &[(String, Kind)]) -> impl Strategy<Value = (Rows, (Layout, bool, bool))> + use<> {
    let slips = prop_oneof![19 => Just(None), 1 => slip().prop_map(Some)];
    let row = (object(fields), slips).prop_map(|(row, slip)| slipped(row, slip));
    (vec(row, 0..5), layout())
}

/// Files of rows that have fields in common.
pub fn sets() -> impl Strategy<Value = Vec<File>> {
    let fields = vec((name(), kind()), 1..4).prop_map(distinct);
    fields.prop_flat_map(|fields| vec(a_file(&fields), 1..4)).prop_map(|files| written(&files))
}

fn written(files: &[(Rows, (Layout, bool, bool))]) -> Vec<File> {
    let file =
        |(i, (rows, layout)): (usize, &(Rows, _))| File { path: format!("{i}.json"), bytes: write(rows, *layout) };
    files.iter().enumerate().map(file).collect()
}

/// The rows of files; none if they are not JSON.
pub fn naive(files: &[File]) -> Option<Vec<Json>> {
    let mut all = Vec::new();
    for file in files {
        all.extend(naive_rows(std::str::from_utf8(&file.bytes).ok()?).ok()?);
    }
    Some(all)
}

pub fn fields_of(row: &Json) -> WrittenRow {
    let Json::Object(fields) = row else { panic!("no object") };
    fields.iter().map(|(key, value)| (key.clone(), Written::Json(value.clone()))).collect()
}

/// Whether some field is a list or object in one place and something else in another.
pub fn has_conflict(rows: &[Json]) -> bool {
    let all: Vec<&Json> = rows.iter().collect();
    conflict(&all)
}

fn conflict(values: &[&Json]) -> bool {
    let lists: Vec<&Json> =
        values.iter().filter_map(|v| if let Json::List(items) = v { Some(items) } else { None }).flatten().collect();
    let objects: Vec<_> =
        values.iter().filter_map(|v| if let Json::Object(fields) = v { Some(fields) } else { None }).collect();
    let has = |is: fn(&Json) -> bool| usize::from(values.iter().any(|value| is(value)));
    let kinds = has(|v| matches!(v, Json::List(_)))
        + has(|v| matches!(v, Json::Object(_)))
        + has(|v| matches!(v, Json::Bool(_) | Json::Number(_) | Json::Text(_)));
    let mut by_name: BTreeMap<String, Vec<&Json>> = BTreeMap::new();
    for (name, value) in objects.into_iter().flatten() {
        by_name.entry(name.to_lowercase()).or_default().push(value);
    }
    kinds > 1 || (!lists.is_empty() && conflict(&lists)) || by_name.values().any(|values| conflict(values))
}

#[test]
fn what_is_inferred_keeps_every_value() {
    try_cases("JSON, inferred", 256, 50, sets(), |files| {
        let wanted = naive(files).ok_or("the generator writes what cannot be read")?;
        within_time(async {
            let ctx = context();
            put(&ctx, files).await;
            match read(&ctx, JsonFiles::new("t", FOLDER)).await {
                Ok(batches) => {
                    let rows: Vec<WrittenRow> = wanted.iter().map(fields_of).collect();
                    same_rows(&rows, &batches).map(|()| Outcome::Read)
                }
                Err(e) => {
                    is_refusal(&e)?;
                    let columns = wanted.iter().any(|row| !row.is_hollow());
                    let needed = !columns || has_conflict(&wanted) || wanted.iter().any(Json::has_key_twice);
                    if needed { Ok(Outcome::Refused) } else { Err(format!("refused without need: {}", e.chain())) }
                }
            }
        })?
    });
}

/// The type that values of a kind are declared with.
fn type_of(kind: &Kind) -> BoxedStrategy<DataType> {
    match kind {
        Kind::Scalar(theme, _) => declared_type(*theme).boxed(),
        Kind::List(item) => type_of(item).prop_map(|item| DataType::new_list(item, true)).boxed(),
        Kind::Object(fields) => {
            let names: Vec<String> = fields.iter().map(|(name, _)| name.clone()).collect();
            let types: Vec<_> = fields.iter().map(|(_, kind)| (type_of(kind), prop::bool::weighted(0.9))).collect();
            types
                .prop_map(move |types| {
                    let fields = names.iter().zip(types).map(|(name, (of, nullable))| Field::new(name, of, nullable));
                    DataType::Struct(fields.collect())
                })
                .boxed()
        }
    }
}

#[test]
fn what_is_declared_is_what_is_written() {
    let fields = vec((name(), kind()), 1..4).prop_map(distinct);
    let cases = fields.prop_flat_map(|fields| (type_of(&Kind::Object(fields.clone())), vec(a_file(&fields), 1..3)));
    let cases = cases.prop_map(|(of, files)| {
        let DataType::Struct(fields) = of else { panic!("fields are a struct") };
        (Schema::new(fields.iter().cloned().collect::<Fields>()), written(&files))
    });
    try_cases("JSON, declared", 384, 15, cases, |(schema, files)| {
        let wanted = naive(files).ok_or("the generator writes what cannot be read")?;
        // A duplicate key, declared or not, may be refused.
        let doubtful = wanted.iter().any(Json::has_key_twice);
        // Names are matched exactly; it is unspecified whether a name in another case matches.
        let other_case = |name: &String| {
            let has = |f: &Arc<Field>| f.name() != name && f.name().to_lowercase() == name.to_lowercase();
            schema.fields().iter().any(has)
        };
        if wanted.iter().flat_map(fields_of).any(|(name, _)| other_case(&name)) {
            return Ok(Outcome::Refused);
        }
        let meanings: Vec<Vec<Meaning>> = wanted
            .iter()
            .map(|row| {
                let whole = hardtack_fuzz::meaning::declared(
                    &Written::Json(row.clone()),
                    &Field::new("row", DataType::Struct(schema.fields().clone()), false),
                );
                match whole {
                    Meaning::Nothing => vec![Meaning::Nothing],
                    _ => meanings(&fields_of(row), schema),
                }
            })
            .collect();
        within_time(async {
            let ctx = context();
            put(&ctx, files).await;
            let given = read(&ctx, JsonFiles::new("t", FOLDER).with_schema(Arc::new(schema.clone()))).await;
            match given {
                Err(e) if doubtful => is_refusal(&e).map(|()| Outcome::Refused),
                given => judge(&meanings, false, given.map(|batches| rows(&batches))),
            }
        })?
    });
}

/// Texts of significant characters: both readers refuse, or both return the same.
#[test]
fn what_is_odd_is_refused_or_read_alike() {
    let whole = select(
        &[
            "{\"a\":1}\n",
            "{\"a\":[1,{\"b\":\"x\"}]}\n",
            "{}",
            "[{\"a\":null}]",
            " ",
            "{\"a\":-0.50e+1 ,\"b\":\"\\u0041\\ud83d\\ude00\"}",
        ][..],
    );
    let part = select(
        &[
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"a\"",
            "\"b\"",
            "\"",
            "1",
            "-",
            "0",
            ".5",
            "e1",
            "true",
            "null",
            "nul",
            " ",
            "\n",
            "\\",
            "\\u0041",
            "\\ud83d\\ude00",
            "\\ud842\\udfb7",
            "\\ud83d",
            "\u{feff}",
            "\u{fc}",
            "\t",
            "\"a\":",
            "{\"a\":",
            "}\n",
        ][..],
    );
    let part = prop_oneof![4 => whole, 1 => part];
    let cases = vec(vec(part, 0..7).prop_map(|parts| parts.concat().into_bytes()), 1..3);
    let cases = cases.prop_map(|texts| {
        let file = |(i, bytes)| File { path: format!("{i}.json"), bytes };
        texts.into_iter().enumerate().map(file).collect::<Vec<_>>()
    });
    try_cases("JSON, odd", 384, 15, cases, |files| {
        let wanted = naive(files);
        within_time(async {
            let ctx = context();
            put(&ctx, files).await;
            match (read(&ctx, JsonFiles::new("t", FOLDER)).await, wanted) {
                (Ok(batches), Some(wanted)) => {
                    let rows: Vec<WrittenRow> = wanted.iter().map(fields_of).collect();
                    same_rows(&rows, &batches).map(|()| Outcome::Read)
                }
                (Ok(batches), None) => Err(format!("not refused, but {:?}", rows(&batches))),
                (Err(e), None) => is_refusal(&e).map(|()| Outcome::Refused),
                (Err(e), Some(wanted)) => {
                    let needed = has_conflict(&wanted)
                        || wanted.iter().any(Json::has_key_twice)
                        || e.message().contains("no columns");
                    if needed {
                        Ok(Outcome::Refused)
                    } else {
                        Err(format!("refused without need ({}): {wanted:?}", e.chain()))
                    }
                }
            }
        })?
    });
}
