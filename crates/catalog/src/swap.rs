//! Exchanging two tables: what can be exchanged, and how in a catalog that updates one table at a time.

use hardtack_core::format::Format;
use hardtack_core::staging::VERSIONS;
use hardtack_core::{Error, ErrorKind, Location, Result, fault};
use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;
use crate::conflict::Conflict;
use crate::table::TableDescription;

/// The parameter of the table that is updated first, while the swap has not ended.
const MARK: &str = "hardtack.swap";

const FORMAT: Format = Format::new("mark of a swap", 1);

/// How often the mark is removed from a table that others change at the same time.
const ATTEMPTS: usize = 20;

/// What can be known of a swap that has begun: both tables as they were, because one of them has no name meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Mark {
    /// The table that is updated second, `database.name`.
    with: String,
    /// What the table with the mark was, and the second one becomes.
    had: TableDescription,
    /// What the second one was, and the table with the mark has become.
    got: TableDescription,
}

impl Mark {
    /// The mark of a table, if it has one.
    fn of(table: &TableDescription) -> Result<Option<Self>> {
        let Some(text) = table.parameters.get(MARK) else { return Ok(None) };
        let read = FORMAT.check(text.as_bytes()).and_then(|_| {
            serde_json::from_str(text).map_err(|e| Error::unexpected("the mark of a swap does not parse").because(e))
        });
        read.map(Some).map_err(|e| e.with("table", table.qualified_name()).with("parameter", MARK))
    }

    fn to_json(&self) -> Result<String> {
        serde_json::to_string(&FORMAT.versioned(self))
            .map_err(|e| Error::unexpected("the mark of a swap cannot be written").because(e))
    }
}

/// The table with which a swap of this one has begun, whatever the format of its mark.
pub(crate) fn other(table: &TableDescription) -> Option<String> {
    let mark: serde_json::Value = serde_json::from_str(table.parameters.get(MARK)?).unwrap_or_default();
    Some(mark.get("with").and_then(serde_json::Value::as_str).unwrap_or("another table").to_owned())
}

/// Checks that an update of a table with a mark is a step of the swap: it changes the mark, removes it from the table as it
/// is, or makes the table what it was.
pub(crate) fn check_update(new: &TableDescription, current: &TableDescription) -> Result<()> {
    let Some(mark) = Mark::of(current)? else { return Ok(()) };
    let is_step = match Mark::of(new)? {
        Some(next) => next != mark,
        None => is_same(new, current) || is_same(new, &mark.had),
    };
    match is_step {
        true => Ok(()),
        false => Err(unfinished(Conflict::ConcurrentModification.error(UNFINISHED), current, &mark.with)),
    }
}

const UNFINISHED: &str = "a swap of the table has begun, and not ended";

/// Checks that no swap of a table with one that `matters` has begun and not ended.
pub(crate) fn check_none(table: &TableDescription, matters: impl FnOnce(&str) -> bool) -> Result<()> {
    match other(table).filter(|other| matters(other)) {
        Some(other) => Err(unfinished(Error::usage(UNFINISHED), table, &other)),
        None => Ok(()),
    }
}

fn unfinished(error: Error, table: &TableDescription, other: &str) -> Error {
    let name = table.qualified_name();
    let hint = format!("`hardtack swap {other} {name}` finishes it");
    error.with("table", name).with("with", other).hint(hint)
}

/// Checks that two tables can be exchanged by a catalog that can change both in one step.
pub(crate) fn check(a: &TableDescription, b: &TableDescription) -> Result<()> {
    let names = [a, b].map(|table| table.addressed().qualified_name());
    if names[0] == names[1] {
        return Err(Error::usage("a table cannot be swapped with itself").with("table", &names[0]));
    }
    for (table, name) in [a, b].into_iter().zip(names) {
        let is_view = table.table_type.as_deref().is_some_and(|kind| kind.to_uppercase().ends_with("VIEW"));
        if is_view || !(table.is_iceberg() || table.storage.location.is_some()) {
            let kind = table.table_type.as_deref().unwrap_or("table without a location");
            return Err(Error::usage("only tables with rows of their own can be swapped")
                .with("table", name)
                .with("kind", kind)
                .hint("let the view read another table"));
        }
    }
    Ok(())
}

