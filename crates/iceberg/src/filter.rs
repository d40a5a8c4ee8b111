//! Filters of a query as predicates of Iceberg, which skip manifests and files.
//!
//! A predicate may select more than the filter, never less: DataFusion evaluates the filter on every row that is read. So
//! whatever Iceberg or the crate `iceberg` treats differently from DataFusion is left out.

use std::collections::HashMap;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use iceberg::expr::{Predicate, Reference};
use iceberg::spec::{Datum, PrimitiveType, Schema, TableMetadata, Transform, Type};

/// The columns by which files of a snapshot can be skipped, and how the snapshot's schema has them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Skipping {
    columns: HashMap<String, (String, PrimitiveType)>,
}

impl Skipping {
    /// The columns of `schema` by which files can be skipped. The filters' names are those of `schema`, the predicates'
    /// those of the snapshot's own schema.
    pub(crate) fn new(metadata: &TableMetadata, snapshot: &Schema, schema: &Schema) -> Self {
        // The crate fails to project a predicate to a partition field whose column the snapshot does not have.
        let mut sources = metadata.partition_specs_iter().flat_map(|spec| spec.fields()).map(|field| field.source_id);
        if sources.any(|source| snapshot.field_by_id(source).is_none()) {
            return Self::default();
        }
        let columns = schema.as_struct().fields().iter().filter_map(|field| {
            let (Type::Primitive(of), stored) = (field.field_type.as_ref(), snapshot.field_by_id(field.id)?) else {
                return None;
            };
            let is_top_level = snapshot.as_struct().fields().iter().any(|top| top.id == field.id);
            // A point would refer to a nested field.
            let is_plain = is_top_level && !stored.name.contains('.');
            (is_plain && is_of_one_type(metadata, field.id, of))
                .then(|| (field.name.clone(), (stored.name.clone(), of.clone())))
        });
        Self { columns: columns.collect() }
    }

    /// What the filters, all of which hold, imply.
    pub(crate) fn predicate(&self, filters: &[Expr]) -> Option<Predicate> {
        filters.iter().filter_map(|filter| self.implied(filter, true)).reduce(Predicate::and)
    }

    /// What is implied if an expression is true, or false. Null is neither.
    fn implied(&self, expr: &Expr, is: bool) -> Option<Predicate> {
        match expr {
            Expr::Not(inner) => self.implied(inner, !is),
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
                let (left, right) = (self.implied(left, is), self.implied(right, is));
                match (*op == Operator::And) == is {
                    true => left.into_iter().chain(right).reduce(Predicate::and),
                    false => Some(left?.or(right?)),
                }
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (left.as_ref(), right.as_ref()) {
                (Expr::Column(column), Expr::Literal(value, _)) => self.compared(&column.name, *op, value, is),
                (Expr::Literal(value, _), Expr::Column(column)) => self.compared(&column.name, op.swap()?, value, is),
                _ => None,
            },
            Expr::Between(Between { expr, negated, low, high }) => {
                let (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) =
                    (expr.as_ref(), low.as_ref(), high.as_ref())
                else {
                    return None;
                };
                let is = *negated != is;
                let low = self.compared(&column.name, Operator::GtEq, low, is);
                let high = self.compared(&column.name, Operator::LtEq, high, is);
                if is { low.into_iter().chain(high).reduce(Predicate::and) } else { Some(low?.or(high?)) }
            }
            Expr::InList(InList { expr, list, negated }) => {
                let Expr::Column(column) = expr.as_ref() else { return None };
                self.one_of(&column.name, list, *negated != is)
            }
            Expr::IsNull(inner) => self.null(inner, is),
            Expr::IsNotNull(inner) => self.null(inner, !is),
            Expr::Column(column) => self.compared(&column.name, Operator::Eq, &ScalarValue::from(true), is),
            _ => None,
        }
    }

    fn column(&self, name: &str) -> Option<(Reference, &PrimitiveType)> {
        let (stored, of) = self.columns.get(name)?;
        Some((Reference::new(stored), of))
    }

    fn null(&self, expr: &Expr, is: bool) -> Option<Predicate> {
        let Expr::Column(column) = expr else { return None };
        let (column, _) = self.column(&column.name)?;
        Some(if is { column.is_null() } else { column.is_not_null() })
    }

