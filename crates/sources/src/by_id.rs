//! Parquet files whose columns are matched by field id: those of Iceberg tables.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as DFResult, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use hardtack_core::progress::Part;
use hardtack_core::{Location, Meter};
use object_store::ObjectMeta;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use url::Url;

use crate::listed::UNKNOWN_TIME;
use crate::parquet::{read, with_int96_unit};
use crate::scan::Origin;
use crate::spelling::{Spelling, adapter};
use crate::table::FileSet;

/// Marks the schema of a scan with a name mapping.
const BY_NAMES: &str = "hardtack.by_names";

/// A Parquet file for [`ScanById`]. It must never be rewritten: only its size is compared before it is read.
#[derive(Debug, Clone)]
pub struct IdFile {
    /// Where it is.
    pub location: Location,
    /// Its size.
    pub bytes: u64,
    /// Columns with one value in all rows of the file, by position in the schema, in ascending order. The file itself
    /// need not contain them.
    pub constants: Vec<(usize, ScalarValue)>,
    /// The part of a source that it is, if somebody follows how far that is read.
    pub part: Option<Part>,
}

impl IdFile {
    /// A file of this size in bytes, without constant columns.
    pub fn new(location: Location, bytes: u64) -> Self {
        Self { location, bytes, constants: Vec::new(), part: None }
    }
}

/// The field ids of names, for files that contain none: an Iceberg name mapping.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NamedId {
    /// The field id; none if the field is not in the schema.
    pub id: Option<i32>,
    /// The names that the field has had.
    pub names: Vec<String>,
    /// The fields within: those of a struct, `element` of a list, `key` and `value` of a map.
    pub fields: Vec<NamedId>,
}

/// Reads given Parquet files whose columns are matched by field id, at any depth, as Iceberg requires. Columns may have
/// been renamed, reordered, dropped, added and widened since a file was written:
///
/// * A column that the file lacks is null there, or refused if it is required.
/// * A column of the file whose id is not in the schema is not read, even if its name is.
/// * A file without field ids is matched by the [names](ScanById::with_names) that the table remembers, or else by the
///   names of the schema.
///
/// Plans read only the columns, row groups and pages that they need.
#[derive(Debug, Clone)]
pub struct ScanById {
    /// With field ids.
    wanted: SchemaRef,
    /// Without field ids: plans compare types, and nested fields with and without metadata differ.
    schema: SchemaRef,
    names: Option<Arc<[NamedId]>>,
    meter: Arc<Meter>,
}

impl ScanById {
    /// A scan with this schema, whose fields carry their ids as Parquet readers note them (`PARQUET:field_id`), nested
    /// ones as well. `meter` counts what is read.
    pub fn new(schema: &SchemaRef, meter: Arc<Meter>) -> Self {
        let metadata = schema.metadata().clone();
        let plain = Schema::new_with_metadata(without_ids(schema.fields()), metadata);
        Self { wanted: Arc::clone(schema), schema: Arc::new(plain), names: None, meter }
    }

    /// Matches the columns of files without field ids by these names.
    #[must_use]
    pub fn with_names(self, names: Vec<NamedId>) -> Self {
        // DataFusion does not adapt a file whose schema equals that of the plan, but its names may mean other columns.
        let marked = [(BY_NAMES.to_owned(), true.to_string())].into();
        let schema = Arc::new(self.schema.as_ref().clone().with_metadata(marked));
        Self { names: Some(names.into()), schema, ..self }
    }

    /// The columns, without their ids.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Plans to read these columns of the files, or all. No store is asked for the files before they are read.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for a location that cannot be resolved; during execution
    /// [`Refused`](hardtack_core::ErrorKind::Refused) for files that do not fit, and
    /// [`Changed`](hardtack_core::ErrorKind::Changed) for files that are missing or of another size.
    pub async fn plan(
        &self,
        files: Vec<IdFile>,
        columns: Option<&Vec<usize>>,
        limit: Option<usize>,
        session: &dyn Session,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let columns = columns.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        self.meter.add_files(files.len() as u64);
        self.meter.expect_bytes(files.iter().map(|file| file.bytes).sum());
        let mut plans = Vec::new();
        for set in sets(files)? {
            plans.push(self.plan_set(set, &columns, limit, session)?);
        }
        match plans.len() {
            0 => Ok(Arc::new(EmptyExec::new(Arc::new(self.schema.project(&columns)?)))),
            _ => UnionExec::try_new(plans),
        }
    }