/// Checks that two tables can be exchanged [`in_steps`].
pub(crate) fn check_in_steps(a: &TableDescription, b: &TableDescription) -> Result<()> {
    check(a, b)?;
    let names = [a, b].map(|table| table.addressed().qualified_name());
    for (table, with) in [(a, &names[1]), (b, &names[0])] {
        check_none(table, |other| other != with)?;
    }
    let of_both = |error: Error| error.with("table", &names[0]).with("with", &names[1]);
    if a.is_iceberg() != b.is_iceberg() {
        return Err(of_both(Error::usage("this catalog cannot swap an Iceberg table with one of files in one step"))
            .hint("make the other one an Iceberg table, too: `hardtack iceberg migrate`"));
    }
    if [a, b].iter().any(|table| !table.is_iceberg() && !table.partition_keys.is_empty()) {
        return Err(of_both(Error::usage("this catalog cannot swap partitioned tables of files in one step")).hint(
            "make both Iceberg tables (`hardtack iceberg migrate`), or let readers use a view that you change; the \
             embedded catalog can swap them",
        ));
    }
    // While a swap has not ended, both are in one folder.
    if [a, b].iter().all(|table| table.unfinished_swap().is_none()) && place(a) == place(b) {
        return Err(of_both(Error::usage("this catalog cannot swap two tables of one folder")));
    }
    Ok(())
}

/// The folder of a table's files, without the version below it, or of an Iceberg table's metadata: says which of the two
/// tables it is, also if others have changed it.
fn place(table: &TableDescription) -> Option<Location> {
    if let Some(metadata) = table.metadata_location() {
        return metadata.rsplit_once('/').map(|(folder, _)| Location::from(folder));
    }
    let location = table.storage.location.as_ref()?;
    let location = location.absolute().unwrap_or_else(|_| location.clone());
    location.as_str().split(&format!("/{VERSIONS}/")).next().map(Location::from)
}

/// What is exchanged of a table: all but its names, its version and the mark.
fn content(table: &TableDescription) -> TableDescription {
    let mut content = TableDescription { database: String::new(), name: String::new(), version: None, ..table.clone() };
    content.parameters.remove(MARK);
    content
}

/// Whether both are the same state of a table, whatever their names are.
fn is_same(a: &TableDescription, b: &TableDescription) -> bool {
    match (a.metadata_location(), b.metadata_location()) {
        (Some(a), Some(b)) => a == b,
        _ => content(a) == content(b),
    }
}

/// The content in place of a table that was read.
fn in_place_of(table: &TableDescription, content: &TableDescription) -> TableDescription {
    TableDescription {
        database: table.database.clone(),
        name: table.name.clone(),
        version: table.version.clone(),
        ..content.clone()
    }
}

/// Exchanges two tables as [`Catalog::swap_tables`] says, or finishes the exchange that has begun.
pub(crate) async fn in_steps<C: Catalog + ?Sized>(
    catalog: &C,
    a: &TableDescription,
    b: &TableDescription,
) -> Result<()> {
    let (a, b) = (a.addressed(), b.addressed());
    a.read_version().and(b.read_version())?;
    match (Mark::of(&a)?, Mark::of(&b)?) {
        (None, None) => {
            let mark = Mark { with: a.qualified_name(), had: content(&b), got: content(&a) };
            let steps = Steps { catalog, mark };
            let b = steps.give(&b).await?;
            steps.exchange(&b, &a).await
        }
        (None, Some(mark)) => Steps { catalog, mark }.resume(b, &a).await,
        (Some(mark), None) => Steps { catalog, mark }.resume(a, &b).await,
        // Two swaps with the names in either order, each of which has done one half.
        (Some(_), Some(_)) => {
            for table in [&a, &b] {
                unmark(catalog, table).await?;
            }
            Ok(())
        }
    }
}

/// The steps of a swap. The `first` table has the mark.
struct Steps<'a, C: ?Sized> {
    catalog: &'a C,
    mark: Mark,
}

