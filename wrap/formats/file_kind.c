/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The table of kinds and how each is told. */
#include "formats/file_kind.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "formats/key_list.h"

struct head {
    const uint8_t *bytes;
    size_t len;
    uint64_t size;
    const char *name;
};

static uint32_t number(const struct head *head, size_t at, size_t bytes)
{
    return at + bytes <= head->len ? (uint32_t)kr_get_number(head->bytes + at, bytes) : 0;
}

static bool has_text(const struct head *head, size_t at, const char *text)
{
    size_t len = strlen(text);
    return at + len <= head->len && memcmp(head->bytes + at, text, len) == 0;
}

/* Somewhere in the first bytes. */
static bool mentions(const struct head *head, size_t within, const char *text)
{
    return memmem(head->bytes, head->len < within ? head->len : within, text, strlen(text)) != NULL;
}

static bool name_ends(const struct head *head, const char *end)
{
    size_t len = strlen(head->name), end_len = strlen(end);
    return len >= end_len && strcasecmp(head->name + len - end_len, end) == 0;
}

/* "ibdata1": this word, then digits alone. */
static bool is_numbered(const struct head *head, const char *word)
{
    size_t len = strlen(word), digits;
    if (strncmp(head->name, word, len) != 0)
        return false;
    digits = strspn(head->name + len, "0123456789");
    return digits > 0 && head->name[len + digits] == '\0';
}

/* Four bytes of magic; one of them may be damaged where the name ends in a log's number. */
static bool has_log_magic(const struct head *head, const char magic[4])
{
    const char *dot = strrchr(head->name, '.');
    unsigned right = 0;
    for (size_t i = 0; i < 4 && i < head->len; i++)
        right += head->bytes[i] == (uint8_t)magic[i];
    return right == 4 || (right == 3 && dot && strspn(dot + 1, "0123456789") >= 6);
}

/* --- ours, and key files ---------------------------------------------------------------------- */

static bool is_empty(const struct head *head)
{
    return head->size == 0;
}

static bool is_keystore(const struct head *head)
{
    return has_text(head, 0, "SQLite format 3") && has_text(head, 68, "P11E");
}

static bool is_key_list(const struct head *head)
{
    return kr_key_list_parse((const char *)head->bytes, head->len, head->len == head->size, NULL,
                             NULL);
}

static bool is_salted(const struct head *head)
{
    return has_text(head, 0, "Salted__");
}

static bool is_keyring_json(const struct head *head)
{
    return has_text(head, 0, "{") && mentions(head, 256, "\"elements\"") &&
           mentions(head, 256, "\"version\"");
}

static bool is_keyring_plugin(const struct head *head)
{
    return has_text(head, 0, "Keyring file version:");
}

/* --- InnoDB ----------------------------------------------------------------------------------- */

enum {
    PAGE_NUMBER_AT = 4,
    SERVER_VERSION_AT = 8, /* MySQL's; the neighbour's number in any other page */
    SPACE_VERSION_AT = 12,
    PAGE_TYPE_AT = 24,
    SPACE_ID_AT = 34,
    HEADER_SPACE_ID_AT = 38,
    FLAGS_AT = 54,
    TYPE_SPACE_HEADER = 8,
    FLAG_FULL_CRC32 = 0x10,       /* MariaDB's; no value of MySQL has this bit */
    FLAGS_MYSQL = 0x2000 | 0x4000 /* encryption, dictionary; MariaDB keeps them zero */
};

/* A name that says so makes up for one mark that is damaged. */
static bool is_space_header(const struct head *head)
{
    int marks = (number(head, PAGE_NUMBER_AT, 4) == 0) +
                (number(head, PAGE_TYPE_AT, 2) == TYPE_SPACE_HEADER) +
                (number(head, SPACE_ID_AT, 4) == number(head, HEADER_SPACE_ID_AT, 4));
    return head->len >= 512 && (marks == 3 || (marks == 2 && name_ends(head, ".ibd")));
}

/* Its first page may be damaged: the name says what it should be. But a temporary one is zeros
 * until its server, whichever that is, writes to it. */
static bool is_named_as_space(const struct head *head)
{
    return head->len >= 512 &&
           (name_ends(head, ".ibd") || name_ends(head, ".ibu") || is_numbered(head, "ibdata") ||
            is_numbered(head, "undo") || is_numbered(head, "undo_") ||
            (is_numbered(head, "ibtmp") && !kr_is_zero(head->bytes, head->len)));
}

/* MySQL keeps its version where MariaDB has zeroes or ones; what one damaged byte does to the flags
 * does not make it a tablespace of the other server. */
