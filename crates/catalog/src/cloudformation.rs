//! The tables that a CloudFormation template declares.

use arrow::datatypes::SchemaRef;
use hardtack_core::{Error, Result};
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::Value;

use crate::table::{Column, schema_of_columns};

/// The schema of a Glue table that a CloudFormation template declares, in YAML (with the short forms `!Ref`, `!Sub`
/// ...) or JSON. `table` is the resource's logical id or the table's `Name`.
///
/// The partition keys follow the other columns, as in Athena. Every column is nullable, because the catalog has no `not
/// null`. A column's comment is stored in the field's metadata under [`COMMENT_KEY`](crate::COMMENT_KEY).
///
/// Functions are resolved if the template itself determines their value: `!Ref` and `!Sub` of parameters with a
/// default, `!Join`. All others are permitted where the schema does not depend on them.
///
/// ```
/// use hardtack_catalog::schema_from_cloudformation;
///
/// let template = "
/// Parameters:
///   Stage: { Type: String, Default: dev }
/// Resources:
///   Books:
///     Type: AWS::Glue::Table
///     Properties:
///       CatalogId: !Ref AWS::AccountId
///       TableInput:
///         Name: !Sub '${Stage}_books'
///         StorageDescriptor:
///           Location: !Sub 's3://${Bucket}/books'
///           Columns:
///             - { Name: title, Type: string }
///             - { Name: publish_date, Type: date, Comment: The first edition's }
///         PartitionKeys:
///           - { Name: year, Type: int }
/// ";
/// let schema = schema_from_cloudformation(template, "dev_books")?;
/// assert_eq!(schema, schema_from_cloudformation(template, "Books")?);
/// assert_eq!(schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["title", "publish_date", "year"]);
/// # Ok::<_, hardtack_core::Error>(())
/// ```
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) if the template does not parse, has no such table (the error lists those
/// that it has), or if a column has no name, occurs twice, or has a type that is unknown or depends on the deployment.
pub fn schema_from_cloudformation(template: &str, table: &str) -> Result<SchemaRef> {
    let template = Template(parse(template)?);
    let (id, input) = template.table(table)?;
    template.schema(input).map_err(|e| e.with("table", id))
}

// --- documents -----------------------------------------------------------------------------------------------------

/// A value of a template. The short (`!Ref x`) and the long form (`{"Ref": "x"}`) of a function are equal.
#[derive(Debug, Clone)]
enum Node {
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    /// A function by its short name (`Ref`, `Sub`) and its argument.
    Call(String, Box<Node>),
}

impl Node {
    fn get(&self, key: &str) -> Option<&Node> {
        match self {
            Node::Map(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    fn entries(&self) -> &[(String, Node)] {
        if let Node::Map(entries) = self { entries } else { &[] }
    }

    fn map(entries: Vec<(String, Node)>) -> Node {
        match <[_; 1]>::try_from(entries) {
            Ok([(key, argument)]) if key == "Ref" || key.starts_with("Fn::") => {
                Node::Call(key.trim_start_matches("Fn::").to_owned(), Box::new(argument))
            }
            Ok([entry]) => Node::Map(vec![entry]),
            Err(entries) => Node::Map(entries),
        }
    }
}

fn parse(template: &str) -> Result<Node> {
    let text = template.trim_start_matches('\u{feff}');
    // JSON is almost a subset of YAML, but not quite (surrogate pairs, tabs), and its own parser gives better errors.
    if text.trim_start().starts_with('{') {
        let json: Value = serde_json::from_str(text)
            .map_err(|e| Error::usage("the CloudFormation template is not valid JSON").because(e))?;
        return Ok(from_json(json));
    }
    let invalid = || Error::usage("the CloudFormation template is not valid YAML");
    let documents = Yaml::load_from_str(text).map_err(|e| invalid().because(e))?;
    match <[Yaml; 1]>::try_from(documents) {
        Ok([document]) => from_yaml(document),
        Err(documents) => Err(invalid().because(format!("it has {} documents", documents.len()))),
    }
}

fn from_json(json: Value) -> Node {
    match json {
        Value::Null => Node::Null,
        Value::Bool(value) => Node::Text(value.to_string()),
        Value::Number(value) => Node::Text(value.to_string()),
        Value::String(text) => Node::Text(text),
        Value::Array(items) => Node::List(items.into_iter().map(from_json).collect()),
        Value::Object(entries) => Node::map(entries.into_iter().map(|(k, v)| (k, from_json(v))).collect()),
    }
}

fn from_yaml(yaml: Yaml<'_>) -> Result<Node> {
    Ok(match yaml {
        Yaml::Value(Scalar::Null) => Node::Null,
        Yaml::Value(Scalar::Boolean(value)) => Node::Text(value.to_string()),
        Yaml::Value(Scalar::Integer(value)) => Node::Text(value.to_string()),
        Yaml::Value(Scalar::FloatingPoint(value)) => Node::Text(value.to_string()),
        Yaml::Value(Scalar::String(text)) | Yaml::Representation(text, ..) => Node::Text(text.into_owned()),
        Yaml::Sequence(items) => Node::List(items.into_iter().map(from_yaml).collect::<Result<_>>()?),
        Yaml::Mapping(entries) => {
            let entry = |(key, value)| match from_yaml(key)? {
                Node::Text(key) => Ok((key, from_yaml(value)?)),
                _ => Err(Error::usage("the CloudFormation template has a key that is not a text")),
            };
            Node::map(entries.into_iter().map(entry).collect::<Result<_>>()?)
        }
        Yaml::Tagged(tag, value) => Node::Call(tag.suffix.clone(), Box::new(from_yaml(*value)?)),
        Yaml::Alias(_) | Yaml::BadValue => {
            return Err(Error::usage("the CloudFormation template has a value that does not fit its tag"));
        }
    })
}

// --- templates -----------------------------------------------------------------------------------------------------

struct Template(Node);

impl Template {
    /// The logical id and the `TableInput` of a table.
    fn table(&self, wanted: &str) -> Result<(&str, &Node)> {
        let resources = self.0.get("Resources").map_or(&[] as &[_], Node::entries);
        let tables: Vec<(&str, &Node)> = resources
            .iter()
            .filter(|(_, r)| matches!(r.get("Type"), Some(Node::Text(t)) if t == "AWS::Glue::Table"))
            .filter_map(|(id, r)| Some((id.as_str(), r.get("Properties")?.get("TableInput")?)))
            .collect();
        let name = |input: &Node| input.get("Name").and_then(|name| self.text(name).ok());
        let by_id = tables.iter().copied().find(|(id, _)| *id == wanted);
        let by_name: Vec<_> =
            tables.iter().copied().filter(|(_, input)| name(input).as_deref() == Some(wanted)).collect();
        match (by_id, by_name.as_slice()) {
            (Some(table), _) => Ok(table),
            (None, [table]) => Ok(*table),
            (None, []) => {
                let known: Vec<String> = tables
                    .iter()
                    .map(|(id, input)| name(input).map_or_else(|| (*id).to_owned(), |name| format!("{id} ({name})")))
                    .collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                Err(Error::usage("the CloudFormation template has no such Glue table")
                    .with("table", wanted)
                    .with("tables", known))
            }
            (None, several) => {
                let ids: Vec<&str> = several.iter().map(|(id, _)| *id).collect();
                Err(Error::usage(
                    "several Glue tables of the CloudFormation template have this name; use the logical id",
                )
                .with("table", wanted)
                .with("tables", ids.join(", ")))
            }
        }
    }

    fn schema(&self, input: &Node) -> Result<SchemaRef> {
        let columns = input.get("StorageDescriptor").and_then(|s| s.get("Columns"));
        let keys = input.get("PartitionKeys");
        let mut found: Vec<Column> = Vec::new();
        for (what, list) in [("Columns", columns), ("PartitionKeys", keys)] {
            let columns = match list {
                None | Some(Node::Null) => continue,
                Some(Node::List(columns)) => columns,
                Some(other) => return Err(unresolved(&format!("`{what}`"), other)),
            };
            for (i, column) in columns.iter().enumerate() {
                found.push(self.column(column).map_err(|e| match e.get("column") {
                    Some(_) => e,
                    None => e.with("column", format!("{what}[{i}]")),
                })?);
            }
        }
        if found.is_empty() {
            return Err(Error::usage("this Glue table declares no columns"));
        }
        schema_of_columns(&found)
    }

    fn column(&self, column: &Node) -> Result<Column> {
        let name = self.property(column, "Name")?;
        let data_type = self.property(column, "Type").map_err(|e| e.with("column", &name))?;
        // A comment does not affect the data, so one that depends on the deployment is left out.
        let comment = column.get("Comment").and_then(|comment| self.text(comment).ok());
        Ok(Column { comment, ..Column::foreign(name, data_type) })
    }

    fn property(&self, column: &Node, key: &str) -> Result<String> {
        match column {
            Node::Map(_) => {}
            other => return Err(unresolved("the column", other)),
        }
        let value = column.get(key).ok_or_else(|| Error::usage(format!("this column has no `{key}`")))?;
        self.text(value).map_err(|_| unresolved(&format!("`{key}`"), value))
    }

    /// The text of a node, or else the node whose value the template does not determine.
    fn text<'a>(&'a self, node: &'a Node) -> Result<String, &'a Node> {
        match node {
            Node::Text(text) => Ok(text.clone()),
            Node::Call(function, argument) => match (function.as_str(), argument.as_ref()) {
                ("Ref", Node::Text(name)) => self.parameter(name).ok_or(node),
                ("Sub", Node::Text(text)) => self.substitute(text, &[]).ok_or(node),
                ("Sub", Node::List(items)) => match items.as_slice() {
                    [Node::Text(text), Node::Map(values)] => self.substitute(text, values).ok_or(node),
                    _ => Err(node),
                },
                ("Join", Node::List(items)) => match items.as_slice() {
                    [Node::Text(separator), Node::List(parts)] => {
                        let parts: Vec<String> = parts.iter().map(|p| self.text(p)).collect::<Result<_, _>>()?;
                        Ok(parts.join(separator))
                    }
                    _ => Err(node),
                },
                _ => Err(node),
            },
            _ => Err(node),
        }
    }

    fn parameter(&self, name: &str) -> Option<String> {
        match self.0.get("Parameters")?.get(name)?.get("Default")? {
            Node::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// Fills in `${name}`; `${!name}` is the literal `${name}`.
    fn substitute(&self, text: &str, values: &[(String, Node)]) -> Option<String> {
        let (mut filled, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}')?;
            filled.push_str(before);
            match name.strip_prefix('!') {
                Some(literal) => filled.push_str(&format!("${{{literal}}}")),
                None => match values.iter().find(|(key, _)| key == name) {
                    Some((_, value)) => filled.push_str(&self.text(value).ok()?),
                    None => filled.push_str(&self.parameter(name)?),
                },
            }
            rest = after;
        }
        Some(filled + rest)
    }
}

fn unresolved(what: &str, node: &Node) -> Error {
    match node {
        Node::Call(function, _) => Error::usage(format!(
            "{what} depends on the deployment (`!{function}`), but a contract has to be known before; write it out, or \
             give the parameter a default"
        )),
        _ => Error::usage(format!("{what} is not what CloudFormation expects there")),
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;
    use rstest::rstest;

    use super::*;
    use crate::{COMMENT_KEY, HiveType};

    fn show(schema: &Schema) -> String {
        let columns = schema.fields().iter().map(|f| {
            let comment = f.metadata().get(COMMENT_KEY).map_or_else(String::new, |c| format!(" -- {c}"));
            format!("{}: {}{comment}", f.name(), HiveType::of(f).unwrap())
        });
        columns.collect::<Vec<_>>().join("\n")
    }

    const YAML: &str = r"
AWSTemplateFormatVersion: '2010-09-09'
Parameters:
  Stage: {Type: String, Default: dev}
  Bucket: {Type: String}
  TextType: {Type: String, Default: string}
Conditions:
  IsProd: !Equals [!Ref Stage, prod]
Resources:
  Database:
    Type: AWS::Glue::Database
    Properties: {CatalogId: !Ref AWS::AccountId, DatabaseInput: {Name: lake}}
  Books:
    Type: AWS::Glue::Table
    DependsOn: [Database]
    Properties:
      DatabaseName: !Ref Database
      CatalogId: !Sub '${AWS::AccountId}'
      TableInput:
        Name: !Sub ${Stage}_books
        Parameters: !If [IsProd, {a: b}, !Ref 'AWS::NoValue']
        StorageDescriptor:
          Location: !Join ['/', ['s3:/', !ImportValue lake-bucket, books]]
          SerdeInfo: &serde
            SerializationLibrary: !FindInMap [Serde, parquet, library]
          Columns:
            - Name: title
              Type: !Ref TextType
              Comment: As printed, blanks and all
            - {Name: author, Type: 'struct<name:varchar(40),born:date>', Comment: !GetAtt A.B}
            - Name: prices
              Type: >-
                array<
                decimal(10,2)>
            - Name: 2020
              Type: int
        PartitionKeys:
          - Name: !Join ['_', [book, !Sub ['${x}', {x: year}]]]
            Type: int
  Keyless:
    Type: AWS::Glue::Table
    Properties:
      TableInput:
        Name: !Sub '${Bucket}_x'
        StorageDescriptor:
          SerdeInfo: *serde
          Columns: [{Name: a, Type: int}]
  Twin: &twin
    Type: AWS::Glue::Table
    Properties: {TableInput: {Name: twin, StorageDescriptor: {Columns: [{Name: b, Type: string}]}}}
  Twin2: *twin
";

    #[rstest]
    fn reads_short_forms(#[values("Books", "dev_books")] table: &str) {
        insta::allow_duplicates! {
            insta::assert_snapshot!(show(&schema_from_cloudformation(YAML, table).unwrap()), @r"
            title: string -- As printed, blanks and all
            author: struct<name:varchar(40),born:date>
            prices: array<decimal(10,2)>
            2020: int
            book_year: int
            ");
        }
        assert_eq!(show(&schema_from_cloudformation(YAML, "Keyless").unwrap()), "a: int");
    }

    #[test]
    fn reads_json_with_the_long_forms() {
        let json = r#"{
	"Parameters": {"Stage": {"Type": "String", "Default": "dev"}},
	"Resources": {"Books": {"Type": "AWS::Glue::Table", "Properties": {
		"CatalogId": {"Ref": "AWS::AccountId"},
		"TableInput": {
			"Name": {"Fn::Sub": ["${Stage}_${Name}", {"Name": {"Fn::Join": ["", ["bo", "oks"]]}}]},
			"StorageDescriptor": {
				"Location": {"Fn::GetAtt": ["Bucket", "Arn"]},
				"Columns": [{"Name": "title", "Type": "string", "Comment": "\ud83d\udcd6"}]
			},
			"PartitionKeys": [{"Name": "year", "Type": "int"}]
		}
	}}}}"#;
        insta::assert_snapshot!(show(&schema_from_cloudformation(json, "dev_books").unwrap()), @r"
        title: string -- 📖
        year: int
        ");
    }

    /// A template with one table of these columns.
    fn table(columns: &str) -> String {
        format!(
            "Resources: {{T: {{Type: 'AWS::Glue::Table', Properties: {{TableInput: {{StorageDescriptor: {{Columns: \
             {columns}}}}}}}}}}}"
        )
    }

    #[rstest]
    #[case("[{Name: a, Type: text}]", "expected a type, found `text` (type: text, position: 1, column: a, table: T)")]
    #[case("[{Name: a, Type: int}, {Name: A, Type: int}]", "this column is declared twice (column: A, table: T)")]
    #[case("[{Type: int}]", "this column has no `Name` (column: Columns[0], table: T)")]
    #[case("[{Name: a}]", "this column has no `Type` (column: a, table: T)")]
    #[case("[a]", "the column is not what CloudFormation expects there (column: Columns[0], table: T)")]
    #[case("[]", "this Glue table declares no columns (table: T)")]
    #[case(
        "[{Name: a, Type: !ImportValue x}]",
        "`Type` depends on the deployment (`!ImportValue`), but a contract has to be known before; write it out, or give \
         the parameter a default (column: a, table: T)"
    )]
    #[case(
        "!If [c, [], []]",
        "`Columns` depends on the deployment (`!If`), but a contract has to be known before; write it out, or give the \
         parameter a default (table: T)"
    )]
    fn errors_name_table_and_column(#[case] columns: &str, #[case] message: &str) {
        let error = schema_from_cloudformation(&table(columns), "T").unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.kind(), hardtack_core::ErrorKind::Usage);
    }

    #[rstest]
    #[case(
        YAML,
        "the CloudFormation template has no such Glue table (table: author, tables: Books (dev_books), Keyless, \
         Twin (twin), Twin2 (twin))"
    )]
    #[case("Resources: {}", "the CloudFormation template has no such Glue table (table: author, tables: none)")]
    #[case("a: [", "the CloudFormation template is not valid YAML: ")]
    #[case("a: 1\na: 2", "the CloudFormation template is not valid YAML: ")]
    #[case("---\na: 1\n---\nb: 2", "the CloudFormation template is not valid YAML: it has 2 documents")]
    #[case("{\"a\": 1,}", "the CloudFormation template is not valid JSON: trailing comma at line 1 column 9")]
    fn an_unknown_table_lists_those_there_are(#[case] template: &str, #[case] message: &str) {
        let chain = schema_from_cloudformation(template, "author").unwrap_err().chain();
        assert!(chain.starts_with(message), "{chain}");
    }

    #[test]
    fn a_name_that_two_tables_share_is_ambiguous() {
        let error = schema_from_cloudformation(YAML, "twin").unwrap_err();
        assert_eq!(error.get("tables"), Some("Twin, Twin2"));
        assert_eq!(show(&schema_from_cloudformation(YAML, "Twin2").unwrap()), "b: string");
    }
}
