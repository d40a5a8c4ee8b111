//! Displays values for people.

use std::fmt;

use datafusion::arrow::datatypes::Fields;

/// Fields in one line, for the `Debug` of sources and sinks: `[id: Int64 not null, name: Utf8]`.
///
/// ```
/// use datafusion::arrow::datatypes::{DataType, Field, Fields};
/// use hardtack_core::ShowFields;
///
/// let fields = Fields::from(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)]);
/// assert_eq!(format!("{:?}", ShowFields(&fields)), "[id: Int64 not null, name: Utf8]");
/// ```
pub struct ShowFields<'a>(pub &'a Fields);

impl fmt::Debug for ShowFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, field) in self.0.iter().enumerate() {
            let (comma, null) = (if i == 0 { "" } else { ", " }, if field.is_nullable() { "" } else { " not null" });
            write!(f, "{comma}{}: {}{null}", field.name(), field.data_type())?;
        }
        f.write_str("]")
    }
}
