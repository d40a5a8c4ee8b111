//! Tables of Glue's Data Catalog (moto) with their files on S3 (LocalStack).

use std::sync::Arc;

use datafusion::physical_plan::collect;
use datafusion::prelude::{DataFrame, col, lit};
use hardtack_catalog::{CatalogHandle, GlueCatalog, TableDescription, TableFormat};
use hardtack_core::{JobContext, Sink, Source};
use hardtack_tables::{CrawlOptions, SchemaEvolution, Table, crawl};
use hardtack_test_support::containers::{Bucket, Database, Fault, Proxy, glue, s3};
use hardtack_test_support::{Frame, assert_frame, json, rows, table};
use insta::assert_snapshot;
use serde_json::Value;

use crate::crawling::said;
use crate::files::gzip;
use crate::lake::columns_of;

/// A bucket and a database, behind proxies that record the requests.
struct World {
    bucket: Bucket,
    database: Database,
    s3: Proxy,
    glue: Proxy,
}

impl World {
    fn new() -> Self {
        let (bucket, database) = (s3().bucket(), glue().database());
        let (s3, glue) = (Proxy::to(bucket.s3().endpoint()), Proxy::to(database.glue().endpoint()));
        Self { bucket, database, s3, glue }
    }

    /// The context of a new run.
    fn run(&self) -> JobContext {
        let glue = self.database.glue();
        let catalog = GlueCatalog::at(&self.glue.endpoint(), glue.region(), glue.keys());
        let ctx = JobContext::builder("job")
            .threads(2)
            .store_factory("s3", Arc::new(self.bucket.s3().through(&self.s3)))
            .extension(Arc::new(CatalogHandle::new(Arc::new(catalog))))
            .build()
            .unwrap();
        hardtack_tables::register(&ctx);
        ctx
    }

    /// The table `sales`, partitioned by `day`.
    fn sales(&self) -> Table {
        let table = TableDescription::new("", "", &TableFormat::Parquet, self.bucket.at("sales"))
            .with_columns(columns_of("id: int"))
            .with_partition_keys(columns_of("day: string"));
        Table::named(self.database.name(), "sales").create_if_missing(table)
    }

    /// Saves rows in a run that is published twice, as if it had been rolled forward.
    async fn save(&self, table: Table, rows: Frame) {
        let ctx = self.run();
        let staged = table.stage(&ctx.staging("out"), rows.to_df(ctx.session())).await.unwrap();
        ctx.publish(&staged.publish).await.unwrap();
        let before = self.partitions();
        ctx.publish(&staged.publish).await.unwrap();
        assert_eq!(self.partitions(), before);
        assert_eq!(self.bucket.open_uploads(), [""; 0]);
    }

    async fn load(&self) -> DataFrame {
        self.run().load(self.sales()).await.unwrap()
    }

    fn ask(&self, operation: &str, name: &str) -> Value {
        self.database.call(operation, &json!({ "DatabaseName": self.database.name(), "Name": name, "TableName": name }))
    }

    /// The table's partitions in Glue, without the names of version folders.
    fn partitions(&self) -> String {
        let answer = self.ask("GetPartitions", "sales");
        let mut lines: Vec<String> = answer["Partitions"].as_array().unwrap().iter().map(|p| self.line(p)).collect();
        lines.sort();
        lines.join("\n")
    }

    fn line(&self, partition: &Value) -> String {
        let storage = &partition["StorageDescriptor"];
        let location = storage["Location"].as_str().unwrap();
        let inside = location.strip_prefix(&format!("{}/", self.bucket.at("sales"))).unwrap();
        let place = match inside.strip_prefix("_versions/") {
            Some(version) => format!("_versions/*/{}", version.split_once('/').unwrap().1),
            None => inside.to_owned(),
        };
        let columns = storage["Columns"].as_array().unwrap().iter().map(|c| format!("{}:{}", c["Name"], c["Type"]));
        let columns = columns.collect::<Vec<_>>().join(" ").replace('"', "");
        format!("{} {place} ({columns}) {}", partition["Values"], partition["Parameters"]["recordCount"])
    }

