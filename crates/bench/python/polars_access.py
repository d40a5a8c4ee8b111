"""Processes access records with Polars: derives columns from URL and user agent, drops duplicates, writes by day."""

import arguments

arguments.limit_polars()

from urllib.parse import unquote

import polars as pl
from polars import col, lit

# A field of the payload: its type, and the column that takes it.
FIELDS = {
    "sessionId": (pl.String, "session_id"), "timestamp": (pl.Int64, "timestamp"), "userId": (pl.Int64, "user_id"),
    "method": (pl.String, "method"), "requestURL": (pl.String, "request_url"), "userAgent": (pl.String, "user_agent"),
    "host": (pl.String, "host"), "origin": (pl.String, "origin"), "xforwardedFor": (pl.String, "x_forwarded_for"),
    "via": (pl.String, "via"), "threadId": (pl.Int64, "thread_id"), "elapseMS": (pl.Int64, "elapse_ms"),
    "success": (pl.Boolean, "success"), "stack": (pl.String, "stack"), "instance": (pl.String, "instance"),
    "vmId": (pl.String, "vm_id"), "returnObjectId": (pl.String, "return_object_id"),
    "queryString": (pl.String, "query_string"), "responseStatus": (pl.Int64, "response_status"),
    "oauthClientId": (pl.String, "oauth_client_id"), "basicAuthUsername": (pl.String, "basic_auth_username"),
    "authenticationMethod": (pl.String, "auth_method"),
}  # fmt: skip

BROWSERS = ["mozilla", "safari", "opera", "lynx", "ucweb", "chrome", "firefox"]
BROWSER = f"(?i:{'|'.join(BROWSERS)})"
# The first token that a user agent contains decides.
TOKENS = {
    "Synapse-Java-Client": "JAVA", "Synpase-Java-Client": "JAVA", "synapser": "SYNAPSER", "synapseRClient": "R",
    "synapsecommandlineclient": "COMMAND_LINE", "synapseclient": "PYTHON", "ELB-HealthChecker": "ELB_HEALTHCHECKER",
    "SynapseRepositoryStack": "STACK",
}  # fmt: skip


def decoded(urls: pl.Series) -> pl.Series:
    """Polars has no function for this; few URLs need it."""
    if not urls.str.contains("%", literal=True).any():
        return urls
    return pl.Series([url if url is None or "%" not in url else unquote(url) for url in urls], dtype=pl.String)


def signature() -> pl.Expr:
    url = col("request_url").str.to_lowercase().map_batches(decoded, pl.String, is_elementwise=True)
    path = url.str.replace_all(r"\s+", "").str.extract("/v1(/.*)", 1)
    ids = r"/(?:(?:syn|fh)[0-9]+\b|[0-9][^/]*)"
    of_path = (
        pl.when(path.is_null()).then(lit("INVALID URL"))
        .when(path.str.starts_with("/entity/md5")).then(lit("/entity/md5/#"))
        .when(path.str.starts_with("/evaluation/name")).then(lit("/evaluation/name/#"))
        .when(path.str.starts_with("/entity/alias")).then(lit("/entity/alias/#"))
        .when(path.str.starts_with("/2fa")).then(path)
        .when(path.str.starts_with("/user/bundle")).then(lit("/user/bundle"))
        .when(path.str.contains("/access/", literal=True)).then(lit("/objects/#/access/#"))
        .when(path.str.contains("/schema/type/registered/", literal=True)).then(lit("/schema/type/registered/#"))
        .otherwise(path.str.replace_all(r";[^/]+|[^\pL\pN_/]", "").str.replace_all(ids, "/#"))
    )  # fmt: skip
    return col("method") + " " + pl.when(col("request_url").is_not_null()).then(of_path)


def client(agent: pl.Expr) -> pl.Expr:
    browser = agent.str.contains_any(BROWSERS, ascii_case_insensitive=True)
    cases = pl.when(browser | agent.str.contains("Synapse-Web-Client", literal=True)).then(lit("WEB"))
    for token, name in TOKENS.items():
        cases = cases.when(agent.str.contains(token, literal=True)).then(lit(name))
    return cases.otherwise(lit("UNKNOWN"))


def version(agent: pl.Expr, client: pl.Expr) -> pl.Expr:
    def after(token: str) -> pl.Expr:
        return agent.str.extract(rf"{token}/(\S+)", 1)

    browser = agent.str.contains_any(BROWSERS, ascii_case_insensitive=True)
    misspelt = agent.str.starts_with("Synpase-Java-Client")
    cases = (
        pl.when((client == "WEB") & browser).then(agent.str.extract(rf"^{BROWSER}/(\S+)", 1))
        .when(client == "WEB").then(after("Synapse-Web-Client"))
        .when((client == "JAVA") & misspelt).then(after("Synpase-Java-Client"))
    )  # fmt: skip
    for token, name in TOKENS.items():
        if token != "Synpase-Java-Client":
            cases = cases.when(client == name).then(after(token))
    return cases.otherwise(None)


def main() -> None:
    args = arguments.parse("Polars", lambda: f"Polars {pl.__version__}", suite="access")

    files = f"{args.data}/{args.case}/access_records/*"
    schema = {"payload": pl.Struct({name: kind for name, (kind, _) in FIELDS.items()})}
    field = col("payload").struct.field
    rows = pl.scan_ndjson(files, schema=schema).select(
        *[field(name).alias(column) for name, (_, column) in FIELDS.items()]
    )
    rows = rows.unique(subset=["session_id", "timestamp"], keep="any", maintain_order=False)
    rows = rows.with_columns(
        pl.from_epoch("timestamp", "ms").dt.cast_time_unit("us"),
        col("instance").str.strip_chars_start("0"),
        normalized_method_signature=signature(),
        client=client(col("user_agent")),
        entity_id=col("request_url").str.extract(r"(?i)/entity/(?:syn)?([0-9]+)", 1).cast(pl.Int64, strict=False),
    ).with_columns(
        client_version=version(col("user_agent"), col("client")), record_date=col("timestamp").dt.strftime("%Y-%m-%d")
    )
    target = pl.PartitionBy(args.out, key="record_date", include_key=False, approximate_bytes_per_file=None)
    rows.sink_parquet(target, compression="zstd", mkdir=True, maintain_order=False, engine="streaming")


main()