    /// These files as a table: filters are pushed down to them as in any query.
    pub fn table(self, files: Vec<IdFile>) -> Arc<dyn TableProvider> {
        Arc::new(IdTable { scan: self, files })
    }

    fn plan_set(
        &self,
        set: Set,
        columns: &[usize],
        limit: Option<usize>,
        session: &dyn Session,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let Set { store, constants, files } = set;
        let stored: Vec<usize> = (0..self.schema.fields().len()).filter(|i| !constants.contains(i)).collect();
        let file_schema = Arc::new(self.schema.project(&stored)?);
        let partitions = self.schema.project(&constants)?.fields().to_vec();
        // The table schema of a file source has partition columns last.
        let order: Vec<usize> = stored.into_iter().chain(constants).collect();
        let places = columns.iter().filter_map(|column| order.iter().position(|i| i == column)).collect();
        let origin = Origin {
            store: store.clone(),
            meter: Arc::clone(&self.meter),
            target_partitions: session.config().target_partitions(),
        };
        let options = with_int96_unit(session.table_options().parquet.clone());
        let source = read(TableSchema::new(file_schema, partitions), origin, options);
        let adapter = ById { wanted: Arc::clone(&self.wanted), names: self.names.clone() };
        let store = ObjectStoreUrl::parse(&store)?;
        FileSet { store, files, source, adapter: Some(Arc::new(adapter)) }.plan(places, limit, session)
    }
}

/// Given files.
#[derive(Debug)]
struct IdTable {
    scan: ScanById,
    files: Vec<IdFile>,
}

#[async_trait]
impl TableProvider for IdTable {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(self.scan.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        columns: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        self.scan.plan(self.files.clone(), columns, limit, session).await
    }
}

/// Files of one store in which the same columns are constant.
struct Set {
    store: Url,
    constants: Vec<usize>,
    files: Vec<PartitionedFile>,
}

fn sets(files: Vec<IdFile>) -> DFResult<Vec<Set>> {
    let mut sets: Vec<Set> = Vec::new();
    for file in files {
        let resolved = file.location.resolve()?;
        let meta = ObjectMeta {
            location: resolved.path,
            last_modified: UNKNOWN_TIME,
            size: file.bytes,
            e_tag: None,
            version: None,
        };
        let part = file.part;
        let (constants, values): (Vec<_>, Vec<_>) = file.constants.into_iter().unzip();
        let mut file = PartitionedFile::from(meta);
        file.partition_values = values;
        if let Some(part) = part {
            file = part.beside(file);
        }
        match sets.iter_mut().find(|set| set.store == resolved.store && set.constants == constants) {
            Some(set) => set.files.push(file),
            None => sets.push(Set { store: resolved.store, constants, files: vec![file] }),
        }
    }
    Ok(sets)
}

// --- field ids -----------------------------------------------------------------------------------------------------

