//! Publishes a commit to the catalog.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use futures::TryStreamExt;
use hardtack_catalog::{
    Catalog, CatalogExt, CatalogHandle, CatalogOf, Column, Conflict, Database, Partition, Predicate, TableDescription,
};
use hardtack_core::actions::Check;
use hardtack_core::publish::Publisher;
use hardtack_core::staging::{VERSIONS, content_hash};
use hardtack_core::{Error, ErrorKind, JobContext, Location, Result, Stores, fault};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::evolution;
use crate::place::{BASE, base_of, is_same, open};
use crate::steps::{CountChange, Counted, Payload, Rebuilt, Slot, Step, Superseded, forget_run, has_run, note_run};
use crate::versions::{self, Record};

/// The name under which [`register`] registers.
pub(crate) const PUBLISHER: &str = "catalog";

/// Registers the publisher of tables, if the context has a catalog. The runtime calls it before it recovers a commit.
pub fn register(ctx: &JobContext) {
    crate::opened::register(ctx);
    if let Ok(catalog) = ctx.catalog_handle() {
        ctx.publishers().register(PUBLISHER, Arc::new(CatalogPublisher { catalog, stores: ctx.shared_stores() }));
    }
}

#[derive(Debug)]
struct CatalogPublisher {
    catalog: Arc<CatalogHandle>,
    stores: Arc<Stores>,
}

impl CatalogPublisher {
    /// Opens the catalog, if it is the one that the run used.
    async fn open(&self, payload: &Payload) -> Result<Arc<dyn Catalog>> {
        if self.catalog.identity() != payload.catalog {
            return Err(Error::usage("this run has saved to a table of another catalog")
                .with("table", payload.qualified_name())
                .with("catalog of the run", &payload.catalog)
                .with("catalog here", self.catalog.identity())
                .hint("name the catalog of the run with --catalog"));
        }
        self.catalog.open().await
    }
}

#[async_trait]
impl Publisher for CatalogPublisher {
    fn describe(&self, payload: &serde_json::Value) -> Option<String> {
        Some(Payload::parse(payload).ok()?.describe())
    }

    async fn verify(&self, payload: &serde_json::Value) -> Result<()> {
        let payload = Payload::parse(payload)?;
        let Step::Rebuild { partitions, .. } = &payload.step else { return Ok(()) };
        let catalog = self.open(&payload).await?;
        let publishing = Publishing { catalog: catalog.as_ref(), stores: &self.stores, run: &payload };
        publishing.verify(partitions).await.map_err(|e| match e.get("table") {
            None => e.with("table", payload.qualified_name()),
            Some(_) => e,
        })
    }

    async fn publish(&self, payload: &serde_json::Value) -> Result<()> {
        let payload = Payload::parse(payload)?;
        let name = payload.qualified_name();
        let catalog = self.open(&payload).await?;
        let publishing = Publishing { catalog: catalog.as_ref(), stores: &self.stores, run: &payload };
        let step = || publishing.step(&payload.step);
        let done = step.retry(again()).when(|e| Conflict::of(e).is_some()).await;
        done.map_err(|e| if e.get("table").is_none() { e.with("table", name) } else { e })
    }

    async fn discard(&self, _: &str) -> Result<()> {
        Ok(())
    }
}

/// The delays between retries of a conflicting change. A run executes many steps concurrently on the same table, so
/// steps that collided should not retry at the same time.
fn again() -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(1))
        .with_max_delay(Duration::from_millis(250))
        .with_max_times(50)
        .with_jitter()
}

struct Publishing<'a> {
    catalog: &'a dyn Catalog,
    stores: &'a Stores,
    run: &'a Payload,
}