static bool is_of_mysql(const struct head *head)
{
    uint32_t flags = number(head, FLAGS_AT, 4), version = number(head, SERVER_VERSION_AT, 4);
    if (version >= 80000 && version < 1000000 && number(head, SPACE_VERSION_AT, 4) == 1)
        return true;
    return (flags & FLAGS_MYSQL) && !(flags & FLAG_FULL_CRC32);
}

static bool is_mysql_tablespace(const struct head *head)
{
    return (is_space_header(head) || is_named_as_space(head)) && is_of_mysql(head);
}

static bool is_mariadb_tablespace(const struct head *head)
{
    return (is_space_header(head) || is_named_as_space(head)) && !is_of_mysql(head);
}

static bool is_doublewrite(const struct head *head)
{
    return name_ends(head, ".dblwr") || name_ends(head, ".bdblwr");
}

enum {
    REDO_CREATOR_AT = 16,
    REDO_FORMAT_PHYS = 0x50485953,
    REDO_FORMAT_10_8 = 0x50687973,
    REDO_FORMAT_10_8_ENCRYPTED = 0x709f979d /* without its top bit */
};

static bool is_mysql_redo(const struct head *head)
{
    return is_numbered(head, "#ib_redo") ||
           (number(head, 0, 4) >= 1 && number(head, 0, 4) < 64 &&
            (has_text(head, REDO_CREATOR_AT, "MySQL ") ||
             has_text(head, REDO_CREATOR_AT, "Log "))); /* "Log resized by", "Log cleared" */
}

static bool is_mariadb_delta(const struct head *head)
{
    return (has_text(head, 0, "xtra") || has_text(head, 0, "XTRA")) && name_ends(head, ".delta");
}

static bool is_mariadb_redo(const struct head *head)
{
    uint32_t format = number(head, 0, 4) & 0x7fffffff; /* the top bit says: encrypted */
    return format == REDO_FORMAT_PHYS || format == REDO_FORMAT_10_8 ||
           format == REDO_FORMAT_10_8_ENCRYPTED ||
           (format >= 1 && format < 128 &&
            (has_text(head, REDO_CREATOR_AT, "MariaDB") ||
             has_text(head, REDO_CREATOR_AT, "Backup ")));
}

/* --- binary logs ------------------------------------------------------------------------------ */

/* The server's version in the first event: 4 of magic, 19 of the event's header, 2 of version. */
enum { BINLOG_SERVER_AT = 25, BINLOG_SERVER_BYTES = 50 };

/* What an encrypted log of MySQL has in its head, whatever its magic has become. */
static bool names_binlog_key(const struct head *head)
{
    return has_text(head, 7, "MySQLReplicationKey_");
}

static bool is_binlog(const struct head *head)
{
    return head->len > 0 && head->bytes[0] != 0xfd && !names_binlog_key(head) &&
           has_log_magic(head, "\xfe"
                               "bin");
}

static bool is_mariadb_binlog(const struct head *head)
{
    return is_binlog(head) && mentions(head, BINLOG_SERVER_AT + BINLOG_SERVER_BYTES, "MariaDB");
}

static bool is_mysql_binlog_encrypted(const struct head *head)
{
    return head->len > 0 && (head->bytes[0] == 0xfd || names_binlog_key(head)) &&
           has_log_magic(head, "\xfd"
                               "bin");
}

static bool is_transfer(const struct head *head)
{
    return head->size == 100 && name_ends(head, ".cfp");
}

/* --- Aria ------------------------------------------------------------------------------------- */

static bool is_aria_data(const struct head *head)
{
    return name_ends(head, ".MAD");
}

static bool is_aria_index(const struct head *head)
{
    return has_text(head, 0, "\xfe\xfe\x09") || name_ends(head, ".MAI");
}

static bool is_aria_log(const struct head *head)
{
    return has_text(head, 0, "\xfe\xfe\x0b") || is_numbered(head, "aria_log.");
}

static bool is_aria_control(const struct head *head)
{
    return has_text(head, 0, "\xfe\xfe\x0c") || strcmp(head->name, "aria_log_control") == 0;
}

/* --- of no engine -------------------------------------------------------------------------------
 */

static bool is_table_definition(const struct head *head)
{
    return name_ends(head, ".frm") &&
           (has_text(head, 0, "\xfe\x01") || has_text(head, 0, "TYPE=VIEW"));
}

static bool is_database_options(const struct head *head)
{
    return strcmp(head->name, "db.opt") == 0 && has_text(head, 0, "default-c");
}

bool kr_file_kind_is_bare(enum kr_file_kind kind)
{
    return kind == KR_FILE_TABLE_DEFINITION || kind == KR_FILE_DATABASE_OPTIONS;
}

