//! Databases of the Glue Data Catalog for tests.

use hardtack_core::Location;
use serde_json::{Value, json};

use super::service::{Request, at_the_end, unique_name};
use super::{Bucket, Glue};
use crate::job::JobBinary;

/// A database of the catalog, which is removed with all its tables when this value is dropped.
#[derive(Debug)]
pub struct Database {
    glue: Glue,
    name: String,
}

impl Database {
    #[track_caller]
    pub(super) fn new(glue: Glue) -> Self {
        let database = Self { glue, name: unique_name('_') };
        database.call("CreateDatabase", &json!({ "DatabaseInput": { "Name": database.name } }));
        database
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its service, for its [`env`](Glue::env) and its [`endpoint`](Glue::endpoint).
    pub fn glue(&self) -> &Glue {
        &self.glue
    }

    /// Calls Glue without the client under test: `database.call("GetTables", &json!({ "DatabaseName": ... }))`.
    ///
    /// # Panics
    /// If the response is an error.
    #[track_caller]
    pub fn call(&self, operation: &str, input: &Value) -> Value {
        self.try_call(operation, input).unwrap_or_else(|e| panic!("{operation} {input}: {e}"))
    }

    /// Creates a table over files, as a CloudFormation template would: JSON, with columns of these names and Hive
    /// types.
    ///
    /// # Panics
    /// If Glue refuses it.
    #[track_caller]
    pub fn create_json_table(&self, table: &str, location: &Location, columns: &[(&str, &str)]) {
        let columns: Vec<_> = columns.iter().map(|(name, of)| json!({ "Name": name, "Type": of })).collect();
        let storage = json!({
            "Columns": columns,
            "Location": location,
            "InputFormat": "org.apache.hadoop.mapred.TextInputFormat",
            "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
            "SerdeInfo": { "SerializationLibrary": "org.openx.data.jsonserde.JsonSerDe" },
        });
        let described = json!({ "Name": table, "TableType": "EXTERNAL_TABLE", "StorageDescriptor": storage });
        self.call("CreateTable", &json!({ "DatabaseName": self.name, "TableInput": described }));
    }

    /// The current location of a table's files, according to Glue.
    ///
    /// # Panics
    /// If there is no such table, or it has no location.
    #[track_caller]
    pub fn location_of(&self, table: &str) -> Location {
        let found = self.call("GetTable", &json!({ "DatabaseName": self.name, "Name": table }));
        let location = found["Table"]["StorageDescriptor"]["Location"].as_str();
        Location::from(location.unwrap_or_else(|| panic!("the table has no location: {found}")))
    }

    fn try_call(&self, operation: &str, input: &Value) -> Result<Value, String> {
        let operation = format!("AWSGlue.{operation}");
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", &operation)];
        let body = input.to_string().into_bytes();
        let request = Request { service: "glue", method: "POST", target: "/", headers: &headers, body };
        let answer = self.glue.0.request(request)?;
        if answer.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&answer).map_err(|e| e.to_string()) }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        at_the_end(self.try_call("DeleteDatabase", &json!({ "Name": self.name })));
    }
}

impl JobBinary<'_> {
    /// Makes it read tables of one database and write tables of another, whose files are below `out` in a bucket.
    #[must_use]
    pub fn on_glue(self, bucket: &Bucket, source: &Database, target: &Database) -> Self {
        let job = self.envs(bucket.s3().env()).envs(target.glue().env()).args(["--catalog", "glue"]);
        let job = job.args(["--source-database", source.name(), "--target-database", target.name()]);
        job.arg("--target").arg(bucket.at("out"))
    }
}
