//! Templates as YAML.

use std::borrow::Cow;

use hardtack_core::{Error, Result};
use saphyr::{LoadableYamlNode, Scalar, Yaml, YamlEmitter};
use serde_json::{Map, Number, Value};

/// YAML in which each text is quoted: CloudFormation reads YAML 1.1, to which `on`, `12:30` and `1_000` are no texts.
pub(crate) fn write(value: &Value) -> Result<String> {
    let mut text = String::new();
    let mut emitter = YamlEmitter::new(&mut text);
    emitter.quoted_value(true);
    emitter.dump(&yaml(value)).map_err(|e| Error::unexpected("the template cannot be written as YAML").because(e))?;
    let text = text.strip_prefix("---\n").unwrap_or(&text);
    Ok(format!("{}\n", text.trim_end()))
}

fn yaml(value: &Value) -> Yaml<'_> {
    match value {
        Value::Null => Yaml::Value(Scalar::Null),
        Value::Bool(bool) => Yaml::Value(Scalar::Boolean(*bool)),
        Value::Number(number) => Yaml::Value(match number.as_i64() {
            Some(integer) => Scalar::Integer(integer),
            None => Scalar::FloatingPoint(number.as_f64().unwrap_or_default().into()),
        }),
        Value::String(text) => Yaml::Value(Scalar::String(Cow::Borrowed(text))),
        Value::Array(values) => Yaml::Sequence(values.iter().map(yaml).collect()),
        Value::Object(fields) => {
            let text = |key| Yaml::Value(Scalar::String(Cow::Borrowed(key)));
            Yaml::Mapping(fields.iter().map(|(key, value)| (text(key.as_str()), yaml(value))).collect())
        }
    }
}

/// Reads a template in YAML or JSON.
pub(crate) fn read(text: &str) -> Result<Value> {
    let wrong = |why: &str| Error::usage("the template does not parse").because(Error::usage(why));
    let documents = Yaml::load_from_str(text).map_err(|e| wrong(&e.to_string()))?;
    match documents.as_slice() {
        [one] => json(one).ok_or_else(|| wrong("it has keys that are no texts, or aliases")),
        _ => Err(wrong("it is not one document")),
    }
}

fn json(yaml: &Yaml<'_>) -> Option<Value> {
    Some(match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(bool)) => Value::Bool(*bool),
        Yaml::Value(Scalar::Integer(integer)) => Value::Number(Number::from(*integer)),
        Yaml::Value(Scalar::FloatingPoint(float)) => Value::Number(Number::from_f64(float.into_inner())?),
        Yaml::Value(Scalar::String(text)) => Value::String(text.clone().into_owned()),
        Yaml::Sequence(values) => Value::Array(values.iter().map(json).collect::<Option<_>>()?),
        Yaml::Mapping(fields) => {
            let field = |(key, value): (&Yaml<'_>, &Yaml<'_>)| Some((key.as_str()?.to_owned(), json(value)?));
            Value::Object(fields.iter().map(field).collect::<Option<Map<_, _>>>()?)
        }
        // `!Ref Queue` is `Ref: Queue`, and `!Sub` is `Fn::Sub`.
        Yaml::Tagged(tag, value) => {
            let key = match tag.suffix.as_str() {
                key @ ("Ref" | "Condition") => key.to_owned(),
                key => format!("Fn::{key}"),
            };
            Value::Object(Map::from_iter([(key, json(value)?)]))
        }
        Yaml::Representation(..) | Yaml::Alias(_) | Yaml::BadValue => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_stay_texts_and_short_forms_are_known() {
        let value = json!({
            "on": "yes", "time": "12:30", "n": 1, "x": 0.5, "none": null, "list": [true, "1e3", "", "a\nb"], "empty": {},
        });
        assert_eq!(read(&write(&value).unwrap()).unwrap(), value);
        assert_eq!(read(&value.to_string()).unwrap(), value);
        assert_eq!(
            read("a: !Ref Queue\nb: !Sub '${A}'").unwrap(),
            json!({"a": {"Ref": "Queue"}, "b": {"Fn::Sub": "${A}"}})
        );
        assert!(read("a: [").is_err());
    }
}
