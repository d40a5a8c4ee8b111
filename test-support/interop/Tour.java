import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;

/**
 * Asks `hardtack serve` all that Java's DatabaseMetaData can ask through PostgreSQL's driver, and what programs ask:
 * parameters of all types, cursors, timeouts.
 *
 * <p>java --class-path postgresql.jar Tour.java FOLDER_OF_BINARIES
 */
public class Tour {
    private static final List<String> wrong = new ArrayList<>();

    /** What may fail or differ. */
    private interface Step {
        Object take() throws Exception;
    }

    public static void main(String[] args) throws Exception {
        Path hardtack = Path.of(args[0], "hardtack").toAbsolutePath();
        Path folder = Files.createTempDirectory("tour");
        Files.createDirectories(folder.resolve("lake/books"));
        Files.writeString(
                folder.resolve("lake/books/a.jsonl"),
                "{\"title\": \"Emma\", \"pages\": 474, \"price\": 9.5, \"at\": \"2024-02-29T10:30:00\", \"tags\": [1, 2]}\n"
                        + "{\"title\": \"Ulysses\", \"pages\": 730}\n");
        run(hardtack, folder, "crawl", "lake", "--database", "lake").waitFor();
        Process server = run(hardtack, folder, "serve", "--postgres", "127.0.0.1:0");
        try {
            String line = new BufferedReader(new InputStreamReader(server.getInputStream())).readLine();
            tour("jdbc:postgresql://" + line.split(" ")[2] + "/lake");
        } finally {
            server.destroy();
            server.waitFor();
        }
        wrong.forEach(System.err::println);
        System.out.println(wrong.isEmpty() ? "pgjdbc: everything was answered" : "pgjdbc: " + wrong.size() + " answers are wrong");
        System.exit(wrong.isEmpty() ? 0 : 1);
    }

    private static Process run(Path program, Path folder, String... args) throws IOException {
        List<String> command = new ArrayList<>(List.of(program.toString()));
        command.addAll(List.of(args));
        ProcessBuilder builder = new ProcessBuilder(command).directory(folder.toFile());
        builder.environment().put("HARDTACK_STATE", "state");
        return builder.redirectError(ProcessBuilder.Redirect.INHERIT).start();
    }

    private static Connection connect(String url, String... properties) throws SQLException {
        Properties all = new Properties();
        all.setProperty("user", "hardtack");
        for (int i = 0; i < properties.length; i += 2) {
            all.setProperty(properties[i], properties[i + 1]);
        }
        return DriverManager.getConnection(url, all);
    }

    private static void tour(String url) throws SQLException {
        try (Connection connection = connect(url)) {
            metadata(connection.getMetaData());
        }
        for (String mode : List.of("extended", "simple", "extendedForPrepared", "extendedCacheEverything")) {
            // From the first time on, and so in binary where the driver can.
            try (Connection connection = connect(url, "preferQueryMode", mode, "prepareThreshold", "-1")) {
                parameters(mode + ", binary: ", connection);
            }
            try (Connection connection = connect(url, "preferQueryMode", mode)) {
                parameters(mode + ": ", connection);
                statements(mode + ": ", connection);
            }
        }
    }

    private static void check(String what, Object wanted, Step step) {
        try {
            Object found = step.take();
            if (!wanted.equals(found)) {
                wrong.add(what + ": wanted is " + wanted + ", and there is " + found);
            }
        } catch (Exception e) {
            wrong.add(what + ": " + e);
        }
    }

    /** The values of these columns of all rows; without names, how many rows there are. */
    private static String rows(ResultSet rows, String... columns) throws SQLException {
        List<String> found = new ArrayList<>();
        try (rows) {
            while (rows.next()) {
                List<String> row = new ArrayList<>();
                for (String column : columns) {
                    row.add(String.valueOf(rows.getString(column)));
                }
                found.add(String.join(" ", row));
            }
        }
        return columns.length == 0 ? Integer.toString(found.size()) : String.join("; ", found);
    }

