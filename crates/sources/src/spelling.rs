//! Matches names in any case: catalogs have lower-case names only, files have them as they were written.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::common::Result as DFResult;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory};
use hardtack_core::{Error, Result};

use crate::convert::{Conversion, Convert, Lossless, rename};

/// The columns of a file under the names of a schema. An exact match is preferred over one that differs only in case.
/// This applies to the fields of structs, too.
#[derive(Debug, Clone)]
pub(crate) struct Spelling {
    /// In the order of the file.
    pub(crate) schema: SchemaRef,
    /// Columns of the schema that match several columns of the file, and why.
    pub(crate) unclear: Vec<(String, String)>,
}

impl Spelling {
    /// Keeps the file's own names.
    pub(crate) fn stored(schema: SchemaRef) -> Self {
        Self { schema, unclear: Vec::new() }
    }

    pub(crate) fn new(stored: &Schema, wanted: &Schema) -> Self {
        let (mut fields, mut unclear) = (stored.fields().to_vec(), Vec::new());
        for wanted in wanted.fields() {
            match respell(stored.fields(), wanted) {
                Ok(Some((place, field))) => fields[place] = field,
                Ok(None) => {}
                Err(why) => unclear.push((wanted.name().clone(), why)),
            }
        }
        Self { schema: Arc::new(Schema::new(fields)), unclear }
    }

    /// Refuses a column that matches several columns of the file.
    pub(crate) fn check(&self, column: &str) -> Result<()> {
        match self.unclear.iter().find(|(name, _)| name == column) {
            None => Ok(()),
            Some((_, why)) => Err(Error::refused(why).with("column", column)),
        }
    }

    /// Renames these columns of a batch to their names in the schema.
    pub(crate) fn batch(&self, batch: &RecordBatch, columns: &[usize]) -> Result<RecordBatch, ArrowError> {
        let schema = Arc::new(self.schema.project(columns)?);
        let renamed = batch.columns().iter().zip(schema.fields()).map(|(c, f)| rename(c, f.data_type()));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&schema), renamed.collect::<Result<_, _>>()?, &options)
    }
}

/// The field that matches the requested one, renamed, or why that is ambiguous.
fn respell(stored: &Fields, wanted: &Field) -> Result<Option<(usize, FieldRef)>, String> {
    let matching = |same: &dyn Fn(&str) -> bool| -> Vec<usize> {
        stored.iter().enumerate().filter(|(_, f)| same(f.name())).map(|(i, _)| i).collect()
    };
    let mut found = matching(&|name| name == wanted.name());
    if found.is_empty() {
        let folded = wanted.name().to_lowercase();
        found = matching(&|name| name.to_lowercase() == folded);
    }
    match found.as_slice() {
        [] => Ok(None),
        [one] => {
            let field = stored[*one].as_ref().clone().with_name(wanted.name());
            let data_type = respell_type(field.data_type(), wanted.data_type())?;
            Ok(Some((*one, Arc::new(field.with_data_type(data_type)))))
        }
        several => {
            let names: Vec<_> = several.iter().map(|i| format!("`{}`", stored[*i].name())).collect();
            Err(format!("the file has {}, and each matches `{}`", names.join(" and "), wanted.name()))
        }
    }
}