fn id_of(field: &Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

/// The fields without the ids that Parquet readers note. Nested fields have no metadata at all: it is a part of types.
fn without_ids(fields: &Fields) -> Fields {
    fn plain(data_type: &DataType) -> DataType {
        let bare = |field: &FieldRef| Arc::new(Field::new(field.name(), plain(field.data_type()), field.is_nullable()));
        match data_type {
            DataType::Struct(fields) => DataType::Struct(fields.iter().map(bare).collect()),
            DataType::List(item) => DataType::List(bare(item)),
            DataType::LargeList(item) => DataType::LargeList(bare(item)),
            DataType::FixedSizeList(item, size) => DataType::FixedSizeList(bare(item), *size),
            DataType::Map(entries, sorted) => DataType::Map(bare(entries), *sorted),
            other => other.clone(),
        }
    }
    let without = |field: &FieldRef| {
        let mut metadata = field.metadata().clone();
        metadata.remove(PARQUET_FIELD_ID_META_KEY);
        Arc::new(field.as_ref().clone().with_data_type(plain(field.data_type())).with_metadata(metadata))
    };
    fields.iter().map(without).collect()
}

fn has_ids(fields: &Fields) -> bool {
    fields.iter().any(|field| id_of(field).is_some() || nested(field.data_type()).is_some_and(has_ids))
}

/// The fields within a type, except for the positions of lists and maps that hold them.
fn nested(data_type: &DataType) -> Option<&Fields> {
    match data_type {
        DataType::Struct(fields) => Some(fields),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => nested(item.data_type()),
        _ => None,
    }
}

/// Notes the ids that a name mapping gives to the fields of a file.
fn with_ids(fields: &Fields, names: &[NamedId]) -> Fields {
    let named = |name: &str| names.iter().find(|named| named.names.iter().any(|known| known == name));
    let noted = |field: &FieldRef| match named(field.name()) {
        Some(named) => Arc::new(with_id(field, named)),
        None => Arc::clone(field),
    };
    fields.iter().map(noted).collect()
}

fn with_id(field: &Field, named: &NamedId) -> Field {
    let within = |name: &str| {
        let found = named.fields.iter().find(|inner| inner.names.iter().any(|known| known == name));
        found.cloned().unwrap_or_default()
    };
    let data_type = match field.data_type() {
        DataType::List(item) => DataType::List(Arc::new(with_id(item, &within("element")))),
        DataType::LargeList(item) => DataType::LargeList(Arc::new(with_id(item, &within("element")))),
        DataType::FixedSizeList(item, size) => {
            DataType::FixedSizeList(Arc::new(with_id(item, &within("element"))), *size)
        }
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                let pair: Fields = vec![with_id(&pair[0], &within("key")), with_id(&pair[1], &within("value"))].into();
                let entries = entries.as_ref().clone().with_data_type(DataType::Struct(pair));
                DataType::Map(Arc::new(entries), *sorted)
            }
            _ => field.data_type().clone(),
        },
        DataType::Struct(fields) => DataType::Struct(with_ids(fields, &named.fields)),
        other => other.clone(),
    };
    let mut metadata = field.metadata().clone();
    if let Some(id) = named.id {
        metadata.insert(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
    }
    field.clone().with_data_type(data_type).with_metadata(metadata)
}

/// How the columns of a file are matched.
#[derive(Clone, Copy)]
enum Match {
    Ids,
    Names,
}

impl Match {
    fn is(self, stored: &Field, wanted: &Field) -> bool {
        match self {
            Self::Names => stored.name() == wanted.name(),
            Self::Ids => match id_of(stored) {
                Some(id) => id_of(wanted) == Some(id),
                // DataFusion loses the ids of nested columns in files with timestamps of the old type INT96.
                None => nested(stored.data_type()).is_some() && stored.name() == wanted.name(),
            },
        }
    }

    /// The position of the wanted field, if the file has it; or why that is ambiguous.
    fn find(self, stored: &Fields, wanted: &Field) -> Result<Option<usize>, String> {
        let found: Vec<usize> =
            stored.iter().enumerate().filter(|(_, field)| self.is(field, wanted)).map(|(i, _)| i).collect();
        match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(*one)),
            several => {
                let names: Vec<_> = several.iter().map(|i| format!("`{}`", stored[*i].name())).collect();
                let id = id_of(wanted).map_or_else(String::new, |id| format!(" with field id {id}"));
                Err(format!("the file has {} for `{}`{id}", names.join(" and "), wanted.name()))
            }
        }
    }

    /// The stored field under the names of the wanted one, at any depth.
    fn relabel(self, stored: &Field, wanted: &Field) -> Result<Field, String> {
        use DataType as D;
        let inside = |s: &FieldRef, w: &FieldRef| Ok::<_, String>(Arc::new(self.relabel(s, w)?));
        let data_type = match (stored.data_type(), wanted.data_type()) {
            (D::Struct(fields), D::Struct(wanted)) => {
                let mut relabelled = unmatched(fields);
                for wanted in wanted {
                    if let Some(place) = self.find(fields, wanted)? {
                        relabelled[place] = Arc::new(self.relabel(&fields[place], wanted)?);
                    }
                }
                D::Struct(relabelled.into())
            }
            // What is within lists and maps is matched by position.
            (D::List(item), D::List(wanted) | D::LargeList(wanted)) => D::List(inside(item, wanted)?),
            (D::LargeList(item), D::List(wanted) | D::LargeList(wanted)) => D::LargeList(inside(item, wanted)?),
            (D::FixedSizeList(item, size), D::List(wanted) | D::LargeList(wanted)) => {
                D::FixedSizeList(inside(item, wanted)?, *size)
            }
            (D::Map(entries, sorted), D::Map(wanted, _)) => match (entries.data_type(), wanted.data_type()) {
                (D::Struct(s), D::Struct(w)) if s.len() == 2 && w.len() == 2 => {
                    let pair = Fields::from(vec![inside(&s[0], &w[0])?, inside(&s[1], &w[1])?]);
                    let entries = Field::new(wanted.name(), D::Struct(pair), entries.is_nullable());
                    D::Map(Arc::new(entries), *sorted)
                }
                _ => stored.data_type().clone(),
            },
            (other, _) => other.clone(),
        };
        Ok(Field::new(wanted.name(), data_type, stored.is_nullable()))
    }
}