    private static void metadata(DatabaseMetaData of) {
        for (Method method : DatabaseMetaData.class.getMethods()) {
            if (method.getParameterCount() == 0) {
                check(method.getName(), "answered", () -> {
                    try {
                        if (method.invoke(of) instanceof ResultSet rows) {
                            rows(rows);
                        }
                        return "answered";
                    } catch (InvocationTargetException e) {
                        // What the driver itself does not know is not ours to answer.
                        if (e.getCause() instanceof java.sql.SQLFeatureNotSupportedException) {
                            return "answered";
                        }
                        throw (Exception) e.getCause();
                    }
                });
            }
        }
        check("getCatalogs", "lake", () -> rows(of.getCatalogs(), "TABLE_CAT"));
        check("getSchemas", "lake", () -> rows(of.getSchemas(null, "la%"), "TABLE_SCHEM"));
        check("getTables", "lake books TABLE", () -> rows(of.getTables(null, "lake", "%", new String[] {"TABLE"}), "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE"));
        check("getTables of all types", "books", () -> rows(of.getTables(null, "lake", null, null), "TABLE_NAME"));
        check("getTables of another schema", "", () -> rows(of.getTables(null, "pond", "%", new String[] {"TABLE", "VIEW"}), "TABLE_NAME"));
        check(
                "getColumns",
                "title text 1; pages int8 2; price float8 3; at text 4; tags text 5",
                () -> rows(of.getColumns(null, "lake", "books", "%"), "COLUMN_NAME", "TYPE_NAME", "ORDINAL_POSITION"));
        check("getColumns of one", "pages", () -> rows(of.getColumns(null, "lake", "books", "pages"), "COLUMN_NAME"));
        check("getTypeInfo", true, () -> Integer.parseInt(rows(of.getTypeInfo())) > 10);
        check("getPrimaryKeys", "", () -> rows(of.getPrimaryKeys(null, "lake", "books"), "COLUMN_NAME"));
        check("getIndexInfo", "", () -> rows(of.getIndexInfo(null, "lake", "books", false, true), "INDEX_NAME"));
        check("getIndexInfo, unique", "", () -> rows(of.getIndexInfo(null, "lake", "books", true, false), "INDEX_NAME"));
        check("getImportedKeys", "", () -> rows(of.getImportedKeys(null, "lake", "books"), "FK_NAME"));
        check("getExportedKeys", "", () -> rows(of.getExportedKeys(null, "lake", "books"), "FK_NAME"));
        check("getCrossReference", "", () -> rows(of.getCrossReference(null, "lake", "books", null, "lake", "books"), "FK_NAME"));
        check("getBestRowIdentifier", "", () -> rows(of.getBestRowIdentifier(null, "lake", "books", 0, true), "COLUMN_NAME"));
        check("getVersionColumns", "answered", () -> rows(of.getVersionColumns(null, "lake", "books")).isEmpty() ? "" : "answered");
        check("getProcedures", "", () -> rows(of.getProcedures(null, "lake", "%"), "PROCEDURE_NAME"));
        check("getProcedureColumns", "", () -> rows(of.getProcedureColumns(null, "lake", "%", "%"), "COLUMN_NAME"));
        check("getFunctions", "", () -> rows(of.getFunctions(null, "lake", "%"), "FUNCTION_NAME"));
        check("getFunctionColumns", "", () -> rows(of.getFunctionColumns(null, "lake", "%", "%"), "COLUMN_NAME"));
        check("getUDTs", "", () -> rows(of.getUDTs(null, "lake", "%", null), "TYPE_NAME"));
        check("getTablePrivileges", "answered", () -> rows(of.getTablePrivileges(null, "lake", "books")).isEmpty() ? "" : "answered");
        check("getColumnPrivileges", "answered", () -> rows(of.getColumnPrivileges(null, "lake", "books", "%")).isEmpty() ? "" : "answered");
        check("getClientInfoProperties", "ApplicationName", () -> rows(of.getClientInfoProperties(), "NAME"));
    }