fn respell_type(stored: &DataType, wanted: &DataType) -> Result<DataType, String> {
    use DataType as D;
    let inside = |s: &FieldRef, w: &FieldRef| {
        let data_type = respell_type(s.data_type(), w.data_type())?;
        Ok::<_, String>(Arc::new(s.as_ref().clone().with_data_type(data_type)))
    };
    Ok(match (stored, wanted) {
        (D::Struct(stored), D::Struct(wanted)) => {
            let mut fields = stored.to_vec();
            for wanted in wanted {
                if let Some((place, field)) = respell(stored, wanted)? {
                    fields[place] = field;
                }
            }
            D::Struct(fields.into())
        }
        (
            D::List(item) | D::LargeList(item) | D::FixedSizeList(item, _) | D::ListView(item) | D::LargeListView(item),
            D::List(wanted)
            | D::LargeList(wanted)
            | D::FixedSizeList(wanted, _)
            | D::ListView(wanted)
            | D::LargeListView(wanted),
        ) => {
            let item = inside(item, wanted)?;
            match stored {
                D::LargeList(_) => D::LargeList(item),
                D::FixedSizeList(_, size) => D::FixedSizeList(item, *size),
                D::ListView(_) => D::ListView(item),
                D::LargeListView(_) => D::LargeListView(item),
                _ => D::List(item),
            }
        }
        (D::Map(stored, sorted), D::Map(wanted, _)) => match (stored.data_type(), wanted.data_type()) {
            // Keys and values are matched by position, whatever their names.
            (D::Struct(s), D::Struct(w)) if s.len() == 2 && w.len() == 2 => {
                let pair = Fields::from(vec![inside(&s[0], &w[0])?, inside(&s[1], &w[1])?]);
                D::Map(Arc::new(stored.as_ref().clone().with_data_type(D::Struct(pair))), *sorted)
            }
            _ => D::Map(Arc::clone(stored), *sorted),
        },
        _ => stored.clone(),
    })
}

// --- in plans ------------------------------------------------------------------------------------------------------

/// [`Lossless`], for files that may spell names in another case.
#[derive(Debug)]
pub(crate) struct Caseless {
    pub(crate) truncates: bool,
}

impl PhysicalExprAdapterFactory for Caseless {
    fn create(&self, wanted: SchemaRef, stored: SchemaRef) -> DFResult<Arc<dyn PhysicalExprAdapter>> {
        adapter(Spelling::new(&stored, &wanted), wanted, stored, self.truncates)
    }
}

/// [`Lossless`], for a file whose columns have other names than those of the schema.
pub(crate) fn adapter(
    spelling: Spelling,
    wanted: SchemaRef,
    stored: SchemaRef,
    truncates: bool,
) -> DFResult<Arc<dyn PhysicalExprAdapter>> {
    let inner = Lossless { truncates }.create(wanted, Arc::clone(&spelling.schema))?;
    Ok(Arc::new(SpellingAdapter { inner, spelling, stored }))
}

#[derive(Debug)]
struct SpellingAdapter {
    /// The adapter for the columns under the names of the schema.
    inner: Arc<dyn PhysicalExprAdapter>,
    spelling: Spelling,
    stored: SchemaRef,
}

