/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Connections by libmariadb, which speaks to both makes of server. */
#include "connection.h"

#include <ctype.h>
#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <errmsg.h>
#include <mysql.h>
#include <mysqld_error.h>

#include "base/secret.h"
#include "option_file.h"

/* MySQL's number; MariaDB's header has another for the same. */
#define ER_MYSQL_ACCOUNT_HAS_BEEN_LOCKED 3118

enum { CONNECT_SECONDS = 10, ANSWER_SECONDS = 60 };

struct kr_server_conn {
    MYSQL *mysql;
    char *where; /* "/run/mysqld/mysqld.sock", "db1 port 3306" */
    char *name;
    struct kr_server_info info;
    unsigned last_errno;
};

/* --- where to -----------------------------------------------------------------------------------
 */

struct route {
    struct kr_option_file file;
    const char *socket; /* NULL: host and port */
    const char *host, *user, *password;
    unsigned port;
    char *own_password; /* secret memory */
};

static void route_cleanup(struct route *route)
{
    kr_option_file_cleanup(&route->file);
    kr_secret_free(route->own_password);
}
#define ROUTE __attribute__((cleanup(route_cleanup))) struct route

static enum kr_status fail_spec(const char *spec, struct kr_error *err)
{
    kr_hint(err, "--server names the server's socket, or an option file with a [client] group; is "
                 "the server running?");
    kr_error_context(err, "server %s", spec);
    return err->status;
}

/* As the servers' clients have it: "localhost" is the socket when there is one. */
static enum kr_status take_file(const char *spec, struct route *route, struct kr_error *err)
{
    KR_TRY(kr_option_file_read(spec, &route->file, err));
    const struct kr_option_file *file = &route->file;
    if (file->socket && (!file->host || strcmp(file->host, "localhost") == 0))
        route->socket = file->socket;
    else if (!file->host)
        return kr_fail(err, KR_CONFIG, "the [client] group of %s has neither a socket nor a host",
                       spec);
    route->host = file->host;
    route->user = file->user;
    route->password = file->password;
    char *end = NULL;
    unsigned long port = file->port ? strtoul(file->port, &end, 10) : 3306;
    if ((end && *end) || port == 0 || port > 65535)
        return kr_fail(err, KR_CONFIG, "the port in %s is no number from 1 to 65535", spec);
    route->port = (unsigned)port;
    return KR_OK;
}

static enum kr_status find_route(const char *spec, struct route *route, struct kr_error *err)
{
    struct stat st;

    if (stat(spec, &st) != 0) {
        kr_fail(err, KR_IO, "%s", strerror(errno));
        return fail_spec(spec, err);
    }
    if (S_ISSOCK(st.st_mode))
        route->socket = spec;
    else if (S_ISREG(st.st_mode))
        KR_TRY(take_file(spec, route, err));
    else {
        kr_fail(err, KR_USAGE, "this is neither a socket nor an option file");
        return fail_spec(spec, err);
    }
    if (!route->user) {
        const struct passwd *user = getpwuid(geteuid());
        route->user = user ? user->pw_name : NULL;
    }
    return KR_OK;
}

static enum kr_status find_password(struct route *route, const struct kr_server_options *options,
                                    struct kr_error *err)
{
    size_t len;

    if (route->password || !options->password)
        return KR_OK;
    if (kr_pin_source_read(options->password, &route->own_password, &len, err) != KR_OK) {
        kr_error_context(err, "password of the server");
        return err->status;
    }
    route->password = route->own_password;
    return KR_OK;
}

/* --- errors ----------------------------------------------------------------------------------- */

static enum kr_status class_of(unsigned number)
{
    switch (number) {
    case ER_ACCESS_DENIED_ERROR:
    case ER_ACCESS_DENIED_NO_PASSWORD_ERROR:
    case ER_HOST_NOT_PRIVILEGED:
    case ER_MUST_CHANGE_PASSWORD:
    case ER_ACCOUNT_HAS_BEEN_LOCKED:
    case ER_MYSQL_ACCOUNT_HAS_BEEN_LOCKED:
        return KR_AUTH;
    case ER_DBACCESS_DENIED_ERROR:
    case ER_TABLEACCESS_DENIED_ERROR:
    case ER_SPECIFIC_ACCESS_DENIED_ERROR:
        return KR_REFUSED;
    default:
        return KR_IO;
    }
}

static bool is_lost(unsigned number)
{
    return number == CR_SERVER_GONE_ERROR || number == CR_SERVER_LOST ||
           number == CR_SERVER_LOST_EXTENDED || number == ER_SERVER_SHUTDOWN ||
           number == ER_CONNECTION_KILLED;
}

/* The library's text ends with the system's error number in parentheses; over TCP it is of no
 * use. */
static bool nobody_listens(const char *text, unsigned number)
{
    const char *cause = strrchr(text, '(');
    int system_error = cause ? atoi(cause + 1) : 0;

    return number == CR_CONNECTION_ERROR &&
           (system_error == ECONNREFUSED || system_error == ENOENT);
}