    /** A value as it comes back, and the type that it has there. */
    private static String back(Connection connection, Step set) throws Exception {
        PreparedStatement statement = (PreparedStatement) set.take();
        try (statement; ResultSet rows = statement.executeQuery()) {
            rows.next();
            return rows.getString(1) + " " + rows.getMetaData().getColumnTypeName(1);
        }
    }

    private interface Setter {
        void set(PreparedStatement statement) throws SQLException;
    }

    private static void parameters(String mode, Connection connection) {
        // The simple protocol has no types but those that its texts say.
        boolean isTyped = !mode.startsWith("simple");
        parameter(mode, connection, "7 int8", s -> s.setLong(1, 7));
        parameter(mode, connection, "7 int4", s -> s.setInt(1, 7));
        parameter(mode, connection, "7 int2", s -> s.setShort(1, (short) 7));
        parameter(mode, connection, "0.5 float8", s -> s.setDouble(1, 0.5));
        parameter(mode, connection, "Emma text", s -> s.setString(1, "Emma"));
        if (isTyped) {
            parameter(mode, connection, "0.25 float4", s -> s.setFloat(1, 0.25f));
            parameter(mode, connection, "12.340 numeric", s -> s.setBigDecimal(1, new BigDecimal("12.340")));
        }
        String query = "select title from books where pages > ? and at <= ? order by title limit ?";
        check(mode + query, "Emma", () -> {
            try (PreparedStatement statement = connection.prepareStatement(query)) {
                statement.setInt(1, 100);
                statement.setTimestamp(2, Timestamp.valueOf("2024-03-01 00:00:00"));
                statement.setInt(3, 5);
                return rows(statement.executeQuery(), "title");
            }
        });
        check(mode + "dates", "1", () -> {
            try (PreparedStatement statement = connection.prepareStatement("select pages from books where at >= ? and title = ?")) {
                statement.setDate(1, Date.valueOf("2024-02-29"));
                statement.setString(2, "Emma");
                return rows(statement.executeQuery());
            }
        });
    }

    private static void parameter(String mode, Connection connection, String wanted, Setter setter) {
        // As often as makes the driver change how it asks.
        for (int i = 0; i < 3; i++) {
            check(mode + "select ? of " + wanted, wanted, () -> back(connection, () -> {
                PreparedStatement statement = connection.prepareStatement("select ?");
                setter.set(statement);
                return statement;
            }).replace(" varchar", " text"));
        }
    }

    private static void statements(String mode, Connection connection) {
        check(mode + "a cursor", "5000", () -> {
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(100);
                return rows(statement.executeQuery("select value from generate_series(1, 5000)"));
            } finally {
                connection.commit();
                connection.setAutoCommit(true);
            }
        });
        check(mode + "an array", "{1,2}", () -> {
            try (Statement statement = connection.createStatement()) {
                return rows(statement.executeQuery("select tags from books where title = 'Emma'"), "tags");
            }
        });
        check(mode + "a timeout", "57014", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.setQueryTimeout(1);
                rows(statement.executeQuery("select count(*) from generate_series(1, 1000000000000000) a where a.value < 0"));
                return "an answer";
            } catch (SQLException e) {
                return e.getSQLState();
            }
        });
        check(mode + "what is only read", "25006", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.executeUpdate("delete from books");
                return "done";
            } catch (SQLException e) {
                return e.getSQLState();
            }
        });
        check(mode + "validity", true, () -> connection.isValid(5));
        check(mode + "settings", "lake", () -> {
            connection.setReadOnly(true);
            connection.setClientInfo("ApplicationName", "tour");
            return connection.getSchema();
        });
    }
}