impl PhysicalExprAdapter for SpellingAdapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> DFResult<Arc<dyn PhysicalExpr>> {
        for column in collect_columns(&expr) {
            self.spelling.check(column.name())?;
        }
        // The reader finds columns by their names in the file.
        let as_stored = |expr: Arc<dyn PhysicalExpr>| {
            let Some(column) = expr.as_any().downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
            let (stored, spelled) = (self.stored.field(column.index()), self.spelling.schema.field(column.index()));
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(stored.name(), column.index()));
            let same = stored.data_type() == spelled.data_type();
            let renamed = || {
                Arc::new(Convert::new(Arc::clone(&column), spelled.clone(), Conversion::Renaming))
                    as Arc<dyn PhysicalExpr>
            };
            Ok(Transformed::yes(if same { column } else { renamed() }))
        };
        self.inner.rewrite(expr)?.transform(as_stored).data()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn item(of: DataType) -> FieldRef {
        Arc::new(Field::new("item", of, true))
    }

    fn schema(fields: &[(&str, DataType)]) -> Schema {
        Schema::new(fields.iter().map(|(name, of)| Field::new(*name, of.clone(), true)).collect::<Fields>())
    }

    fn map(key: &str, value: DataType) -> DataType {
        let pair = vec![Field::new(key, DataType::Utf8, false), Field::new("value", value, true)];
        DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair.into()), false)), false)
    }

    #[test]
    fn names_are_those_of_the_schema_and_all_else_is_the_files() {
        let of =
            |name: &str, n: DataType| DataType::Struct(schema(&[(name, n), ("X", DataType::Int8)]).fields().clone());
        let stored = schema(&[
            ("ID", DataType::Int32),
            ("Other", DataType::Int8),
            ("exact", DataType::Int8),
            ("EXACT", DataType::Int8),
            ("list", DataType::new_large_list(of("IN", DataType::Int16), false)),
            ("l", DataType::new_list(of("IN", DataType::Int16), false)),
            ("m", map("K", of("IN", DataType::Int16))),
        ]);
        let wanted = schema(&[
            ("M", map("key", of("in", DataType::Int64))),
            ("L", DataType::new_list(of("in", DataType::Int64), true)),
            ("list", DataType::new_large_list(of("in", DataType::Int64), true)),
            ("id", DataType::Utf8),
            ("exact", DataType::Int8),
            ("missing", DataType::Int8),
        ]);
        let spelled = Spelling::new(&stored, &wanted);
        let expected = schema(&[
            ("id", DataType::Int32),
            ("Other", DataType::Int8),
            ("exact", DataType::Int8),
            ("EXACT", DataType::Int8),
            ("list", DataType::new_large_list(of("in", DataType::Int16), false)),
            ("L", DataType::new_list(of("in", DataType::Int16), false)),
            // Keys and values are matched by position, whatever their names.
            ("M", map("K", of("in", DataType::Int16))),
        ]);
        assert_eq!(*spelled.schema, expected);
        assert!(spelled.check("exact").is_ok());
    }

    #[rstest]
    #[case::list(|of| DataType::List(item(of)))]
    #[case::large_list(|of| DataType::LargeList(item(of)))]
    #[case::fixed_list(|of| DataType::FixedSizeList(item(of), 3))]
    #[case::list_view(|of| DataType::ListView(item(of)))]
    #[case::large_list_view(|of| DataType::LargeListView(item(of)))]
    fn lists_stay_as_the_file_has_them(#[case] stored: fn(DataType) -> DataType) {
        let of = |name: &str| DataType::Struct(schema(&[(name, DataType::Int8)]).fields().clone());
        let wanted = DataType::new_list(of("x"), true);
        assert_eq!(respell_type(&stored(of("X")), &wanted).unwrap(), stored(of("x")));
    }

    /// No file should have such a map, but files contain whatever was written.
    #[rstest]
    #[case(&["K", "V"], &["k"])]
    #[case(&["K"], &["k", "v"])]
    #[case(&[], &[])]
    #[case(&["K", "V", "W"], &["k", "v", "w"])]
    fn maps_whose_entries_are_no_pairs_stay_as_they_are(#[case] stored: &[&str], #[case] wanted: &[&str]) {
        let map = |names: &[&str]| {
            let fields: Vec<_> = names.iter().map(|name| (*name, DataType::Int8)).collect();
            let entries = DataType::Struct(schema(&fields).fields().clone());
            DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
        };
        assert_eq!(respell_type(&map(stored), &map(wanted)).unwrap(), map(stored));
    }

    #[test]
    fn what_may_be_two_columns_is_refused_with_both() {
        let inner = DataType::Struct(
            schema(&[("N", DataType::Int8), ("n", DataType::Int8), ("M", DataType::Int8)]).fields().clone(),
        );
        let stored = schema(&[("Id", DataType::Int8), ("iD", DataType::Int8), ("s", inner)]);
        let part = |name: &str| DataType::Struct(schema(&[(name, DataType::Int8)]).fields().clone());
        let spelled = Spelling::new(&stored, &schema(&[("id", DataType::Int8), ("s", part("n"))]));
        insta::assert_snapshot!(spelled.check("id").unwrap_err(), @"the file has `Id` and `iD`, and each matches `id` (column: id)");
        assert!(spelled.check("s").is_ok());
        let DataType::Struct(twice) = part("x") else { unreachable!() };
        assert!(respell(&twice, &Field::new("X", DataType::Int8, true)).unwrap().is_some());
    }
}