impl Publishing<'_> {
    async fn step(&self, step: &Step) -> Result<()> {
        match step {
            Step::Describe { create, columns } => {
                fault::hit("table.describe.before")?;
                self.describe(create.as_deref(), columns).await?;
                fault::hit("table.describe.after")
            }
            Step::Append { partitions } => {
                self.append(partitions).await?;
                fault::hit("table.point.after")
            }
            Step::Rebuild { chunk, partitions } => {
                self.rebuild(*chunk, partitions).await?;
                fault::hit("table.point.after")
            }
            Step::Drop { chunk, partitions } => {
                self.drop(*chunk, partitions).await?;
                fault::hit("table.drop.after")
            }
            Step::Count { change } => {
                fault::hit("table.count.before")?;
                self.count(*change).await?;
                fault::hit("table.count.after")
            }
            Step::Remove { record } => {
                fault::hit("table.remove.before")?;
                versions::check_record(record, &self.run.base)?;
                if let Some(table) = self.table_of_records().await? {
                    versions::remove(self.catalog, self.stores, &table, record, false).await?;
                }
                fault::hit("table.remove.after")
            }
        }
    }

    async fn table(&self) -> Result<TableDescription> {
        let table = self.catalog.get_table(&self.run.database, &self.run.table).await?;
        if table.is_iceberg() {
            return Err(Error::conflict("the table has become an Iceberg table since the run wrote its files for it")
                .with("table", self.run.qualified_name())
                .hint("give the run up with `hardtack recover --abandon`, and run the job again"));
        }
        let base = base_of(&table)?;
        if !is_same(&base, &self.run.base) {
            return Err(Error::new(ErrorKind::Lost, "the name is that of another table since the run wrote its files")
                .with("table", self.run.qualified_name())
                .with("location now", base)
                .with("location of the run", &self.run.base)
                .hint(
                    "if two tables were swapped, swap them back and run `hardtack recover`; or leave the rows out with \
                     `hardtack recover --skip-missing`",
                ));
        }
        Ok(table)
    }

    /// The table whose superseded files are to be removed. None if it was dropped, or its name is that of another one: that
    /// does not say which of them are in use.
    async fn table_of_records(&self) -> Result<Option<TableDescription>> {
        match self.table().await {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::Lost) => Ok(None),
            found => found.map(Some),
        }
    }

    async fn describe(&self, create: Option<&TableDescription>, columns: &[Column]) -> Result<()> {
        if let Some(table) = create {
            self.catalog.ensure_database(&Database::new(&table.database)).await?;
            if self.catalog.ensure_table(table).await? {
                return Ok(());
            }
        }
        // Another process may have created it meanwhile, with other columns.
        let columns = create.map_or(columns, |table| &table.storage.columns);
        let mut table = self.table().await?;
        let mut changed = evolution::apply(&mut table, columns)?;
        if Counted::of(&table.parameters).is_none()
            && !table.partition_keys.is_empty()
            && let Some(sum) = sum(self.catalog, &table).await?
        {
            sum.write(&mut table.parameters);
            changed = true;
        }
        if changed { self.catalog.update_table(&table).await } else { Ok(()) }
    }

    /// The existing ones among these partitions, by their values.
    async fn present(
        &self,
        table: &TableDescription,
        values: Vec<Vec<String>>,
    ) -> Result<HashMap<Vec<String>, Partition>> {
        let present = self.catalog.get_partitions(table, &values).await?;
        Ok(present.into_iter().map(|p| (p.values.clone(), p)).collect())
    }

    /// Adds new partitions and updates existing ones.
    async fn put(&self, table: &TableDescription, new: Vec<Partition>, changed: Vec<Partition>) -> Result<()> {
        if !new.is_empty() {
            self.catalog.add_partitions(table, &new).await?;
        }
        if !changed.is_empty() {
            self.catalog.update_partitions(table, &changed).await?;
        }
        Ok(())
    }

    // --- append ----------------------------------------------------------------------------------------------------

    async fn append(&self, slots: &[Slot]) -> Result<()> {
        let table = self.table().await?;
        if table.partition_keys.is_empty() {
            return self.append_to_table(table, slots).await;
        }
        let mut present = self.present(&table, slots.iter().map(|slot| slot.values.clone()).collect()).await?;
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        for slot in slots {
            match present.remove(&slot.values) {
                None => new.push(self.described(&table, slot, None)),
                Some(found) if has_run(&found.parameters, &self.run.token) => {}
                Some(found) => {
                    let there = location_of(&found)?;
                    self.follow(slot, &there).await?;
                    let counted = Counted::of(&found.parameters).map(|before| before + slot.counted);
                    let slot = Slot { location: there, ..slot.clone() };
                    let mut partition = self.described(&table, &slot, Some(found));
                    match counted {
                        Some(counted) => counted.write(&mut partition.parameters),
                        None => Counted::forget(&mut partition.parameters),
                    }
                    changed.push(partition);
                }
            }
        }
        self.put(&table, new, changed.clone()).await?;
        self.make_way(&table, &changed).await
    }

    /// If this step has just undone a run that pointed a partition elsewhere, repeats that run's step, so that the
    /// appended files follow when this step is retried.
    async fn make_way(&self, table: &TableDescription, changed: &[Partition]) -> Result<()> {
        let token = Some(self.run.token.as_str());
        if repoint_undone(self.catalog, self.stores, &self.run.base, table, changed, token).await? {
            let why = "a partition was pointed elsewhere while rows were added to it";
            return Err(Conflict::ConcurrentModification.error(why));
        }
        Ok(())
    }

    async fn append_to_table(&self, mut table: TableDescription, slots: &[Slot]) -> Result<()> {
        for slot in slots {
            if has_run(&table.parameters, &self.run.token) {
                return Ok(());
            }
            self.follow(slot, table.location()?).await?;
            // A table that this framework has created or replaced has a row count.
            let before = Counted::of(&table.parameters);
            match before.or(self.was_empty(&table, slot).await?.then(Counted::default)) {
                Some(before) => (before + slot.counted).write(&mut table.parameters),
                None => Counted::forget(&mut table.parameters),
            }
            note_run(&mut table.parameters, &self.run.token);
        }
        self.catalog.update_table(&table).await
    }

    /// Whether a table without partitions contains only the files that were just appended.
    async fn was_empty(&self, table: &TableDescription, slot: &Slot) -> Result<bool> {
        let files = crate::place::visible_files(self.stores, table.location()?).await?;
        Ok(files.iter().all(|meta| meta.location.filename().is_some_and(|name| slot.files.iter().any(|f| f == name))))
    }

    /// If another run has pointed the partition elsewhere since this one wrote to its folder, the appended files
    /// follow.
    async fn follow(&self, slot: &Slot, there: &Location) -> Result<()> {
        if is_same(&slot.location, there) {
            return Ok(());
        }
        for name in &slot.files {
            let ((from_store, from), (store, to)) =
                (open(self.stores, &slot.location.join(name))?, open(self.stores, &there.join(name))?);
            let copied = if from_store.url == store.url {
                store.objects.copy(&from, &to).await
            } else {
                match from_store.objects.get(&from).await {
                    Ok(file) => store.objects.put(&to, file.bytes().await?.into()).await.map(|_| ()),
                    Err(e) => Err(e),
                }
            };
            match copied {
                Err(object_store::Error::NotFound { .. }) if self.stores.exists(&there.join(name)).await? => {}
                Err(e) => return Err(Error::from(e).with("file", slot.location.join(name))),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// A partition with these files, based on the existing one, if there is one.
    fn described(&self, table: &TableDescription, slot: &Slot, found: Option<Partition>) -> Partition {
        let mut partition = table.partition(slot.values.clone(), slot.location.clone());
        partition.parameters = found.map(|found| found.parameters).unwrap_or_default();
        slot.counted.write(&mut partition.parameters);
        note_run(&mut partition.parameters, &self.run.token);
        partition
    }

    // --- rebuild ---------------------------------------------------------------------------------------------------

    async fn rebuild(&self, chunk: usize, rebuilt: &[Rebuilt]) -> Result<()> {
        let mut table = self.table().await?;
        let partitioned = !table.partition_keys.is_empty();
        let mut present = self.present_of(&table, rebuilt).await?;
        let wanted = self.not_done(&table, &present, rebuilt);
        if wanted.is_empty() {
            return Ok(());
        }
        self.check_files(&wanted, Check::Size).await?;
        let superseded = rebuilt.iter().filter_map(|r| r.superseded.as_ref().map(|s| (s, Some(&r.slot))));
        self.record(chunk, superseded).await?;
        if !partitioned {
            let slot = &wanted[0].slot;
            table.parameters.insert(BASE.to_owned(), base_of(&table)?.to_string());
            table.storage.location = Some(slot.location.clone());
            slot.counted.write(&mut table.parameters);
            note_run(&mut table.parameters, &self.run.token);
            return self.catalog.update_table(&table).await;
        }
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        for Rebuilt { slot, .. } in wanted {
            let found = present.remove(&slot.values);
            let kind = if found.is_some() { &mut changed } else { &mut new };
            kind.push(self.described(&table, slot, found));
        }
        self.put(&table, new, changed).await
    }

    /// The existing ones among the partitions to rebuild, by their values; none if the table has no partitions.
    async fn present_of(
        &self,
        table: &TableDescription,
        rebuilt: &[Rebuilt],
    ) -> Result<HashMap<Vec<String>, Partition>> {
        if table.partition_keys.is_empty() {
            return Ok(HashMap::new());
        }
        self.present(table, rebuilt.iter().map(|r| r.slot.values.clone()).collect()).await
    }

    /// The partitions that this run has still to point to their new files.
    fn not_done<'r>(
        &self,
        table: &TableDescription,
        present: &HashMap<Vec<String>, Partition>,
        rebuilt: &'r [Rebuilt],
    ) -> Vec<&'r Rebuilt> {
        let is_done = |slot: &Slot| match table.partition_keys.is_empty() {
            true => has_run(&table.parameters, &self.run.token),
            false => present.get(&slot.values).is_some_and(|p| has_run(&p.parameters, &self.run.token)),
        };
        rebuilt.iter().filter(|r| !is_done(&r.slot)).collect()
    }

    /// Checks the files of partitions that have still to be pointed to them.
    async fn verify(&self, rebuilt: &[Rebuilt]) -> Result<()> {
        let wanted = match self.table().await {
            Ok(table) => self.not_done(&table, &self.present_of(&table, rebuilt).await?, rebuilt),
            // The run will create it.
            Err(e) if e.kind() == ErrorKind::NotFound => rebuilt.iter().collect(),
            Err(e) => return Err(e),
        };
        self.check_files(&wanted, Check::Content).await
    }

    /// Checks that files exist as written before anything points to them.
    async fn check_files(&self, wanted: &[&Rebuilt], check: Check) -> Result<()> {
        let root = self.run.base.join(VERSIONS).join(&self.run.run);
        let (store, path) = open(self.stores, &root)?;
        let list = store.objects.list(Some(&path)).map_ok(|meta| (meta.location, meta.size));
        let there: HashMap<Path, u64> = list.try_collect().await?;
        for Rebuilt { slot, .. } in wanted {
            let folder = slot.location.resolve()?.path;
            let mut bytes = 0;
            for (n, name) in slot.files.iter().enumerate() {
                let path = folder.clone().join(name.as_str());
                let size = there.get(&path).ok_or_else(|| self.lost(slot, name, "is gone"))?;
                bytes += size.cast_signed();
                if let (Check::Content, Some(Some(hash))) = (check, slot.hashes.get(n))
                    && content_hash(store.objects.as_ref(), &path).await? != *hash
                {
                    return Err(self.lost(slot, name, "is not what was written"));
                }
            }
            if bytes != slot.counted.bytes {
                let name = slot.files.join(", ");
                return Err(self.lost(
                    slot,
                    &name,
                    &format!("has {bytes} bytes, and {} were written", slot.counted.bytes),
                ));
            }
        }
        Ok(())
    }

    fn lost(&self, slot: &Slot, name: &str, what: &str) -> Error {
        Error::new(ErrorKind::Lost, format!("a file that the run has written {what}; nothing points to it"))
            .with("file", slot.location.join(name))
            .with("table", self.run.qualified_name())
            .with("partition", slot.values.join(", "))
            .hint("restore the file; or run `hardtack recover --skip-missing`, and the job again")
    }

    /// Records what is going to be superseded.
    async fn record<'s>(
        &self,
        chunk: usize,
        superseded: impl Iterator<Item = (&'s Superseded, Option<&'s Slot>)>,
    ) -> Result<()> {
        fault::hit("table.record.before")?;
        let record = Record::new(self.run, superseded);
        if !record.is_empty() {
            record.write(self.stores, &self.run.base, &self.run.run, chunk).await?;
        }
        fault::hit("table.record.after")
    }

    // --- drop, count -----------------------------------------------------------------------------------------------

    async fn drop(&self, chunk: usize, superseded: &[Superseded]) -> Result<()> {
        let table = self.table().await?;
        let present = self.present(&table, superseded.iter().map(|s| s.values.clone()).collect()).await?;
        let place = |s: &Superseded| present.get(&s.values).and_then(|p| p.storage.location.as_ref());
        // A partition that is elsewhere by now has been rebuilt by another run; one that is gone was dropped by an
        // earlier execution of this step.
        let gone: Vec<&Superseded> =
            superseded.iter().filter(|s| place(s).is_none_or(|l| is_same(l, &s.location))).collect();
        let values: Vec<Vec<String>> = gone.iter().filter(|s| place(s).is_some()).map(|s| s.values.clone()).collect();
        if values.is_empty() {
            return Ok(());
        }
        self.record(chunk, gone.into_iter().map(|s| (s, None))).await?;
        self.catalog.drop_partitions(&table, &values).await
    }

    async fn count(&self, change: CountChange) -> Result<()> {
        let mut table = self.table().await?;
        if has_run(&table.parameters, &self.run.token) {
            return Ok(());
        }
        let counted = match (change, Counted::of(&table.parameters)) {
            (CountChange::Set(all), _) => Some(all),
            (CountChange::Add(more), before) => before.map(|before| before + more),
            (CountChange::Unknown, _) => None,
        };
        match counted {
            Some(counted) => counted.write(&mut table.parameters),
            None => Counted::forget(&mut table.parameters),
        }
        note_run(&mut table.parameters, &self.run.token);
        self.catalog.update_table(&table).await
    }
}

