//! Random statements over the tables of a catalog, like those of `SQLSmith`: none stops the server or runs forever.
//!
//! `HARDTACK_SMITH_SECONDS` sets the duration, `HARDTACK_SMITH_SEED` the seed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::serving::{Serving, is_the_end, said, value};
use crate::torture::{Random, setting};

/// The type of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Moment,
    Truth,
    List,
}

use Kind::{List, Moment, Number, Text, Truth};

/// A column of a table, by its name in a statement.
struct Column {
    name: String,
    kind: Kind,
}

struct Table {
    name: String,
    columns: Vec<Column>,
}

/// The calls of each kind: `n`, `t`, `m`, `b`, `l` after a `#` stand for expressions of a kind.
const CALLS: &[(Kind, &[&str])] = &[
    (
        Number,
        &[
            "(#n + #n)",
            "(#n - #n)",
            "(#n * #n)",
            "(#n / #n)",
            "(#n % #n)",
            "abs(#n)",
            "round(#n, #n)",
            "power(#n, #n)",
            "sqrt(#n)",
            "length(#t)",
            "strpos(#t, #t)",
            "ascii(#t)",
            "coalesce(#n, #n)",
            "nullif(#n, #n)",
            "greatest(#n, #n, #n)",
            "case when #b then #n else #n end",
            "cardinality(#l)",
            "#l[#n]",
            "array_position(#l, #n)",
            "date_part('doy', #m)",
            "extract(epoch from #m)",
            "cast(#t as bigint)",
            "try_cast(#t as double)",
            "cast(#n as int)",
            "gcd(#n, #n)",
            "factorial(#n)",
            "-#n",
            "bit_length(#t)",
            "regexp_count(#t, #t)",
            "levenshtein(#t, #t)",
            "trunc(#n, #n)",
            "(#n)::decimal(20, 4)",
            "~(#n)::bigint",
        ],
    ),
    (
        Text,
        &[
            "upper(#t)",
            "#t || #t",
            "concat(#t, #n, #t)",
            "concat_ws(#t, #t, #n)",
            "substr(#t, #n, #n)",
            "left(#t, #n)",
            "right(#t, #n)",
            "lpad(#t, #n, #t)",
            "rpad(#t, #n)",
            "repeat(#t, #n)",
            "replace(#t, #t, #t)",
            "translate(#t, #t, #t)",
            "reverse(#t)",
            "initcap(#t)",
            "split_part(#t, #t, #n)",
            "regexp_replace(#t, #t, #t, 'g')",
            "to_char(#m, #t)",
            "cast(#n as varchar)",
            "cast(#m as varchar)",
            "md5(#t)",
            "encode(#t::bytea, 'hex')",
            "trim(both #t from #t)",
            "overlay(#t placing #t from #n)",
            "chr(#n)",
            "to_hex(#n)",
            "array_to_string(#l, #t)",
            "case when #b then #t end",
            "substr_index(#t, #t, #n)",
            "quote_ident(#t)",
        ],
    ),
    (
        Moment,
        &[
            "date_trunc('month', #m)",
            "date_bin(interval '15 minutes', #m)",
            "#m + interval '1 month'",
            "to_timestamp(#n)",
            "to_timestamp(#t)",
            "cast(#t as timestamp)",
            "coalesce(#m, #m)",
            "#m + #n * interval '1 day'",
            "from_unixtime(#n)",
        ],
    ),
    (
        Truth,
        &[
            "#n < #n",
            "#n = #n",
            "#t = #t",
            "#t like #t",
            "#t ~ #t",
            "#t is null",
            "#m > #m",
            "(#b and #b)",
            "(#b or #b)",
            "not #b",
            "#n in (#n, #n, #n)",
            "#n between #n and #n",
            "#t is distinct from #t",
            "array_has(#l, #n)",
            "starts_with(#t, #t)",
        ],
    ),
    (
        List,
        &[
            "[#n, #n]",
            "range(#n, #n)",
            "array_append(#l, #n)",
            "array_concat(#l, #l)",
            "array_sort(#l)",
            "array_distinct(#l)",
            "array_repeat(#n, #n)",
            "array_resize(#l, #n, #n)",
            "#l[#n:#n]",
            "array_remove(#l, #n)",
            "array_reverse(#l)",
        ],
    ),
];

const CONSTANTS: &[(Kind, &[&str])] = &[
    (
        Number,
        &["0", "1", "-1", "7", "2147483648", "9223372036854775807", "0.5", "1e300", "-0.0", "null::bigint", "100"],
    ),
    (
        Text,
        &[
            "''",
            "'a'",
            "'%'",
            "'(a|b)*'",
            "'\\\\'",
            "'äöü'",
            "'2024-02-29'",
            "null::text",
            "'%Y-%m'",
            "'12.5'",
            "'\u{1F600}'",
        ],
    ),
    (
        Moment,
        &[
            "timestamp '2024-02-29 10:30:00'",
            "date '1900-01-01'",
            "now()",
            "null::timestamp",
            "timestamp '9999-12-31 23:59:59'",
        ],
    ),
    (Truth, &["true", "false", "null::boolean"]),
    (List, &["[1, 2, 3]", "null::bigint[]", "[]::bigint[]"]),
];