    fn compared(&self, column: &str, op: Operator, value: &ScalarValue, is: bool) -> Option<Predicate> {
        let (column, of) = self.column(column)?;
        let value = datum(value, of)?;
        let op = if is { op } else { op.negate()? };
        // NaN is the greatest value to DataFusion, bounds of files leave it out, and the crate takes a bound that is NaN
        // for one.
        if is_float(of) && op != Operator::Eq {
            return None;
        }
        Some(match op {
            Operator::Eq => column.equal_to(value),
            Operator::NotEq => column.not_equal_to(value),
            // The crate projects exclusive bounds of decimals to wrong partitions, and overflows at the least integer.
            Operator::Lt | Operator::LtEq => column.less_than_or_equal_to(value),
            Operator::Gt | Operator::GtEq => column.greater_than_or_equal_to(value),
            _ => return None,
        })
    }

    fn one_of(&self, column: &str, list: &[Expr], is: bool) -> Option<Predicate> {
        let (column, of) = self.column(column)?;
        let mut values = Vec::new();
        for value in list {
            match value {
                // No value equals null.
                Expr::Literal(value, _) if value.is_null() => {}
                Expr::Literal(value, _) => match datum(value, of) {
                    Some(value) => values.push(value),
                    None if is => return None,
                    None => {}
                },
                _ if is => return None,
                _ => {}
            }
        }
        match (values.is_empty(), is) {
            (true, _) => None,
            (false, true) => Some(column.is_in(values)),
            (false, false) if is_float(of) => None,
            (false, false) => Some(column.is_not_in(values)),
        }
    }
}

fn is_float(of: &PrimitiveType) -> bool {
    matches!(of, PrimitiveType::Float | PrimitiveType::Double)
}

/// Whether partition values of all files are of the same types. The crate `iceberg` finds the deletes of a file by comparing
/// its partition values with those of the deletes, and values of different types are different to it.
pub(crate) fn partitions_are_of_one_type(metadata: &TableMetadata, schema: &Schema) -> bool {
    let fields = metadata.partition_specs_iter().flat_map(|spec| spec.fields());
    let mut kept = fields.filter(|field| matches!(field.transform, Transform::Identity | Transform::Truncate(_)));
    kept.all(|field| match schema.field_by_id(field.source_id).map(|column| column.field_type.as_ref()) {
        Some(Type::Primitive(of)) => is_of_one_type(metadata, field.source_id, of),
        _ => true,
    })
}

/// Whether all files have this column in the same type. The crate `iceberg` does not compare a bound of the type that a
/// column had with a value of the type that it has, and skips the file.
fn is_of_one_type(metadata: &TableMetadata, id: i32, of: &PrimitiveType) -> bool {
    let mut known = metadata.schemas_iter().filter_map(|schema| schema.field_by_id(id));
    let same = known.all(|field| matches!(field.field_type.as_ref(), Type::Primitive(other) if other == of));
    // Schemas of expired snapshots may have been removed, but their files are still there.
    let mut ids: Vec<_> = metadata.schemas_iter().map(|schema| schema.schema_id()).collect();
    ids.sort_unstable();
    let all_known = ids.iter().copied().eq(0..i32::try_from(ids.len()).unwrap_or(i32::MAX));
    let is_widest =
        matches!(of, PrimitiveType::Int | PrimitiveType::Boolean | PrimitiveType::Date | PrimitiveType::String);
    same && (all_known || is_widest)
}

/// The value in the type of the column, if it is exactly that value there.
fn datum(value: &ScalarValue, of: &PrimitiveType) -> Option<Datum> {
    use PrimitiveType as P;
    use ScalarValue as V;
    Some(match (of, value) {
        (P::Boolean, V::Boolean(Some(value))) => Datum::bool(*value),
        (P::Int, value) => Datum::int(i32::try_from(integer(value)?).ok()?),
        (P::Long, value) => Datum::long(i64::try_from(integer(value)?).ok()?),
        // Zero has two forms, which some writers do not tell apart.
        (P::Float, V::Float32(Some(value))) if !value.is_nan() && *value != 0.0 => Datum::float(*value),
        (P::Double, V::Float64(Some(value))) if !value.is_nan() && *value != 0.0 => Datum::double(*value),
        (P::Date, V::Date32(Some(days))) => Datum::date(*days),
        (P::Timestamp, value) => Datum::timestamp_micros(microseconds(value, false)?),
        (P::Timestamptz, value) => Datum::timestamptz_micros(microseconds(value, true)?),
        (P::String, V::Utf8(Some(text)) | V::LargeUtf8(Some(text)) | V::Utf8View(Some(text))) => Datum::string(text),
        (P::Decimal { scale, .. }, V::Decimal128(Some(value), _, stored)) => decimal(*value, *stored, *scale, of)?,
        _ => return None,
    })
}