/* --- the table -------------------------------------------------------------------------------- */

#define OURS "p11keyring"
#define MYSQL "MySQL"
#define MARIADB "MariaDB"

static const struct {
    const char *tag, *name, *server;
    bool (*fits)(const struct head *head);
} kinds[KR_FILE_KINDS] = {
    [KR_FILE_UNKNOWN] = {"unknown", "unknown", NULL, NULL},
    [KR_FILE_EMPTY] = {"empty", "empty", NULL, is_empty},
    [KR_FILE_KEYSTORE] = {"keystore", "p11keyring keystore", OURS, is_keystore},
    [KR_FILE_KEY_LIST] = {"mariadb-key-file", "MariaDB key file", MARIADB, is_key_list},
    [KR_FILE_KEY_LIST_ENCRYPTED] = {"mariadb-key-file-encrypted",
                                    "encrypted key file (openssl enc)", MARIADB, is_salted},
    [KR_FILE_MYSQL_KEYRING_JSON] = {"mysql-keyring-component", "MySQL keyring (component)", MYSQL,
                                    is_keyring_json},
    [KR_FILE_MYSQL_KEYRING_PLUGIN] = {"mysql-keyring-plugin", "MySQL keyring (plugin)", MYSQL,
                                      is_keyring_plugin},
    [KR_FILE_MYSQL_TABLESPACE] = {"mysql-tablespace", "MySQL tablespace", MYSQL,
                                  is_mysql_tablespace},
    [KR_FILE_MYSQL_DOUBLEWRITE] = {"mysql-doublewrite", "MySQL doublewrite", MYSQL, is_doublewrite},
    [KR_FILE_MYSQL_REDO] = {"mysql-redo", "MySQL redo log", MYSQL, is_mysql_redo},
    [KR_FILE_MARIADB_BINLOG] = {"mariadb-binlog", "MariaDB binary log", MARIADB, is_mariadb_binlog},
    [KR_FILE_MYSQL_BINLOG] = {"mysql-binlog", "MySQL binary log", MYSQL, is_binlog},
    [KR_FILE_MYSQL_BINLOG_ENCRYPTED] = {"mysql-binlog-encrypted", "MySQL binary log", MYSQL,
                                        is_mysql_binlog_encrypted},
    [KR_FILE_MYSQL_TRANSFER] = {"mysql-transfer-key", "MySQL transfer key", MYSQL, is_transfer},
    [KR_FILE_MARIADB_TABLESPACE] = {"mariadb-tablespace", "MariaDB tablespace", MARIADB,
                                    is_mariadb_tablespace},
    [KR_FILE_MARIADB_DELTA] = {"mariadb-delta", "MariaDB incremental backup", MARIADB,
                               is_mariadb_delta},
    [KR_FILE_MARIADB_REDO] = {"mariadb-redo", "MariaDB redo log", MARIADB, is_mariadb_redo},
    [KR_FILE_ARIA_DATA] = {"aria-data", "Aria data", MARIADB, is_aria_data},
    [KR_FILE_ARIA_INDEX] = {"aria-index", "Aria index", MARIADB, is_aria_index},
    [KR_FILE_ARIA_LOG] = {"aria-log", "Aria log", MARIADB, is_aria_log},
    [KR_FILE_ARIA_CONTROL] = {"aria-control", "Aria control file", MARIADB, is_aria_control},
    [KR_FILE_TABLE_DEFINITION] = {"table-definition", "table definition", MARIADB,
                                  is_table_definition},
    [KR_FILE_DATABASE_OPTIONS] = {"database-options", "database options", MARIADB,
                                  is_database_options},
};

enum kr_file_kind kr_file_kind_of(const uint8_t *head, size_t len, uint64_t size, const char *name)
{
    const struct head start = {.bytes = head, .len = len, .size = size, .name = name};
    /* MariaDB's name stands in what else would be one of MySQL. */
    if (is_mariadb_binlog(&start))
        return KR_FILE_MARIADB_BINLOG;
    for (int kind = 0; kind < KR_FILE_KINDS; kind++)
        if (kinds[kind].fits && kinds[kind].fits(&start))
            return (enum kr_file_kind)kind;
    return KR_FILE_UNKNOWN;
}

const char *kr_file_kind_name(enum kr_file_kind kind)
{
    return kinds[kind].name;
}

const char *kr_file_kind_tag(enum kr_file_kind kind)
{
    return kinds[kind].tag;
}

const char *kr_file_kind_server(enum kr_file_kind kind)
{
    return kinds[kind].server;
}
