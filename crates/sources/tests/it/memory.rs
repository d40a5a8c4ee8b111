use arrow::array::RecordBatch;
use datafusion::common::record_batch;
use hardtack_core::Source;
use hardtack_sources::InMemory;
use insta::assert_snapshot;

use crate::{context, show, types};

#[tokio::test]
async fn batches_and_frames_are_sources() {
    let ctx = context(1);
    let batch = record_batch!(("id", Int32, vec![1, 2]), ("name", Utf8, vec!["a", "b"])).unwrap();
    let seed = InMemory::new("seed", vec![batch.clone(), batch.slice(1, 1)]);
    assert_snapshot!(show(&ctx, seed.clone()).await, @"
    +----+------+
    | id | name |
    +----+------+
    | 1  | a    |
    | 2  | b    |
    | 2  | b    |
    +----+------+
    ");
    assert_eq!(ctx.meters().source("seed").counts().rows, 3);
    assert_eq!(types(&ctx, seed.clone()).await, "id: Int32, name: Utf8");
    assert_eq!(seed.name(), "seed");
    assert_eq!(seed, seed.clone());
    assert_ne!(seed, InMemory::new("seed", batch.clone()));
    assert_ne!(seed, InMemory::new("other", vec![batch.clone(), batch.slice(1, 1)]));
    let frame = ctx.session().read_batch(batch).unwrap();
    let framed = InMemory::new("frame", frame.select_columns(&["name"]).unwrap());
    assert_snapshot!(format!("{framed:?}"), @r#"InMemory { name: "frame", schema: [name: Utf8], plan: Projection: ?table?.name }"#);
    assert_snapshot!(show(&ctx, framed.clone()).await, @"
    +------+
    | name |
    +------+
    | a    |
    | b    |
    +------+
    ");
    assert_eq!(framed, framed.clone());
    assert_snapshot!(show(&ctx, InMemory::new("none", Vec::<RecordBatch>::new())).await, @"usage: a source without batches has no schema; give it a batch without rows");
}