fn integer(value: &ScalarValue) -> Option<i128> {
    use ScalarValue as V;
    Some(match value {
        V::Int8(value) => (*value)?.into(),
        V::Int16(value) => (*value)?.into(),
        V::Int32(value) => (*value)?.into(),
        V::Int64(value) => (*value)?.into(),
        V::UInt8(value) => (*value)?.into(),
        V::UInt16(value) => (*value)?.into(),
        V::UInt32(value) => (*value)?.into(),
        V::UInt64(value) => (*value)?.into(),
        _ => return None,
    })
}

/// Microseconds since 1970, if that is exact.
fn microseconds(value: &ScalarValue, has_zone: bool) -> Option<i64> {
    use ScalarValue as V;
    let (micros, zone) = match value {
        V::TimestampSecond(value, zone) => ((*value)?.checked_mul(1_000_000)?, zone),
        V::TimestampMillisecond(value, zone) => ((*value)?.checked_mul(1000)?, zone),
        V::TimestampMicrosecond(value, zone) => ((*value)?, zone),
        V::TimestampNanosecond(value, zone) => ((*value).filter(|nanos| nanos % 1000 == 0)? / 1000, zone),
        _ => return None,
    };
    (zone.is_some() == has_zone).then_some(micros)
}

/// A decimal in the column's scale.
fn decimal(value: i128, stored: i8, scale: u32, of: &PrimitiveType) -> Option<Datum> {
    let more = i64::from(scale) - i64::from(stored);
    let factor = 10_i128.checked_pow(u32::try_from(more.abs()).ok()?)?;
    let value = match more {
        0.. => value.checked_mul(factor)?,
        _ => (value % factor == 0).then_some(value / factor)?,
    };
    // The crate makes a decimal of given digits from text only.
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
    let (sign, point) = (if value < 0 { "-" } else { "" }, if scale > 0 { "." } else { "" });
    let datum = Datum::decimal_from_str(format!("{sign}{whole}{point}{fraction}")).ok()?;
    datum.to(&Type::Primitive(of.clone())).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::common::ScalarValue as V;
    use datafusion::prelude::{col, lit, not};
    use iceberg::spec::{
        FormatVersion, NestedField, PartitionSpec, SortOrder, StructType, TableMetadataBuilder, UnboundPartitionSpec,
    };
    use rstest::rstest;

    use super::*;

    fn field(id: i32, name: &str, of: PrimitiveType) -> Arc<NestedField> {
        Arc::new(NestedField::optional(id, name, Type::Primitive(of)))
    }

    fn schema(fields: Vec<Arc<NestedField>>) -> Schema {
        Schema::builder().with_fields(fields).build().unwrap()
    }

    fn metadata(schema: Schema, spec: impl Into<UnboundPartitionSpec>) -> TableMetadataBuilder {
        let (order, at) = (SortOrder::unsorted_order(), "memory:/t".to_owned());
        TableMetadataBuilder::new(schema, spec, order, at, FormatVersion::V2, HashMap::new()).unwrap()
    }

    fn columns() -> Schema {
        use PrimitiveType as P;
        let nested = StructType::new(vec![field(12, "x", P::Int)]);
        schema(vec![
            field(1, "i", P::Int),
            field(2, "l", P::Long),
            field(3, "f", P::Double),
            field(4, "s", P::String),
            field(5, "d", P::Date),
            field(6, "t", P::Timestamp),
            field(7, "z", P::Timestamptz),
            field(8, "n", P::Decimal { precision: 9, scale: 2 }),
            field(9, "b", P::Boolean),
            field(10, "u", P::Uuid),
            Arc::new(NestedField::optional(11, "st", Type::Struct(nested))),
        ])
    }

    fn implied(filter: &Expr) -> String {
        let schema = columns();
        let metadata = metadata(schema.clone(), PartitionSpec::unpartition_spec()).build().unwrap().metadata;
        let stored = metadata.current_schema();
        let skipping = Skipping::new(&metadata, stored, stored);
        skipping
            .predicate(std::slice::from_ref(filter))
            .map_or_else(|| "-".to_owned(), |predicate| predicate.to_string())
    }

    fn micros(value: i64, zone: Option<&str>) -> Expr {
        lit(V::TimestampMicrosecond(Some(value), zone.map(Into::into)))
    }

    #[rstest]
    #[case(col("i").eq(lit(1)), "i = 1")]
    #[case(col("i").not_eq(lit(1)), "i != 1")]
    #[case::exclusive_bounds_include_the_bound(col("i").lt(lit(1)), "i <= 1")]
    #[case(col("i").gt_eq(lit(1_i64)), "i >= 1")]
    #[case::swapped(lit(1).gt(col("i")), "i <= 1")]
    #[case::too_large(col("i").lt(lit(5_000_000_000_i64)), "-")]
    #[case(col("l").eq(lit(5_000_000_000_i64)), "l = 5000000000")]
    #[case::null(col("i").eq(lit(V::Int32(None))), "-")]
    #[case(col("s").gt(lit("x")), "s >= \"x\"")]
    #[case::view(col("s").eq(lit(V::Utf8View(Some("x".into())))), "s = \"x\"")]
    #[case(col("d").eq(lit(V::Date32(Some(1)))), "d = 1970-01-02")]
    #[case(col("t").eq(micros(1, None)), "t = 1970-01-01 00:00:00.000001")]
    #[case::with_a_zone(col("z").eq(micros(1, Some("Europe/Vienna"))), "z = 1970-01-01 00:00:00.000001 UTC")]
    #[case::zone_missing(col("z").eq(micros(1, None)), "-")]
    #[case::zone_too_many(col("t").eq(micros(1, Some("UTC"))), "-")]
    #[case::exact_nanoseconds(col("t").eq(lit(V::TimestampNanosecond(Some(2000), None))), "t = 1970-01-01 00:00:00.000002")]
    #[case::finer(col("t").lt(lit(V::TimestampNanosecond(Some(2001), None))), "-")]
    #[case(col("n").lt(lit(V::Decimal128(Some(-5), 9, 2))), "n <= -0.05")]
    #[case::rescaled(col("n").eq(lit(V::Decimal128(Some(12), 3, 0))), "n = 12.00")]
    #[case::rescaled_down(col("n").eq(lit(V::Decimal128(Some(1230), 9, 3))), "n = 1.23")]
    #[case::too_fine(col("n").eq(lit(V::Decimal128(Some(1234), 9, 3))), "-")]
    #[case::flag(col("b"), "b = true")]
    #[case::no_flag(not(col("b")), "b != true")]
    #[case(col("i").is_null(), "i IS NULL")]
    #[case(not(col("i").is_null()), "i IS NOT NULL")]
    #[case(col("i").is_not_null(), "i IS NOT NULL")]
    #[case(col("i").between(lit(1), lit(3)), "(i >= 1) AND (i <= 3)")]
    #[case(not(col("i").between(lit(1), lit(3))), "(i <= 1) OR (i >= 3)")]
    #[case(col("i").in_list(vec![lit(1), lit(V::Int32(None))], false), "i IN (1)")]
    #[case::one_is_not_expressed(col("i").in_list(vec![lit(1), col("l")], false), "-")]
    #[case(col("i").in_list(vec![lit(1), col("l")], true), "i NOT IN (1)")]
    #[case(col("i").eq(lit(1)).and(col("u").eq(lit("x"))), "i = 1")]
    #[case(col("i").eq(lit(1)).or(col("u").eq(lit("x"))), "-")]
    #[case(col("i").eq(lit(1)).or(col("s").eq(lit("x"))), "(i = 1) OR (s = \"x\")")]
    #[case(not(col("i").eq(lit(1)).or(col("u").eq(lit("x")))), "i != 1")]
    #[case(not(col("i").eq(lit(1)).and(col("u").eq(lit("x")))), "-")]
    #[case(not(col("i").lt(lit(1)).and(col("l").gt(lit(2_i64)))), "(i >= 1) OR (l <= 2)")]
    #[case::cast(datafusion::prelude::cast(col("i"), arrow::datatypes::DataType::Int64).eq(lit(1_i64)), "-")]
    #[case::like(col("s").like(lit("x%")), "-")]
    #[case::nested(datafusion::functions::core::expr_fn::get_field(col("st"), "x").eq(lit(1)), "-")]
    #[case::structure(col("st").is_null(), "-")]
    #[case::float(col("f").eq(lit(1.5)), "f = 1.5")]
    #[case::float_in(col("f").in_list(vec![lit(1.5)], false), "f IN (1.5)")]
    #[case::float_not_in(col("f").in_list(vec![lit(1.5)], true), "-")]
    #[case::not_a_number(col("f").eq(lit(f64::NAN)), "-")]
    #[case::zero(col("f").eq(lit(0.0)), "-")]
    #[case::float_bound(col("f").lt(lit(1.5)), "-")]
    #[case::float_bound(col("f").gt_eq(lit(1.5)), "-")]
    #[case::float_differs(not(col("f").eq(lit(1.5))), "-")]
    #[case::unknown(col("other").eq(lit(1)), "-")]
    fn filters_imply_predicates(#[case] filter: Expr, #[case] expected: &str) {
        assert_eq!(implied(&filter), expected);
    }

    fn changed(change: impl FnOnce(TableMetadataBuilder) -> TableMetadataBuilder) -> TableMetadata {
        let first = schema(vec![field(1, "a", PrimitiveType::Int), field(2, "b", PrimitiveType::Int)]);
        let first = metadata(first, PartitionSpec::unpartition_spec()).build().unwrap().metadata;
        change(first.into_builder(Some("memory:/t/metadata/0.json".to_owned()))).build().unwrap().metadata
    }

    fn named(metadata: &TableMetadata, stored: i32, filter: Expr) -> Option<String> {
        let stored = metadata.schema_by_id(stored).unwrap();
        let skipping = Skipping::new(metadata, stored, metadata.current_schema());
        skipping.predicate(&[filter]).map(|predicate| predicate.to_string())
    }

    /// The snapshot may be older than the names.
    #[test]
    fn predicates_have_the_names_of_the_snapshot() {
        let second = schema(vec![
            field(2, "a", PrimitiveType::Int),
            field(1, "c", PrimitiveType::Int),
            field(3, "b", PrimitiveType::Int),
        ]);
        let metadata = changed(|table| table.add_current_schema(second).unwrap());
        let of = |filter: Expr| named(&metadata, 0, filter);
        assert_eq!(of(col("a").eq(lit(1))).as_deref(), Some("b = 1"));
        assert_eq!(of(col("c").eq(lit(1))).as_deref(), Some("a = 1"));
        assert_eq!(of(col("b").eq(lit(1))), None, "the snapshot does not have it");
    }

    #[test]
    fn columns_that_were_widened_skip_nothing() {
        let second = schema(vec![field(1, "a", PrimitiveType::Long), field(2, "b", PrimitiveType::Int)]);
        let metadata = changed(|table| table.add_current_schema(second).unwrap());
        assert_eq!(named(&metadata, 1, col("a").eq(lit(1_i64))), None);
        assert_eq!(named(&metadata, 1, col("b").eq(lit(1))).as_deref(), Some("b = 1"));
        // Schemas may be forgotten while files are not.
        let metadata = metadata.into_builder(None).remove_schemas(&[0]).unwrap().build().unwrap().metadata;
        assert_eq!(named(&metadata, 1, col("a").eq(lit(1_i64))), None);
        assert_eq!(named(&metadata, 1, col("b").eq(lit(1))).as_deref(), Some("b = 1"));
    }

    #[test]
    fn nothing_is_skipped_if_a_partition_column_was_dropped() {
        let spec = UnboundPartitionSpec::builder().add_partition_field(1, "a", Transform::Identity).unwrap().build();
        let second = schema(vec![field(2, "b", PrimitiveType::Int)]);
        let metadata = changed(|table| {
            let table = table.add_default_partition_spec(spec).unwrap();
            let table = table.add_default_partition_spec(UnboundPartitionSpec::builder().build()).unwrap();
            table.add_current_schema(second).unwrap()
        });
        assert_eq!(named(&metadata, 1, col("b").eq(lit(1))), None);
        assert_eq!(named(&metadata, 0, col("b").eq(lit(1))).as_deref(), Some("b = 1"));
    }
}