static void set_hint(struct kr_error *err, unsigned number)
{
    if (is_lost(number))
        kr_hint(err, "see the server's error log, and run the same command again when it serves");
    else if (err->status == KR_AUTH)
        kr_hint(err, "check the account in the option file and where its password comes from: "
                     "password there, or --password-source");
    else if (err->status == KR_REFUSED)
        kr_hint(err, "connect as an account with that privilege");
    else if (number == CR_SSL_CONNECTION_ERROR)
        kr_hint(err, "over TCP this tool wants TLS and a certificate for this host name: name the "
                     "server's CA with ssl-ca in the option file, or use its socket");
    else if (number == CR_AUTH_PLUGIN_CANNOT_LOAD)
        kr_hint(err, "install libmariadb's plugins, or use an account with another way to log in");
    else if (number >= CR_MIN_ERROR && number <= CR_MAX_ERROR)
        kr_hint(err, "is the server running, and is this where it listens?");
}

/* What a server says may be anything. */
static enum kr_status fail_mysql(struct kr_server_conn *conn, struct kr_error *err)
{
    char text[512];

    conn->last_errno = mysql_errno(conn->mysql);
    snprintf(text, sizeof text, "%s", mysql_error(conn->mysql));
    for (char *c = text; *c; c++)
        if (iscntrl((unsigned char)*c))
            *c = '?';
    bool no_server = nobody_listens(text, conn->last_errno);
    kr_fail(err, no_server ? KR_NOT_FOUND : class_of(conn->last_errno), "%s: %s (%u)",
            conn->info.name ? conn->info.name : conn->where, text, conn->last_errno);
    set_hint(err, conn->last_errno);
    return err->status;
}

/* --- connecting ---------------------------------------------------------------------------------
 */

static enum kr_status set_options(struct kr_server_conn *conn, const struct route *route,
                                  const struct kr_server_options *options, struct kr_error *err)
{
    const unsigned connect = options->connect_seconds ? options->connect_seconds : CONNECT_SECONDS;
    const unsigned answer = options->answer_seconds ? options->answer_seconds : ANSWER_SECONDS;
    const unsigned no = 0;
    const my_bool yes = 1;
    const struct kr_option_file *file = &route->file;
    int bad = mysql_options(conn->mysql, MYSQL_OPT_CONNECT_TIMEOUT, &connect) |
              mysql_options(conn->mysql, MYSQL_OPT_READ_TIMEOUT, &answer) |
              mysql_options(conn->mysql, MYSQL_OPT_WRITE_TIMEOUT, &answer) |
              mysql_options(conn->mysql, MYSQL_OPT_LOCAL_INFILE, &no) |
              mysql_options(conn->mysql, MYSQL_SET_CHARSET_NAME, "utf8mb4") |
              mysql_options(conn->mysql, MYSQL_INIT_COMMAND, "SET SESSION sql_mode = ''");

    if (!route->socket) {
        mysql_ssl_set(conn->mysql, file->ssl_key, file->ssl_cert, file->ssl_ca, file->ssl_capath,
                      NULL);
        /* The first alone would go on without TLS where the server has none. */
        bad |= mysql_options(conn->mysql, MYSQL_OPT_SSL_ENFORCE, &yes) |
               mysql_options(conn->mysql, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &yes);
    }
    return bad ? kr_fail(err, KR_INTERNAL, "libmariadb refuses an option") : KR_OK;
}

/* The client library keeps a copy for a reconnect, and what it sent. */
static void wipe_password(MYSQL *mysql)
{
    if (mysql->passwd)
        kr_wipe(mysql->passwd, strlen(mysql->passwd));
    if (mysql->net.buff)
        kr_wipe(mysql->net.buff, (size_t)(mysql->net.buff_end - mysql->net.buff));
}

static enum kr_status identify(struct kr_server_conn *conn, struct kr_error *err)
{
    const char *release = mysql_get_server_info(conn->mysql);
    unsigned long version = mysql_get_server_version(conn->mysql);
    bool mariadb = mariadb_connection(conn->mysql);

    if (asprintf(&conn->name, "%s %lu.%lu.%lu at %s", mariadb ? "MariaDB" : "MySQL",
                 version / 10000, version / 100 % 100, version % 100, conn->where) < 0) {
        conn->name = NULL;
        return kr_fail_memory(err);
    }
    conn->info = (struct kr_server_info){
        .make = mariadb ? KR_SERVER_MARIADB : KR_SERVER_MYSQL,
        .version = (unsigned)version,
        .release = release,
        .name = conn->name,
    };
    return KR_OK;
}

static enum kr_status dial(struct kr_server_conn *conn, const struct route *route,
                           const struct kr_server_options *options, struct kr_error *err)
{
    int len = route->socket ? asprintf(&conn->where, "%s", route->socket)
                            : asprintf(&conn->where, "%s port %u", route->host, route->port);

    if (len < 0) {
        conn->where = NULL;
        return kr_fail_memory(err);
    }
    conn->mysql = mysql_init(NULL);
    if (!conn->mysql)
        return kr_fail_memory(err);
    KR_TRY(set_options(conn, route, options, err));
    MYSQL *up = mysql_real_connect(conn->mysql, route->socket ? NULL : route->host, route->user,
                                   route->password, NULL, route->port, route->socket, 0);
    if (!up)
        return fail_mysql(conn, err);
    wipe_password(conn->mysql);
    return identify(conn, err);
}