/// Fields under names that no schema has.
fn unmatched(fields: &Fields) -> Vec<FieldRef> {
    let hidden = |(i, field): (usize, &FieldRef)| {
        Arc::new(Field::new(format!("\0{i}"), field.data_type().clone(), field.is_nullable()))
    };
    fields.iter().enumerate().map(hidden).collect()
}

impl Spelling {
    /// The columns of a file, with their ids, under the names of the schema.
    fn by_id(stored: &Schema, wanted: &Schema, names: Option<&[NamedId]>) -> Self {
        let (mut fields, mut unclear) = (unmatched(stored.fields()), Vec::new());
        let (known, how) = match (has_ids(stored.fields()), names) {
            (true, _) => (stored.fields().clone(), Match::Ids),
            (false, Some(names)) => (with_ids(stored.fields(), names), Match::Ids),
            (false, None) => (stored.fields().clone(), Match::Names),
        };
        for wanted in wanted.fields() {
            let relabelled = |place: usize| Ok((place, how.relabel(&known[place], wanted)?));
            match how.find(&known, wanted).and_then(|place| place.map(relabelled).transpose()) {
                Ok(Some((place, field))) => fields[place] = Arc::new(field),
                Ok(None) => {}
                Err(why) => unclear.push((wanted.name().clone(), why)),
            }
        }
        Self { schema: Arc::new(Schema::new(fields)), unclear }
    }
}

/// Adapts a file's columns to those of the schema with the same field ids.
#[derive(Debug)]
struct ById {
    /// With field ids.
    wanted: SchemaRef,
    names: Option<Arc<[NamedId]>>,
}

impl PhysicalExprAdapterFactory for ById {
    fn create(&self, wanted: SchemaRef, stored: SchemaRef) -> DFResult<Arc<dyn PhysicalExprAdapter>> {
        let spelling = Spelling::by_id(&stored, &self.wanted, self.names.as_deref());
        adapter(spelling, wanted, stored, false)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn field(id: i32, name: &str, of: DataType) -> Field {
        let field = Field::new(name, of, true);
        if id == 0 {
            field
        } else {
            field.with_metadata([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())].into())
        }
    }

    fn structure(fields: &[Field]) -> DataType {
        DataType::Struct(fields.to_vec().into())
    }

    fn list(id: i32, name: &str, of: DataType) -> DataType {
        DataType::List(Arc::new(field(id, name, of)))
    }

    fn map(entries: &str, key: Field, value: Field) -> DataType {
        let pair = DataType::Struct(vec![key.with_nullable(false), value].into());
        DataType::Map(Arc::new(Field::new(entries, pair, false)), false)
    }

    fn schema(fields: &[Field]) -> Schema {
        Schema::new(fields.to_vec())
    }

    fn spelled(stored: &[Field], wanted: &[Field], names: Option<&[NamedId]>) -> Vec<String> {
        let spelling = Spelling::by_id(&schema(stored), &schema(wanted), names);
        let shown = |field: &FieldRef| {
            let shown = format!("{:?}: {}", field.name(), field.data_type());
            shown.replacen('"', "", 2).replace("\\0", "-")
        };
        spelling.schema.fields().iter().map(shown).collect()
    }

    const INT: DataType = DataType::Int32;

