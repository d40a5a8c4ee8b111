"""Files of other writers, at random, and what hardtack and DuckDB make of them.

    fuzz_readers.py FOLDER_OF_BINARIES [--tables N] [--seed S]

Python's csv and json, fastavro and pyarrow write small tables of one or two files each. `hardtack crawl` registers them all,
`hardtack sql` selects their rows, and each value must mean what was written; or the table is a problem of the crawl, or the
query is refused with a file. DuckDB reads the same files and is judged by the same rule. Where it loses something that
hardtack keeps, the number of such tables is shown; where it reads what hardtack refuses, that is shown, too.
What DuckDB 2.0 is known to lose: `1158E590003` becomes infinity; a whole number beyond 2^53 becomes a double where its column
has a fraction, and one beyond 64 bits always; `31.01.2024` and `2024-1-5` become dates, which are written otherwise; texts
keep their quotes in JSON columns that hold numbers, too.

A value of hardtack that is not what was written is printed with its table and the seed, and the exit code is 1.
"""

import argparse
import csv
import json
import math
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import duckdb
import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]


class Map(dict[str, Any]):
    """A map, which is something without keys, too; an object without fields is as good as none."""


class Field(str):
    """A field of a CSV file, which no type but text has when it is empty, and where blanks around other values do not count."""


# --- what is written --------------------------------------------------------------------------------------------------

ODD = """
0 -0 00 007 -007 +1 1e5 1E5 1e400 1.0 1.50 .5 5. 9007199254740993 9223372036854775808 123456789012345678901234567890 0.1
0.30000000000000004 0.1234567890123456789 1158E590003 1,5 1_000 0x10 NaN nan inf -Infinity true TRUE False t yes null NULL None \\N
2024-02-29 2023-02-29 9999-12-31 0001-01-01 2024-1-5 20240131 31.01.2024 2024-01-31T10:00:00Z 2024-01-31T10:00:00+02:00
2024-01-31T10:00:00.123456789 10:30:00 - + . \u00fcber \U0001f600 \U00020bb7 #x 'x' a;b a|b {"a":1} [1]
""".split() + ["", " ", " 1", "1 ", "2024-01-31 10:00:00", "a\"b", "a,b", "line\nbreak", "both\r\n", "\\", "x\ty", "x\ufeff"]  # fmt: skip