enum kr_status kr_server_connect(const char *spec, const struct kr_server_options *options,
                                 struct kr_server_conn **ret, struct kr_error *err)
{
    ROUTE route = {.port = 0};

    KR_TRY(find_route(spec, &route, err));
    KR_TRY(find_password(&route, options, err));
    KR_SERVER conn = calloc(1, sizeof *conn);
    if (!conn)
        return kr_fail_memory(err);
    KR_TRY(dial(conn, &route, options, err));
    *ret = conn;
    conn = NULL;
    return KR_OK;
}

void kr_server_close(struct kr_server_conn *conn)
{
    if (!conn)
        return;
    if (conn->mysql)
        mysql_close(conn->mysql);
    free(conn->where);
    free(conn->name);
    free(conn);
}

void kr_server_cleanup(struct kr_server_conn **conn)
{
    kr_server_close(*conn);
}

const struct kr_server_info *kr_server_info(const struct kr_server_conn *conn)
{
    return &conn->info;
}

/* --- statements ------------------------------------------------------------------------------- */

static enum kr_status each_row(MYSQL_RES *result, kr_server_row row, void *context,
                               struct kr_error *err)
{
    MYSQL_ROW columns;
    enum kr_status status = KR_OK;

    while (status == KR_OK && row && (columns = mysql_fetch_row(result)) != NULL)
        status = row((const char *const *)columns, context, err);
    return status;
}

enum kr_status kr_server_query(struct kr_server_conn *conn, const char *statement,
                               kr_server_row row, void *context, struct kr_error *err)
{
    conn->last_errno = 0;
    if (mysql_query(conn->mysql, statement) != 0)
        return fail_mysql(conn, err);
    MYSQL_RES *result = mysql_store_result(conn->mysql);
    if (!result)
        return mysql_errno(conn->mysql) ? fail_mysql(conn, err) : KR_OK;
    enum kr_status status = each_row(result, row, context, err);
    mysql_free_result(result);
    return status;
}

enum kr_status kr_server_run(struct kr_server_conn *conn, struct kr_error *err, const char *fmt,
                             ...)
{
    char *statement = NULL;
    va_list args;

    va_start(args, fmt);
    int len = vasprintf(&statement, fmt, args);
    va_end(args);
    if (len < 0)
        return kr_fail_memory(err);
    enum kr_status status = kr_server_query(conn, statement, NULL, NULL, err);
    free(statement);
    return status;
}

struct value {
    char *text;
    size_t size;
    bool seen;
};

static enum kr_status take_value(const char *const *columns, void *context, struct kr_error *err)
{
    struct value *value = context;
    const char *text = columns[0] ? columns[0] : "";

    if (value->seen)
        return KR_OK;
    if (strlen(text) >= value->size)
        return kr_fail(err, KR_INTERNAL, "the server's answer is longer than %zu bytes",
                       value->size - 1);
    strcpy(value->text, text);
    value->seen = true;
    return KR_OK;
}

enum kr_status kr_server_value(struct kr_server_conn *conn, const char *statement, char *ret,
                               size_t size, struct kr_error *err)
{
    struct value value = {ret, size, false};

    KR_TRY(kr_server_query(conn, statement, take_value, &value, err));
    if (value.seen)
        return KR_OK;
    return kr_fail(err, KR_NOT_FOUND, "%s: nothing is answered to %s", conn->name, statement);
}

unsigned kr_server_errno(const struct kr_server_conn *conn)
{
    return conn->last_errno;
}

bool kr_server_quote(const char *text, char quote, char *ret, size_t size)
{
    size_t used = 0;

    if (size < 3)
        return false;
    ret[used++] = quote;
    for (; *text; text++) {
        if (used + 4 > size)
            return false;
        if (*text == quote || (*text == '\\' && quote == '\''))
            ret[used++] = *text;
        ret[used++] = *text;
    }
    ret[used++] = quote;
    ret[used] = '\0';
    return true;
}

/* --- one tool at a time ----------------------------------------------------------------------- */

enum kr_status kr_server_lock(struct kr_server_conn *conn, const char *name, struct kr_error *err)
{
    char quoted[128], statement[192], answer[8];

    if (!kr_server_quote(name, '\'', quoted, sizeof quoted))
        return kr_fail(err, KR_INTERNAL, "the lock's name is too long");
    snprintf(statement, sizeof statement, "SELECT GET_LOCK(%s, 0)", quoted);
    KR_TRY(kr_server_value(conn, statement, answer, sizeof answer, err));
    if (strcmp(answer, "1") == 0)
        return KR_OK;
    kr_fail(err, KR_REFUSED, "%s: another p11keyring is at work there", conn->name);
    kr_hint(err, "wait until it has ended; SHOW PROCESSLIST shows its connection");
    return err->status;
}