/// The total of all partitions, if each has a row count.
pub(crate) async fn sum(catalog: &dyn Catalog, table: &TableDescription) -> Result<Option<Counted>> {
    let mut pages = catalog.list_partitions(table, &Predicate::all());
    let mut sum = Counted::default();
    while let Some(page) = pages.try_next().await? {
        for partition in page {
            let Some(counted) = Counted::of(&partition.parameters) else { return Ok(None) };
            sum = sum + counted;
        }
    }
    Ok(Some(sum))
}

/// Repeats the pointing of partitions that a concurrent update has undone. A partition cannot be changed on the
/// condition that it is unchanged, so writing those that were `changed` may have undone a run that pointed one of them
/// elsewhere meanwhile. That run has recorded its target beforehand; here it is pointed there again. The run of `token`
/// then no longer counts as one that has changed the partition. Returns whether there was any.
pub(crate) async fn repoint_undone(
    catalog: &dyn Catalog,
    stores: &Stores,
    base: &Location,
    table: &TableDescription,
    changed: &[Partition],
    token: Option<&str>,
) -> Result<bool> {
    if changed.is_empty() {
        return Ok(false);
    }
    let mut undone = HashMap::new();
    for record in versions::recent(stores, base).await? {
        for partition in changed.iter().filter(|p| !has_run(&p.parameters, record.token())) {
            if let Some(target) = record.target(&partition.values, &location_of(partition)?) {
                undone.insert(partition.values.clone(), (target.clone(), record.token().to_owned()));
            }
        }
    }
    if undone.is_empty() {
        return Ok(false);
    }
    let present = catalog.get_partitions(table, &undone.keys().cloned().collect::<Vec<_>>()).await?;
    let mut again = Vec::new();
    for mut partition in present {
        let Some((target, by)) = undone.remove(&partition.values) else { continue };
        let before = changed.iter().find(|p| p.values == partition.values).map(location_of).transpose()?;
        if has_run(&partition.parameters, &by) || before.is_none_or(|b| partition.storage.location != Some(b)) {
            continue;
        }
        partition.storage.location = Some(target.location);
        target.counted.write(&mut partition.parameters);
        // The rows of this run are not in the new target yet.
        if let Some(token) = token {
            forget_run(&mut partition.parameters, token);
        }
        note_run(&mut partition.parameters, &by);
        again.push(partition);
    }
    if again.is_empty() {
        return Ok(false);
    }
    catalog.update_partitions(table, &again).await?;
    Ok(true)
}

fn location_of(partition: &Partition) -> Result<Location> {
    let location = partition.storage.location.clone();
    location.ok_or_else(|| Error::usage("a partition has no location").with("values", partition.values.join(", ")))
}

/// Changes the description of a table that others may change concurrently.
pub(crate) async fn amend(
    catalog: &dyn Catalog,
    database: &str,
    table: &str,
    change: impl Fn(&mut TableDescription) + Send + Sync,
) -> Result<()> {
    let amend = || async {
        let mut table = catalog.get_table(database, table).await?;
        change(&mut table);
        catalog.update_table(&table).await
    };
    amend.retry(again()).when(|e| Conflict::of(e).is_some()).await
}