class Maker:
    """Random tables."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def text(self, theme: str) -> str:
        r = self.random
        if r.random() < 0.1:
            return r.choice(ODD)
        match theme:
            case "int":
                return str(r.randint(-1000, 1000))
            case "large":
                return str(r.randint(-(2**63), 2**63 - 1))
            case "float":
                return repr(r.uniform(-1000, 1000))
            case "decimal":
                return f"{r.randint(-99999, 99999)}.{r.randint(0, 99):02}"
            case "bool":
                return r.choice(["true", "false"])
            case "date":
                return str(date(2000, 1, 1) + timedelta(days=r.randint(-9999, 9999)))
            case "time":
                return (datetime(2000, 1, 1) + timedelta(seconds=r.randint(0, 10**9))).isoformat()
        return "".join(r.choice("abcxyz ") for _ in range(r.randint(1, 6)))

    def json(self, theme: str, depth: int = 0) -> Any:
        r = self.random
        if r.random() < 0.08:
            return None
        if theme == "list":
            return [self.json("int", depth + 1) for _ in range(r.randint(0, 3))]
        if theme == "object":
            return {name: self.json(of, depth + 1) for name, of in (("x", "float"), ("y", "text")) if r.random() < 0.8}
        if r.random() < 0.05:
            return r.choice([1, -0.0, 1e300, 0.1, 2**63, 2**70, -(2**63), True, "1", "", "2024-01-31", 1.5])
        match theme:
            case "int":
                return r.randint(-1000, 1000)
            case "large":
                return r.randint(-(2**63), 2**63 - 1)
            case "float" | "decimal":
                return r.uniform(-1000, 1000)
            case "bool":
                return r.random() < 0.5
        return self.text(theme)

    def columns(self, themes: list[str]) -> dict[str, str]:
        names = self.random.sample(["id", "a", "b", "price", "order_id", "Day"], self.random.randint(1, 4))
        return {name: self.random.choice(themes) for name in names}

    def rows(self, columns: dict[str, str], value: Callable[[str], Any]) -> list[Row]:
        return [{name: value(of) for name, of in columns.items()} for _ in range(self.random.randint(1, 6))]


def write_csv(make: Maker, folder: Path) -> list[Row]:
    columns = make.columns(["int", "large", "float", "decimal", "bool", "date", "time", "text"])
    dialect = {
        "delimiter": make.random.choice([",", ",", ",", ";", "\t", "|"]),
        "quoting": make.random.choice([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
        "lineterminator": make.random.choice(["\n", "\r\n"]),
    }
    # An empty field and a quoted empty one are not the same, but Python's csv writes both alike: with quotes if it quotes all,
    # or if a line would be blank.
    empty = Field() if dialect["quoting"] == csv.QUOTE_ALL or len(columns) == 1 else None
    written: list[Row] = []
    for i in range(make.random.randint(1, 2)):
        rows = make.rows(columns, lambda of: empty if make.random.random() < 0.1 else Field(make.text(of)) or empty)
        with (folder / f"{i}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, **dialect)
            writer.writerow(columns)
            writer.writerows(row.values() for row in rows)
        written += rows
    return written


def write_json(make: Maker, folder: Path) -> list[Row]:
    columns = make.columns(["int", "large", "float", "bool", "text", "date", "list", "object"])
    written: list[Row] = []
    for i in range(make.random.randint(1, 2)):
        rows = make.rows(columns, make.json)
        ascii_only = make.random.random() < 0.5
        lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
        (folder / f"{i}.json").write_text("\n".join(lines) + "\n", encoding="utf-8")
        written += rows
    return written


TYPES: dict[str, list[Any]] = {
    "int": [pa.int32(), pa.int64()],
    "large": [pa.int64()],
    "float": [pa.float64(), pa.float32()],
    "decimal": [pa.decimal128(9, 2), pa.decimal128(20, 4)],
    "bool": [pa.bool_()],
    "date": [pa.date32()],
    "time": [pa.timestamp("us"), pa.timestamp("ms"), pa.timestamp("us", "UTC")],
    "text": [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())],
    "list": [pa.list_(pa.int64()), pa.large_list(pa.int64())],
    "object": [pa.struct([("x", pa.float64()), ("y", pa.string())])],
    # What one file has as one type and the next as another.
    "number": [pa.int32(), pa.int64(), pa.float64()],
    "pair": [pa.list_(pa.int64(), 2), pa.list_(pa.int32()), pa.large_list(pa.int64())],
    "map": [pa.map_(pa.string(), pa.int32()), pa.map_(pa.string(), pa.int64())],
    "zoned": [pa.timestamp("us", "UTC"), pa.timestamp("ms", "+00:00"), pa.timestamp("us", "Europe/Berlin")],
    "fine": [pa.timestamp("ns"), pa.timestamp("us")],
}


def typed(make: Maker, theme: str, of: Any = None) -> Any:
    r = make.random
    if r.random() < 0.1:
        return None
    match theme:
        case "number" if pa.types.is_floating(of):
            return r.choice([0.5, -0.25, 2.0**53, 1e300])
        case "number":
            return r.choice([0, -7, 2**31 - 1] if of == pa.int32() else [0, 2**53 + 1, 2**63 - 1, -(2**63)])
        case "pair":
            return [r.choice([None, 7, 2**31 - 1]) for _ in range(2)]
        case "map":
            return Map((key, r.choice([None, 7, -(2**31)])) for key in r.sample(["a", "b", "c"], r.randint(0, 3)))
        case "zoned" | "fine":
            return datetime(2024, 1, 31, 10, 0, 0, 123000, tzinfo=timezone.utc) + timedelta(seconds=r.randint(0, 10**8))
        case "int":
            return r.choice([0, -1, 2**31 - 1, -(2**31), r.randint(-999, 999)])
        case "large":
            return r.choice([0, 2**53 + 1, 2**63 - 1, -(2**63), r.randint(-999, 999)])
        case "float":
            return r.choice([0.0, -0.0, 0.5, -1.25, 2.0**24])
        case "decimal":
            return Decimal(r.randint(-(10**9) + 1, 10**9 - 1)).scaleb(-2)
        case "bool":
            return r.random() < 0.5
        case "date":
            return r.choice([date(1, 1, 1), date(1582, 10, 10), date(1970, 1, 1), date(9999, 12, 31), date(2024, 2, 29)])
        case "time":
            moment = r.choice([datetime(1, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999000), datetime(9999, 12, 31, 23, 59, 59)])
            return moment.replace(tzinfo=timezone.utc)
        case "list":
            return [r.choice([None, 2**53 + 1, 7]) for _ in range(r.randint(0, 3))]
        case "object":
            return {"x": r.choice([None, 0.5, -0.0]), "y": r.choice([None, "", "1"])}
    return r.choice(["", "a", "007", "1.50", "2024-01-31", "\u00fc\U0001f600", "a,b\"c\n", " x "])


def write_parquet(make: Maker, folder: Path) -> list[Row]:
    columns = make.columns(list(TYPES))
    written: list[Row] = []
    for i in range(make.random.randint(1, 2)):
        types = {name: make.random.choice(TYPES[of]) for name, of in columns.items()}
        count = make.random.randint(1, 6)
        rows = [{name: typed(make, theme, types[name]) for name, theme in columns.items()} for _ in range(count)]
        arrays = [pa.array([stored(row[name], of) for row in rows], of) for name, of in types.items()]
        table = pa.table(arrays, names=list(types))
        old = make.random.random() < 0.2
        pq.write_table(table, folder / f"{i}.parquet", use_deprecated_int96_timestamps=old, version="1.0" if old else "2.6")
        written += rows
    return written


def stored(value: Any, of: Any) -> Any:
    """As pyarrow wants it: a timestamp for a column without a zone has none, and a map is a list."""
    if pa.types.is_map(of) and value is not None:
        return list(value.items())
    return value.replace(tzinfo=None) if isinstance(value, datetime) and of.tz is None else value


AVRO: dict[str, list[Any]] = {
    "int": ["int", "long"],
    "large": ["long"],
    "float": ["double", "float"],
    "decimal": [{"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}],
    "bool": ["boolean"],
    "date": [{"type": "int", "logicalType": "date"}],
    "time": [{"type": "long", "logicalType": "timestamp-millis"}, {"type": "long", "logicalType": "timestamp-micros"}],
    "text": ["string"],
    "list": [{"type": "array", "items": ["null", "long"]}],
}


def write_avro(make: Maker, folder: Path) -> list[Row]:
    columns = make.columns(list(AVRO))
    written: list[Row] = []
    for i in range(make.random.randint(1, 2)):
        rows = make.rows(columns, lambda of: typed(make, of))
        fields = [{"name": name, "type": ["null", make.random.choice(AVRO[of])]} for name, of in columns.items()]
        schema = fastavro.parse_schema({"type": "record", "name": "row", "fields": fields})
        with (folder / f"{i}.avro").open("wb") as file:
            fastavro.writer(file, schema, rows, codec=make.random.choice(["null", "deflate", "bzip2", "xz"]))
        written += rows
    return written


WRITERS = {"csv": write_csv, "json": write_json, "parquet": write_parquet, "avro": write_avro}

# --- what a value means -----------------------------------------------------------------------------------------------


# Texts of which inference makes numbers, as the guide's chapter on contracts says: `12`, `1.50`, `.5`, `1.5E3`, `1e-05`.
PLAIN = re.compile(r"-?((0|[1-9]\d*)(\.\d*)?|\.\d+|\d+\.\d*[eE][+-]?\d+|\d[eE][+-]\d+)", re.ASCII)
NOT_FINITE = {"NaN", "inf", "Infinity", "-inf", "-Infinity"}


class Token(str):
    """A number as it stands in a JSON text."""


def number(text: str) -> Decimal | None:
    try:
        return Decimal(text) if re.fullmatch(r"[+-]?[\d.]+([eE][+-]?\d+)?", text, re.ASCII) else None
    except InvalidOperation:
        return None


def not_finite(value: float) -> str:
    """As our JSON has it, as Spark's has."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def same_number(a: Decimal | None, b: Decimal | None) -> bool:
    return a is not None and b is not None and a == b and (a != 0 or a.is_signed() == b.is_signed())