impl<C: Catalog + ?Sized> Steps<'_, C> {
    /// Gives the first table what the second one is, and the mark. Returns it as it is then.
    async fn give(&self, first: &TableDescription) -> Result<TableDescription> {
        let wanted = in_place_of(first, &self.mark.got).with_parameter(MARK, self.mark.to_json()?);
        let has_mark = |now: &TableDescription| now.parameters.get(MARK) == wanted.parameters.get(MARK);
        let given = put(self.catalog, &wanted, has_mark).await;
        given.map_err(|e| if is_certain(&e) { e } else { e.hint(self.again(first)) })
    }

    /// Gives the second table what the first one was, and removes the mark.
    async fn exchange(&self, first: &TableDescription, second: &TableDescription) -> Result<()> {
        fault::hit("catalog.swap.begun")?;
        let wanted = in_place_of(second, &self.mark.had);
        if let Err(e) = put(self.catalog, &wanted, |now| self.is_done(now)).await {
            return Err(self.taken_back(first, e).await);
        }
        fault::hit("catalog.swap.exchanged")?;
        unmark(self.catalog, first).await.map_err(|e| e.hint(self.again(first)))
    }

    /// Finishes a swap that has begun, perhaps long ago.
    async fn resume(mut self, mut first: TableDescription, second: &TableDescription) -> Result<()> {
        if self.is_done(second) {
            return unmark(self.catalog, &first).await.map_err(|e| e.hint(self.again(&first)));
        }
        match (is_same(second, &self.mark.got), self.is_intact(&first)) {
            (true, _) => {}
            // Others have changed the second table, of which the first one has an older copy.
            (false, true) if place(second) == place(&self.mark.got) => {
                self.mark.got = content(second);
                first = self.give(&first).await?;
            }
            _ => {
                return Err(Error::conflict("others have changed both tables since a swap of them has begun")
                    .with("table", first.qualified_name())
                    .with("with", second.qualified_name())
                    .hint(format!(
                        "the parameter `{MARK}` of `{}` says what both were; decide which changes stay, update the tables \
                         by hand, and remove it",
                        first.qualified_name()
                    )));
            }
        }
        self.exchange(&first, second).await
    }

    /// Makes the first table what it was, if the second one was not updated, for example because others have changed it.
    /// Returns the error, with what is left to do.
    async fn taken_back(&self, first: &TableDescription, error: Error) -> Error {
        if !is_certain(&error) || !self.is_intact(first) {
            return error.hint(self.again(first));
        }
        match self.catalog.update_table(&in_place_of(first, &self.mark.had)).await {
            Ok(()) => error,
            Err(_) => error.hint(self.again(first)),
        }
    }

    /// Whether the second table is what the first one was, or what others have made of that.
    fn is_done(&self, second: &TableDescription) -> bool {
        place(second) == place(&self.mark.had)
    }

    /// Whether nobody has changed the first table since it was updated.
    fn is_intact(&self, first: &TableDescription) -> bool {
        is_same(first, &self.mark.got)
    }

    fn again(&self, first: &TableDescription) -> String {
        format!("`hardtack swap {} {}` finishes what has begun", self.mark.with, first.qualified_name())
    }
}

/// Removes the mark from a table, which others may change meanwhile.
async fn unmark<C: Catalog + ?Sized>(catalog: &C, table: &TableDescription) -> Result<()> {
    let mut attempts = 0;
    loop {
        let mut now = catalog.get_table(&table.database, &table.name).await?;
        if now.parameters.remove(MARK).is_none() {
            return Ok(());
        }
        attempts += 1;
        match put(catalog, &now, |now| !now.parameters.contains_key(MARK)).await {
            Err(e) if Conflict::of(&e).is_some() && attempts < ATTEMPTS => {}
            done => return done.map(drop),
        }
    }
}

/// Updates a table, and returns it as it is then. An update that has happened is a success, whatever the answer: a client
/// may have repeated a request whose answer was lost, and then met its own change. An error that [`is_certain`] says that
/// it has not happened.
async fn put<C: Catalog + ?Sized>(
    catalog: &C,
    wanted: &TableDescription,
    has_happened: impl Fn(&TableDescription) -> bool + Send,
) -> Result<TableDescription> {
    let updated = catalog.update_table(wanted).await;
    match (updated, catalog.get_table(&wanted.database, &wanted.name).await) {
        (Err(e), Ok(now)) if !has_happened(&now) => Err(e),
        (Err(e), Err(now)) if (e.kind(), now.kind()) == (ErrorKind::NotFound, ErrorKind::NotFound) => Err(e),
        (_, Ok(now)) => Ok(now),
        (_, Err(unknown)) => Err(Error::unavailable("whether the table was changed is unknown")
            .with("table", wanted.qualified_name())
            .because(unknown)),
    }
}

/// Whether an error says that nothing has happened, now or later.
fn is_certain(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Unexpected)
}

#[cfg(test)]
mod tests;