const AGGREGATES: &[&str] = &[
    "count(*)",
    "count(distinct #n)",
    "sum(#n)",
    "avg(#n)",
    "min(#t)",
    "max(#m)",
    "string_agg(#t, #t)",
    "array_agg(#n)",
    "stddev(#n)",
    "median(#n)",
    "bool_or(#b)",
    "approx_distinct(#t)",
    "corr(#n, #n)",
    "count(*) filter (where #b)",
    "first_value(#t order by #n)",
];

const WINDOWS: &[&str] = &[
    "row_number() over (order by #n)",
    "sum(#n) over (partition by #t order by #m)",
    "lag(#t, 1) over (order by #n)",
    "ntile(3) over (order by #m)",
    "rank() over (partition by #b order by #t desc)",
    "avg(#n) over (order by #n rows between 2 preceding and current row)",
];

/// Generates statements.
struct Smith<'a> {
    random: Random,
    tables: &'a [Table],
}

impl Smith<'_> {
    fn expression(&mut self, kind: Kind, columns: &[(String, Kind)], depth: usize) -> String {
        let own: Vec<&String> = columns.iter().filter(|(_, of)| *of == kind).map(|(name, _)| name).collect();
        let of = |table: &'static [(Kind, &'static [&'static str])]| {
            table.iter().find(|(of, _)| *of == kind).map_or(&[][..], |(_, all)| *all)
        };
        match self.random.below(5) {
            0 | 1 if depth > 0 => {
                let call = *self.random.one(of(CALLS));
                self.filled(call, columns, depth - 1)
            }
            2 => (*self.random.one(of(CONSTANTS))).to_owned(),
            _ if own.is_empty() => (*self.random.one(of(CONSTANTS))).to_owned(),
            _ => (*self.random.one(&own)).clone(),
        }
    }

    fn any(&mut self, columns: &[(String, Kind)], depth: usize) -> String {
        let kind = *self.random.one(&[Number, Text, Moment, Truth, List]);
        self.expression(kind, columns, depth)
    }

    /// Fills the placeholders of a template with expressions.
    fn filled(&mut self, template: &str, columns: &[(String, Kind)], depth: usize) -> String {
        let mut parts = template.split('#');
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let kind = match part.as_bytes()[0] {
                b'n' => Number,
                b't' => Text,
                b'm' => Moment,
                b'b' => Truth,
                _ => List,
            };
            text += &self.expression(kind, columns, depth);
            text += &part[1..];
        }
        text
    }

    fn statement(&mut self) -> String {
        let tables: Vec<usize> = (0..=self.random.below(2)).map(|_| self.random.below(self.tables.len())).collect();
        let columns: Vec<(String, Kind)> = tables
            .iter()
            .enumerate()
            .flat_map(|(i, table)| {
                self.tables[*table].columns.iter().map(move |c| (format!("t{i}.\"{}\"", c.name), c.kind))
            })
            .collect();
        let mut from = format!("{} as t0", self.tables[tables[0]].name);
        if let Some(other) = tables.get(1) {
            let how = *self.random.one(&["join", "left join", "full join", "right join"]);
            let on = self.filled("#n = #n and #b", &columns, 1);
            from += &format!(" {how} {} as t1 on {on}", self.tables[*other].name);
        }
        let filter = if self.random.below(2) == 0 { self.filled(" where #b", &columns, 2) } else { String::new() };
        let (select, rest) = match self.random.below(4) {
            0 => {
                let key = self.any(&columns, 1);
                let aggregates = [*self.random.one(AGGREGATES), *self.random.one(AGGREGATES)];
                let aggregates = aggregates.map(|aggregate| self.filled(aggregate, &columns, 2)).join(", ");
                let having = if self.random.below(3) == 0 { " having count(*) > 1" } else { "" };
                (format!("{key} as k, {aggregates}"), format!(" group by {key}{having}"))
            }
            1 => {
                let window = *self.random.one(WINDOWS);
                (format!("*, {} as w", self.filled(window, &columns, 1)), String::new())
            }
            _ => {
                let selected: Vec<String> = (0..=self.random.below(3)).map(|_| self.any(&columns, 3)).collect();
                (selected.join(", "), String::new())
            }
        };
        let order = if self.random.below(3) == 0 { " order by 1" } else { "" };
        let statement = format!("select {select} from {from}{filter}{rest}{order} limit {}", self.random.below(100));
        match self.random.below(6) {
            0 => format!("with w as ({statement}) select count(*) from w"),
            1 => format!("{statement} offset 1"),
            _ => statement,
        }
    }
}