    #[rstest]
    #[case::same(&[field(1, "a", INT)], &[field(1, "a", INT)], &["a: Int32"])]
    #[case::renamed(&[field(1, "a", INT), field(2, "b", INT)], &[field(1, "b", INT), field(2, "a", INT)], &["b: Int32", "a: Int32"])]
    #[case::added_again(&[field(1, "a", INT)], &[field(7, "a", INT)], &["-0: Int32"])]
    #[case::the_file_has_its_own_type(&[field(1, "a", INT)], &[field(1, "b", DataType::Int64)], &["b: Int32"])]
    #[case::no_ids(&[field(0, "a", INT), field(0, "x", INT)], &[field(1, "b", INT), field(2, "a", INT)], &["a: Int32", "-1: Int32"])]
    #[case::some_ids(&[field(0, "a", INT), field(2, "x", INT)], &[field(1, "a", INT), field(2, "b", INT)], &["-0: Int32", "b: Int32"])]
    #[case::structure(
        &[field(1, "s", structure(&[field(2, "a", INT), field(3, "b", INT)]))],
        &[field(1, "t", structure(&[field(3, "a", INT), field(4, "b", INT)]))],
        &[r#"t: Struct("-0": Int32, "a": Int32)"#],
    )]
    #[case::list(
        &[field(1, "s", list(2, "item", structure(&[field(3, "a", INT)])))],
        &[field(1, "t", list(2, "element", structure(&[field(3, "b", INT)])))],
        &[r#"t: List(Struct("b": Int32), field: 'element')"#],
    )]
    #[case::map(
        &[field(1, "m", map("entries", field(2, "keys", INT), field(3, "values", structure(&[field(4, "a", INT)]))))],
        &[field(1, "n", map("key_value", field(2, "key", INT), field(3, "value", structure(&[field(4, "b", INT)]))))],
        &[r#"n: Map("key_value": non-null Struct("key": non-null Int32, "value": Struct("b": Int32)), unsorted)"#],
    )]
    fn columns_have_the_names_of_the_schema(
        #[case] stored: &[Field],
        #[case] wanted: &[Field],
        #[case] expected: &[&str],
    ) {
        assert_eq!(spelled(stored, wanted, None), expected);
    }

    /// Ids are no part of types: plans would take `List(Int32)` for two types.
    #[test]
    fn the_schema_of_a_plan_has_no_ids() {
        let within = structure(&[field(5, "x", list(6, "element", INT))]);
        let wanted = schema(&[
            field(1, "a", INT),
            field(2, "m", map("key_value", field(3, "key", INT), field(4, "value", within))),
        ]);
        let scan = ScanById::new(&Arc::new(wanted), Arc::default());
        assert!(!format!("{:?}", scan.schema()).contains(PARQUET_FIELD_ID_META_KEY), "{:?}", scan.schema());
        assert!(scan.schema().field(1).data_type().is_nested());
    }

    fn named(id: i32, names: &[&str], fields: Vec<NamedId>) -> NamedId {
        NamedId { id: Some(id), names: names.iter().map(|name| (*name).to_owned()).collect(), fields }
    }

    /// A table that was migrated knows the names that its columns had.
    #[test]
    fn files_without_ids_are_matched_by_known_names() {
        let element = named(4, &["element"], vec![named(5, &["was"], vec![])]);
        let names = [
            named(1, &["old", "new"], vec![]),
            named(2, &["s"], vec![named(3, &["x"], vec![])]),
            named(6, &["l"], vec![element]),
        ];
        let stored = [
            field(0, "old", INT),
            field(0, "s", structure(&[field(0, "x", INT), field(0, "y", INT)])),
            field(0, "l", list(0, "item", structure(&[field(0, "was", INT)]))),
        ];
        let wanted = [
            field(1, "new", INT),
            field(2, "s", structure(&[field(3, "y", INT)])),
            field(6, "l", list(4, "element", structure(&[field(5, "is", INT)]))),
        ];
        let expected = [
            "new: Int32",
            r#"s: Struct("y": Int32, "-1": Int32)"#,
            r#"l: List(Struct("is": Int32), field: 'element')"#,
        ];
        assert_eq!(spelled(&stored, &wanted, Some(&names)), expected);
    }

    #[test]
    fn an_id_that_a_file_has_twice_is_refused() {
        let stored = schema(&[field(1, "a", INT), field(1, "b", INT)]);
        let spelling = Spelling::by_id(&stored, &schema(&[field(1, "c", INT)]), None);
        let error = spelling.check("c").unwrap_err();
        assert_eq!(error.to_string(), "the file has `a` and `b` for `c` with field id 1 (column: c)");
    }
}
