"""Processes access records with DuckDB: derives columns from URL and user agent, drops duplicates, writes by day."""

import arguments
import duckdb

# A field of the payload: its type, and the column that takes it.
FIELDS = {
    "sessionId": ("varchar", "session_id"), "timestamp": ("bigint", "millis"), "userId": ("bigint", "user_id"),
    "method": ("varchar", "method"), "requestURL": ("varchar", "request_url"), "userAgent": ("varchar", "user_agent"),
    "host": ("varchar", "host"), "origin": ("varchar", "origin"), "xforwardedFor": ("varchar", "x_forwarded_for"),
    "via": ("varchar", "via"), "threadId": ("bigint", "thread_id"), "elapseMS": ("bigint", "elapse_ms"),
    "success": ("boolean", "success"), "stack": ("varchar", "stack"), "instance": ("varchar", "instance"),
    "vmId": ("varchar", "vm_id"), "returnObjectId": ("varchar", "return_object_id"),
    "queryString": ("varchar", "query_string"), "responseStatus": ("bigint", "response_status"),
    "oauthClientId": ("varchar", "oauth_client_id"), "basicAuthUsername": ("varchar", "basic_auth_username"),
    "authenticationMethod": ("varchar", "auth_method"),
}  # fmt: skip

BROWSER = "mozilla|safari|opera|lynx|ucweb|chrome|firefox"
# The first token that a user agent contains decides.
TOKENS = {
    "Synapse-Java-Client": "JAVA", "Synpase-Java-Client": "JAVA", "synapser": "SYNAPSER", "synapseRClient": "R",
    "synapsecommandlineclient": "COMMAND_LINE", "synapseclient": "PYTHON", "ELB-HealthChecker": "ELB_HEALTHCHECKER",
    "SynapseRepositoryStack": "STACK",
}  # fmt: skip


def after(token: str) -> str:
    return f"regexp_extract(user_agent, '{token}/(\\S+)', 1)"


def main() -> None:
    args = arguments.parse("DuckDB", lambda: f"DuckDB {duckdb.__version__}", suite="access")
    db = arguments.connect(args)

    files = f"{args.data}/{args.case}/access_records/*"
    payload = ", ".join(f'"{name}" {kind}' for name, (kind, _) in FIELDS.items())
    columns = ", ".join(f'payload."{name}" as {column}' for name, (_, column) in FIELDS.items())
    names = ", ".join(
        {"millis": "epoch_ms(millis) as timestamp", "instance": "ltrim(instance, '0') as instance"}.get(column, column)
        for _, column in FIELDS.values()
    )
    of_tokens = " ".join(f"when contains(user_agent, '{token}') then '{name}'" for token, name in TOKENS.items())
    versions = " ".join(
        f"when '{name}' then {after(token)}" for token, name in TOKENS.items() if not token.endswith("Java-Client")
    )
    db.execute(f"""copy (
        with records as (
            select {columns} from read_json('{files}', format = 'newline_delimited',
                columns = {{'payload': 'struct({payload})'}})
        ), once as (
            select distinct on (session_id, millis) * from records
        ), parts as (
            select *,
                regexp_extract(
                    regexp_replace(url_decode(lower(request_url)), '\\s+', '', 'g'), '/v1(/.*)', 1
                ) as path,
                regexp_matches(user_agent, '(?i){BROWSER}') as browser,
                case
                    when user_agent is null then 'UNKNOWN'
                    when browser or contains(user_agent, 'Synapse-Web-Client') then 'WEB'
                    {of_tokens}
                    else 'UNKNOWN'
                end as client
            from once
        )
        select {names},
            method || ' ' || case
                when path = '' then 'INVALID URL'
                when starts_with(path, '/entity/md5') then '/entity/md5/#'
                when starts_with(path, '/evaluation/name') then '/evaluation/name/#'
                when starts_with(path, '/entity/alias') then '/entity/alias/#'
                when starts_with(path, '/2fa') then path
                when starts_with(path, '/user/bundle') then '/user/bundle'
                when contains(path, '/access/') then '/objects/#/access/#'
                when contains(path, '/schema/type/registered/') then '/schema/type/registered/#'
                else regexp_replace(
                    regexp_replace(path, ';[^/]+|[^\\pL\\pN_/]', '', 'g'),
                    '/(?:(?:syn|fh)[0-9]+\\b|[0-9][^/]*)', '/#', 'g'
                )
            end as normalized_method_signature,
            client,
            nullif(case client
                when 'UNKNOWN' then ''
                when 'WEB' then
                    case when browser then regexp_extract(user_agent, '^(?i:{BROWSER})/(\\S+)', 1)
                    else {after("Synapse-Web-Client")} end
                when 'JAVA' then
                    case when starts_with(user_agent, 'Synpase-Java-Client') then {after("Synpase-Java-Client")}
                    else {after("Synapse-Java-Client")} end
                {versions}
            end, '') as client_version,
            try_cast(nullif(regexp_extract(request_url, '(?i)/entity/(?:syn)?([0-9]+)', 1), '') as bigint) as entity_id,
            strftime(epoch_ms(millis), '%Y-%m-%d') as record_date
        from parts
    ) to '{args.out}' (format parquet, compression zstd, partition_by (record_date), overwrite_or_ignore)""")


main()