/// Files of all types, and the tables that a crawl creates from them.
fn lake(folder: &Path) {
    let put = |file: &str, text: &str| {
        let path = folder.join("lake").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let orders: String = (0..200)
        .map(|i| {
            let (day, half) = (1 + i % 28, f64::from(i) / 2.0);
            format!(
                "{{\"id\": {i}, \"price\": {half}, \"name\": \"näme {}\", \"at\": \"2024-02-{day:02}T10:30:00\", \"paid\": {}, \"tags\": [{i}, null, 3]}}\n",
                i % 7,
                i % 2 == 0
            )
        })
        .collect();
    put("orders/year=2023/a.jsonl", &orders);
    put("orders/year=2024/a.jsonl", "{\"id\": null, \"name\": \"\"}\n");
    let people: String =
        (0..50).map(|i| format!("{i},\"Jane, {i}\",{},19{:02}-01-31\n", f64::from(i) * 1.5, i % 100)).collect();
    put("people/a.csv", &format!("id,name,height,born\n{people}"));
    let crawl = ["crawl", "lake", "--database", "lake"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_hardtack"));
    let done = command.args(crawl).current_dir(folder).env_clear().env("HARDTACK_STATE", "state").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// The tables of the catalog.
async fn tables(client: &Client) -> Vec<Table> {
    let query = "select table_name, column_name, data_type from information_schema.columns where table_schema = 'lake'";
    let mut tables: Vec<Table> = Vec::new();
    for message in client.simple_query(query).await.unwrap() {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let [table, column, of] = [0, 1, 2].map(|i| row.get(i).unwrap().to_owned());
        let kind = match of.as_str() {
            "Boolean" => Truth,
            of if of.starts_with("Timestamp") || of.starts_with("Date") => Moment,
            of if of.starts_with("List") => List,
            of if of.starts_with("Int") || of.starts_with("Float") || of.starts_with("Decimal") => Number,
            of if of.starts_with("Utf8") => Text,
            other => panic!("{table}.{column} is of an unknown type: {other}"),
        };
        let name = format!("lake.{table}");
        let column = Column { name: column, kind };
        match tables.iter_mut().find(|table| table.name == name) {
            Some(table) => table.columns.push(column),
            None => tables.push(Table { name, columns: vec![column] }),
        }
    }
    tables
}

#[tokio::test(flavor = "multi_thread")]
async fn random_statements_end() {
    let (seconds, seed) = (setting("HARDTACK_SMITH_SECONDS", 10), setting("HARDTACK_SMITH_SEED", 1));
    eprintln!("{seconds} s of statements, seed {seed}");
    let folder = tempfile::tempdir().unwrap();
    lake(folder.path());
    let serving =
        Serving::start(folder.path(), &["--memory-limit", "256MiB", "--statement-timeout", "2s", "--threads", "2"]);
    let mut client = serving.client().await;
    let tables = tables(&client).await;
    assert_eq!(tables.len(), 2);
    let mut smith = Smith { random: Random(seed), tables: &tables };
    let (start, mut seen, mut prepared) = (Instant::now(), BTreeMap::<String, (usize, String)>::new(), 0);
    while start.elapsed() < Duration::from_secs(seconds) {
        let statement = smith.statement();
        let asked = Instant::now();
        // Half of them are sent as drivers do.
        prepared += 1;
        let ended = match prepared % 2 {
            0 => client.simple_query(&statement).await.map(drop),
            _ => client.query(&statement, &[]).await.map(drop),
        };
        let said = ended.err().map_or_else(|| "answered".to_owned(), |error| said(&error));
        assert!(asked.elapsed() < Duration::from_secs(10), "{statement}: {said} after {:?}", asked.elapsed());
        // Only a query that is killed costs a connection.
        assert!(!said.contains("connection closed"), "{statement}: {said}: {}", serving.said());
        assert!(!said.contains("ended unexpectedly"), "{statement}: {said}: {}", serving.said());
        assert!(!serving.has_panicked(), "{statement}: {said}: {}", serving.said());
        if is_the_end(&said) {
            client = serving.client().await;
        }
        let code = said.split(' ').next().unwrap_or_default().to_owned();
        let (times, _) = seen.entry(code).or_insert_with(|| (0, format!("{statement}: {said}")));
        *times += 1;
    }
    for (code, (times, first)) in &seen {
        eprintln!("{code} {times} times, first: {first}");
    }
    assert!(seen.get("answered").is_some_and(|(times, _)| *times > 0));
    assert_eq!(value(&serving.client().await, "select 6 * 7").await, "42");
}