    /// The text without the parts that differ in each test.
    fn plain(&self, text: &str) -> String {
        text.replace(self.bucket.location().as_str(), "s3://BUCKET").replace(self.database.name(), "DB")
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
async fn partitions_are_registered_replaced_and_dropped() {
    let world = World::new();
    // Glue throttles some requests.
    world.glue.inject(Fault::throttling(), "BatchCreatePartition|UpdateTable|BatchUpdatePartition", 3);
    world.save(world.sales(), rows! { id, day; 1, "mon"; 2, "mon"; 3, "tue" }).await;
    assert_snapshot!(world.partitions(), @r#"
    ["mon"] day=mon (id:int) "2"
    ["tue"] day=tue (id:int) "1"
    "#);

    let planned = world.load().await;
    let task = Arc::new(planned.task_ctx());
    let plan = planned.create_physical_plan().await.unwrap();
    world.save(world.sales().overwrite_partitions(), rows! { id, day; 4, "mon"; 5, "wed" }).await;
    assert_snapshot!(world.partitions(), @r#"
    ["mon"] _versions/*/day=mon (id:int) "1"
    ["tue"] day=tue (id:int) "1"
    ["wed"] _versions/*/day=wed (id:int) "1"
    "#);
    assert_frame(world.load().await, rows! { id: Int32, day; 4, "mon"; 3, "tue"; 5, "wed" });
    // A query that was planned before still finds its files.
    let old = collect(plan, task).await.unwrap();
    assert_eq!(old.iter().map(|batch| batch.num_rows()).sum::<usize>(), 3);

    // Appended rows go to the partition's location.
    world.save(world.sales(), rows! { id, day; 6, "mon" }).await;
    assert_frame(world.load().await, rows! { id: Int32, day; 4, "mon"; 6, "mon"; 3, "tue"; 5, "wed" });

    world.save(world.sales().overwrite(), rows! { id, day; 7, "tue" }).await;
    assert_snapshot!(world.partitions(), @r#"["tue"] _versions/*/day=tue (id:int) "1""#);
    assert_frame(world.load().await, rows! { id: Int32, day; 7, "tue" });
    let table = world.ask("GetTable", "sales");
    assert_eq!(table["Table"]["Parameters"]["recordCount"], "1");
    assert_eq!(world.glue.injected(), 3);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
async fn tables_follow_their_rows() {
    let world = World::new();
    let widening = || world.sales().schema_evolution(SchemaEvolution::WidenTypes);
    world.save(world.sales(), rows! { id: Int32, day; 1, "mon" }).await;
    let added = rows! { id: Int32, name, day; 2, "x", "tue" };
    world.save(world.sales().schema_evolution(SchemaEvolution::AddColumns), added).await;
    world.save(widening(), rows! { id: Int64, name, day; 5_000_000_000_i64, "y", "wed" }).await;
    let columns = &world.ask("GetTable", "sales")["Table"]["StorageDescriptor"]["Columns"];
    let columns = columns.as_array().unwrap().iter().map(|c| format!("{} {}", c["Name"], c["Type"]));
    assert_snapshot!(columns.collect::<Vec<_>>().join(", "), @r#""id" "bigint", "name" "string""#);
    assert_snapshot!(world.partitions(), @r#"
    ["mon"] day=mon (id:int) "1"
    ["tue"] day=tue (id:int name:string) "1"
    ["wed"] day=wed (id:bigint name:string) "1"
    "#);
    let all = rows! { id: Int64, name, day; 1, null, "mon"; 2, "x", "tue"; 5_000_000_000_i64, "y", "wed" };
    assert_frame(world.load().await, all);

    let error =
        world.sales().stage(&world.run().staging("out"), rows! { id, more, day; 1, 1, "mon" }.df()).await.unwrap_err();
    assert_snapshot!(world.plain(&error.chain()), @"the table does not have these columns (table: DB.sales, columns: more, hint: drop them before saving, or let the table grow: .schema_evolution(AddColumns))");
}

/// The number of requests depends on the query, not on the size of the table.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
async fn only_what_a_filter_leaves_is_listed_and_read() {
    let world = World::new();
    let lines: Vec<String> = (0..60).map(|day| format!(r#"{{"id": {day}, "day": "d{day:02}"}}"#)).collect();
    world.save(world.sales(), Frame::from_json_lines(&lines.join("\n"))).await;

    let asked = async |filter| {
        let before = (world.glue.requests("").len(), world.s3.requests("").len());
        let found = world.load().await.filter(filter).unwrap().collect().await.unwrap();
        let rows: usize = found.iter().map(|batch| batch.num_rows()).sum();
        (rows, world.glue.requests("").split_off(before.0), world.s3.requests("").split_off(before.1))
    };
    let lists = |requests: &[String]| requests.iter().filter(|request| request.contains("list-type=2")).count();

    let (rows, of_glue, of_s3) = asked(col("day").eq(lit("d07"))).await;
    assert_eq!((rows, of_glue), (1, vec!["POST / AWSGlue.GetTable".into(), "POST / AWSGlue.GetPartitions".into()]));
    assert_eq!(lists(&of_s3), 1, "{of_s3:#?}");
    assert!(of_s3.len() <= 4 && of_s3.iter().all(|request| request.contains("d07")), "{of_s3:#?}");

    let (rows, of_glue, of_s3) = asked(col("day").gt_eq(lit("d57"))).await;
    assert_eq!((rows, of_glue.len(), lists(&of_s3)), (3, 2, 3), "{of_s3:#?}");
    let (rows, of_glue, of_s3) = asked(col("day").eq(lit("nowhere"))).await;
    assert_eq!((rows, of_glue.len(), of_s3), (0, 2, vec![]));
    let (rows, of_glue, of_s3) = asked(col("id").gt_eq(lit(0))).await;
    assert_eq!((rows, of_glue.len(), lists(&of_s3)), (60, 2, 60));

    // A dry run requests the columns and nothing else.
    let before = (world.glue.requests("").len(), world.s3.requests("").len());
    assert_eq!(world.sales().schema(&world.run().loading("a")).await.unwrap().fields().len(), 2);
    assert_eq!((world.glue.requests("").len() - before.0, world.s3.requests("").len() - before.1), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
async fn a_lake_on_s3_becomes_a_database_of_glue() {
    let world = World::new();
    world.bucket.write("lake/books/a.jsonl.gz", gzip("{\"title\": \"Emma\"}\n{\"title\": \"Dune\"}\n"));
    world.bucket.write("lake/sales/day=2026-01-01/a.csv.gz", gzip("id,price\n1,0.5\n2,1\n"));
    world.bucket.write("lake/sales/day=2026-01-02/a.csv.gz", gzip("id,price\n3,2\n"));
    world.bucket.write("lake/sales/_SUCCESS", "");
    let crawled = async || {
        crawl(&world.run(), &world.bucket.at("lake"), world.database.name(), &CrawlOptions::default()).await.unwrap()
    };
    assert_snapshot!(world.plain(&said(&crawled().await)), @"
    Created DB.books json s3://BUCKET/lake/books
      + title string
    Created DB.sales csv s3://BUCKET/lake/sales
      + id bigint
      + price double
      by day date
      + day=2026-01-01
      + day=2026-01-02
    ");
    let again = crawled().await;
    assert!(again.is_unchanged(), "{}", said(&again));
    world.bucket.write("lake/sales/day=2026-01-03/a.csv.gz", gzip("id,price\n4,3.5\n"));
    assert_snapshot!(world.plain(&said(&crawled().await)), @"
    Unchanged DB.books json s3://BUCKET/lake/books
    Updated DB.sales csv s3://BUCKET/lake/sales
      statistics
      + day=2026-01-03
    ");

    let described = ["books", "sales"].map(|name| {
        let answer = world.ask("GetTable", name);
        let (table, storage) = (&answer["Table"], &answer["Table"]["StorageDescriptor"]);
        let classes =
            [&storage["InputFormat"], &storage["OutputFormat"], &storage["SerdeInfo"]["SerializationLibrary"]];
        let said = ["classification", "compressionType", "EXTERNAL"].map(|name| &table["Parameters"][name]);
        format!("{name} {} {said:?} {classes:#?}", table["TableType"])
    });
    assert_snapshot!(described.join("\n"), @r#"
    books "EXTERNAL_TABLE" [String("json"), String("gzip"), String("TRUE")] [
        String("org.apache.hadoop.mapred.TextInputFormat"),
        String("org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat"),
        String("org.openx.data.jsonserde.JsonSerDe"),
    ]
    sales "EXTERNAL_TABLE" [String("csv"), String("gzip"), String("TRUE")] [
        String("org.apache.hadoop.mapred.TextInputFormat"),
        String("org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat"),
        String("org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"),
    ]
    "#);
    let ctx = world.run();
    let rows = async |name| {
        table(Frame::collect(ctx.load(Table::named(world.database.name(), name)).await.unwrap()).await.unwrap())
    };
    assert_snapshot!(rows("books").await, @"
    title: Utf8
    Dune
    Emma
    ");
    assert_snapshot!(rows("sales").await, @"
    id: Int64 | price: Float64 | day: Date32
    1         | 0.5            | 2026-01-01
    2         | 1.0            | 2026-01-01
    3         | 2.0            | 2026-01-02
    4         | 3.5            | 2026-01-03
    ");
}