def moment(text: str) -> datetime | None:
    try:
        # Python has microseconds; what is finer is compared as a text.
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def keeps(written: Any, given: Any) -> bool:
    """Whether a value that was given means what was written: see `crates/fuzz/src/meaning.rs`, which says it in full."""
    if given is None:
        return not written if isinstance(written, Field) else hollow(written)
    if written is None:
        return False
    if isinstance(written, bool):
        return given is written or given == str(written).lower()
    if isinstance(written, Map):
        return isinstance(given, dict) and given.keys() == written.keys() and all(keeps(written[key], given[key]) for key in given)
    if isinstance(written, dict):
        fields = {k.lower(): v for k, v in given.items()} if isinstance(given, dict) else None
        return fields is not None and row_keeps(written, fields)
    if isinstance(written, list):
        return isinstance(given, list) and len(given) == len(written) and all(map(keeps, written, given))
    if isinstance(written, int):
        return isinstance(given, str) and str(written) == given or same_number(Decimal(written), number(str(given)))
    if isinstance(written, float):
        if not math.isfinite(written):
            return given == not_finite(written)
        return isinstance(given, str) and same_number(Decimal(repr(written)), number(given))
    if isinstance(written, Decimal):
        return isinstance(given, str) and number(given) is not None and written == number(given)
    if isinstance(written, datetime):
        return isinstance(given, str) and moment(given) == written
    if isinstance(written, date):
        return given == str(written)
    return text_keeps(written, given)


def hollow(written: Any) -> bool:
    """Of an object that never has a field nothing can be given."""
    return written is None or (type(written) is dict and all(map(hollow, written.values())))


def text_keeps(written: str, given: Any) -> bool:
    if written == given and not isinstance(given, Token):
        return True
    if isinstance(written, Field):
        written = written.strip()
    if written in NOT_FINITE and given == not_finite(float(written)):
        return True
    if isinstance(given, bool):
        return written.lower() == str(given).lower()
    if isinstance(given, Token):
        return bool(PLAIN.fullmatch(written)) and same_number(number(written), number(given))
    # A day among days with a time is midnight.
    return isinstance(given, str) and len(written) >= 10 and moment(written) is not None and moment(written) == moment(given)


def row_keeps(written: Row, given: Row) -> bool:
    names = {name.lower() for name in written}
    return all(keeps(value, given.get(name.lower())) for name, value in written.items()) and all(
        value is None or name in names for name, value in given.items()
    )


def difference(written: list[Row], given: list[Row]) -> str | None:
    """What is wrong with the rows, in any order: each is to mean another of those that were written."""
    folded = [{name.lower(): value for name, value in row.items()} for row in given]
    taken: dict[int, int] = {}

    def place(at: int, tried: set[int]) -> bool:
        for i, row in enumerate(written):
            if i not in tried and row_keeps(row, folded[at]):
                tried.add(i)
                # Who has taken it may mean another row as well.
                if i not in taken or place(taken[i], tried):
                    taken[i] = at
                    return True
        return False

    homeless = next((at for at in range(len(given)) if not place(at, set())), None)
    rest = [row for i, row in enumerate(written) if i not in taken]
    if homeless is not None:
        return f"nobody wrote {given[homeless]}; what is left of what was written: {rest}"
    return f"rows are lost: {rest}" if rest else None


# --- readers ----------------------------------------------------------------------------------------------------------


class Hardtack:
    def __init__(self, binaries: Path, folder: Path) -> None:
        self.program, self.catalog = str(binaries / "hardtack"), f"embedded:{folder / 'catalog.db'}"

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([self.program, *args, "--catalog", self.catalog], capture_output=True, text=True, timeout=300)
        if done.returncode not in (0, 3) or "panicked" in done.stderr:
            sys.exit(f"hardtack {' '.join(args)[:200]} ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr}")
        return done

    def crawl(self, lake: Path) -> dict[str, list[str]]:
        """The names of the tables, by the folder; `said` and `notes` are what is said of problems and tables."""
        said = self.run("crawl", str(lake), "--database", "lake").stdout
        tables: dict[str, list[str]] = {}
        for name, location in re.findall(r"^created +lake\.(\S+)  \S+  \S*/lake/(t\d+)\S*$", said, re.MULTILINE):
            tables.setdefault(location, []).append(name)
        self.said = {place: text for place, text in re.findall(r"^problem at \S*/lake/(t\d+)\S*\n((?:    .*\n)+)", said, re.MULTILINE)}
        self.notes = {
            place: text for place, text in re.findall(r"^created +\S+  \S+  \S*/lake/(t\d+)\S*\n((?:    .*\n)+)", said, re.MULTILINE) if "note: " in text
        }
        return tables

    def rows(self, tables: list[str]) -> Iterator[tuple[str, list[Row] | str]]:
        """The rows of each table, or why it is refused. A script ends with the first statement that fails."""
        rest = list(tables)
        while rest:
            script = ";\n".join(f"select * from lake.\"{table}\"; select 'end of rows' as marker_" for table in rest[:100])
            done = self.run("sql", "--format", "json", "-c", script)
            rows: list[Row] = []
            for line in done.stdout.splitlines():
                row = json.loads(line, parse_int=Token, parse_float=Token)
                if row == {"marker_": "end of rows"}:
                    yield rest.pop(0), rows
                    rows = []
                else:
                    rows.append(row)
            if done.returncode:
                if "file" not in done.stderr:
                    sys.exit(f"a refusal without a file: {done.stderr}")
                yield rest.pop(0), done.stderr.strip()


def duck(kind: str, folder: Path) -> list[Row]:
    reader = {
        "csv": f"read_csv('{folder}/*.csv', union_by_name=true, header=true)",
        "json": f"read_json('{folder}/*.json', union_by_name=true)",
        "parquet": f"read_parquet('{folder}/*.parquet', union_by_name=true)",
    }[kind]
    found = duckdb.sql(f"select * from {reader}")
    return [dict(zip(found.columns, map(plain, row), strict=True)) for row in found.fetchall()]


def plain(value: Any) -> Any:
    """As hardtack prints it."""
    match value:
        case bool() | None | str():
            return value
        case float() if not math.isfinite(value):
            return str(value)
        case int() | float() | Decimal():
            return Token(repr(value) if isinstance(value, float) else value)
        case datetime():
            return value.isoformat()
        case date() | time():
            return str(value)
        case list():
            return [plain(item) for item in value]
        case dict():
            return {name: plain(item) for name, item in value.items()}
    return str(value)


# --- the trial --------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("binaries", type=Path)
    parser.add_argument("--tables", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    make, kinds = Maker(args.seed), list(WRITERS)
    with tempfile.TemporaryDirectory() as temporary:
        lake = Path(temporary) / "lake"
        written: dict[str, tuple[str, list[Row]]] = {}
        for i in range(args.tables):
            name, kind = f"t{i:05}", kinds[i % len(kinds)]
            (lake / name).mkdir(parents=True)
            written[name] = kind, WRITERS[kind](make, lake / name)
        hardtack = Hardtack(args.binaries, Path(temporary))
        tables = hardtack.crawl(lake)
        rows: dict[str, list[Row] | str] = dict(hardtack.rows([table for names in tables.values() for table in names]))
        counts: Counter[str] = Counter()
        failed = 0
        for name, (kind, wanted) in written.items():
            given = [rows[table] for table in tables.get(name, [])]
            refused = next((why for why in given if isinstance(why, str)), None)
            if not given:
                refused = hardtack.said.get(name, "")
            said = hardtack.said.get(name, "") + hardtack.notes.get(name, "")
            # Rows of a table of which something is said may be taken otherwise than they were meant: as a header, say.
            wrong = refused is None and difference(wanted, [row for part in given for row in part])
            if refused == "" or (wrong and not said):
                failed += 1
                print(f"{name} ({kind}): {wrong or 'neither a table nor a problem'}")
                for file in sorted((lake / name).iterdir()):
                    print(f"    {file.name}: {file.read_bytes()[:600]!r}")
            outcome = "refused" if refused is not None else "read" if not wrong else "noted" if said else "WRONG"
            counts[f"{kind}: {outcome} by hardtack"] += 1
            if kind == "avro":
                continue
            try:
                lost = difference(wanted, duck(kind, lake / name))
            except duckdb.Error:
                lost = None
                counts[f"{kind}: refused by DuckDB"] += 1
            else:
                counts[f"{kind}: {'something is lost' if lost else 'read'} by DuckDB"] += 1
                if lost and counts[f"{kind}: something is lost by DuckDB"] <= 2:
                    print(f"{name} ({kind}) loses something in DuckDB: {lost[:200]}")
                if refused and not lost:
                    counts[f"{kind}: read by DuckDB only"] += 1
                    print(f"{name} ({kind}) is read by DuckDB only: {refused[:300]}")
    for what, count in sorted(counts.items()):
        print(f"{count:6} {what}")
    print(f"seed {args.seed}: {args.tables} tables, {failed} wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
