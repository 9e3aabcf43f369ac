/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The configuration file: what is read, and how each mistake is named. */
#include "base/config.h"
#include "base/versions.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static struct kr_config *load_good(const char *text)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_config *config = NULL;
    if (kr_config_load(scratch_text("good.conf", text, 0640), &config, &err) != KR_OK)
        fail_msg("refused: %s", err.text);
    return config;
}

static void every_option_is_read(void **state)
{
    (void)state;
    KR_CONFIG_OWNED struct kr_config *config =
        load_good("\xEF\xBB\xBF[token:hsm-1]\r\n"
                  "module = /usr/lib/m.so\r\n"
                  "uri=pkcs11:token=a%20b;serial=12\n"
                  "pin-source: file:/etc/pin ; a comment\n"
                  "# comment\n\n"
                  "[keyring] # another\n"
                  "  name = main.1\n"
                  "\tkeystore = /var/lib/k s.db\n"
                  "lock-timeout = 7s\npoll-interval = 250\nlock-memory = require\n"
                  "audit-log = /var/log/a u.log\naudit-policy = require\n"
                  "[mariadb]\ncipher = aes-ctr\nrotation-step = 5\nauto-create = yes\n"
                  "[mysql]\nmaster-keys = wrapped\nserver-versions = 8.4.3-8.4.7, 9.6\n"
                  "unverified-server = wrapped\n"
                  "[pkcs11]\ntimeout = 1500ms\nmechanism = aes-kwp");
    assert_string_equal(config->path, scratch_path("good.conf"));
    assert_string_equal(config->tokens[0].name, "hsm-1");
    assert_string_equal(config->tokens[0].module, "/usr/lib/m.so");
    assert_string_equal(config->tokens[0].uri, "pkcs11:token=a%20b;serial=12");
    assert_string_equal(config->tokens[0].pin_source, "file:/etc/pin");
    assert_string_equal(config->keyring.name, "main.1");
    assert_string_equal(config->keyring.keystore, "/var/lib/k s.db");
    assert_int_equal(config->keyring.lock_timeout_ms, 7000);
    assert_int_equal(config->keyring.poll_ms, 250);
    assert_int_equal(config->keyring.lock_memory, KR_LOCK_REQUIRE);
    assert_string_equal(config->keyring.audit_log, "/var/log/a u.log");
    assert_true(config->keyring.audit_required);
    assert_string_equal(config->mariadb.cipher, "aes-ctr");
    assert_int_equal(config->mariadb.rotation_step, 5);
    assert_true(config->mariadb.auto_create);
    assert_string_equal(config->mysql.master_keys, "wrapped");
    assert_string_equal(config->mysql.server_versions, "8.4.3-8.4.7, 9.6");
    assert_string_equal(config->mysql.unverified_server, "wrapped");
    assert_int_equal(config->pkcs11.timeout_ms, 1500);
    assert_string_equal(config->pkcs11.mechanism, "aes-kwp");
}

static void tokens_keep_their_order_and_options(void **state)
{
    (void)state;
    KR_CONFIG_OWNED struct kr_config *config =
        load_good("[token:near]\nmodule = /near.so\n[keyring]\nname = k\n"
                  "[token:far]\nmodule = /far.so\ninit-args = configdir='sql:/var/lib/nss' flags=\n"
                  "read-write-sessions = only\niv-by-token = yes\nrandom = none\n"
                  "rsa-pkcs = allowed\naes-gcm-code = 0x80001087\naes-kwp-code = 2147484017\n"
                  "[token:near]\nuri = pkcs11:token=near\n[pkcs11]\nsessions = 32\n");
    const struct kr_token_config *near = &config->tokens[0], *far = &config->tokens[1];
    assert_int_equal(config->token_count, 2);
    assert_string_equal(near->name, "near");
    assert_string_equal(near->module, "/near.so");
    assert_string_equal(near->uri, "pkcs11:token=near");
    assert_null(near->init_args);
    assert_false(near->read_write_sessions || near->iv_by_token || near->no_random);
    assert_false(near->rsa_pkcs);
    assert_int_equal(near->aes_gcm_code, 0);
    assert_string_equal(far->name, "far");
    assert_string_equal(far->module, "/far.so");
    assert_null(far->uri);
    assert_string_equal(far->init_args, "configdir='sql:/var/lib/nss' flags=");
    assert_true(far->read_write_sessions && far->iv_by_token && far->no_random);
    assert_true(far->rsa_pkcs);
    assert_int_equal(far->aes_gcm_code, 0x80001087);
    assert_int_equal(far->aes_kwp_code, 0x80000171);
    assert_int_equal(config->pkcs11.sessions, 32);
}

static void defaults_are_as_documented(void **state)
{
    (void)state;
    KR_CONFIG_OWNED struct kr_config *config = load_good("");
    assert_null(config->tokens[0].name);
    assert_null(config->tokens[0].module);
    assert_null(config->tokens[0].uri);
    assert_null(config->tokens[0].pin_source);
    assert_null(config->keyring.keystore);
    assert_string_equal(config->keyring.name, "default");
    assert_int_equal(config->keyring.lock_timeout_ms, 5000);
    assert_int_equal(config->keyring.poll_ms, 500);
    assert_int_equal(config->keyring.lock_memory, KR_LOCK_WARN);
    assert_null(config->keyring.audit_log);
    assert_false(config->keyring.audit_required);
    assert_string_equal(config->mariadb.cipher, "aes-cbc");
    assert_int_equal(config->mariadb.rotation_step, 2);
    assert_false(config->mariadb.auto_create);
    assert_string_equal(config->mysql.master_keys, "token");
    assert_string_equal(config->mysql.server_versions, "9.7");
    assert_string_equal(config->mysql.unverified_server, "refuse");
    assert_int_equal(config->pkcs11.timeout_ms, 10000);
    assert_string_equal(config->pkcs11.mechanism, "auto");
}

static const struct mistake {
    const char *text, *says, *hint; /* `says` begins with the line */
} mistakes[] = {
    {"[token:a]\nmodul = /x\n", ":2: unknown option \"modul\" in section [token]",
     "module, uri, pin-source"},
    {"[keyrings]\n", ":1: unknown section [keyrings]", "[token:NAME], [keyring], [mariadb]"},
    {"\r\xEF\xBB\xBF[keyrings]\n", ":1: unknown section [keyrings]", "[keyring]"},
    {" \xEF\xBB\xBF [token:a] module = /x\n", ":1: there is text after", "a line of its own"},
    {"\n\n[oracle]\nx = y\n", ":3: unknown section [oracle]", "[pkcs11]"},
    {"[token]\nmodule = /x\n", ":1: unknown section [token]", "[token:NAME]"},
    {"[token:]\n", ":1: the NAME", "1 to 32"},
    {"[token:a b]\n", ":1: the NAME", "1 to 32"},
    {"[token:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]\n", ":1: the NAME",
     "1 to 32"},
    {"[token:a]\n[token:b]\n[token:c]\n[token:d]\n[token:e]\n[token:f]\n[token:g]\n[token:h]\n"
     "[token:i]\n",
     ":9: [token:i] is one token too many", "at most 8"},
    {"[token:a]\nmodule=/x\n[token:b]\nmodule=/y\n[token:a]\nmodule=/z\n",
     ":6: module is given twice in section [token:a]", "remove one"},
    {"[token:a]\naes-kwp-code = KWP\n", ":2: aes-kwp-code is not the number", "0x80000171"},
    {"[token:a]\naes-gcm-code = 0x\n", ":2: aes-gcm-code is not the number", "vendor"},
    {"[token:a]\nread-write-sessions = yes\n", ":2: read-write-sessions has a value", "auto, only"},
    {"[keyring]\nstart-cache-lifetime = 31d\n",
     ":2: start-cache-lifetime is not a time from 1 s to", "90d"},
    {"[keyring]\nmaster-key-age = 1y\n", ":2: master-key-age is not a time", "s, m, h or d"},
    {"[keyring]\ndata-key-age = 365\n", ":2: data-key-age is not a time", "s, m, h or d"},
    {"[pkcs11]\nsessions = 0\n", ":2: sessions is not a number from 1 to 64", "= 8"},
    {"module = /x\n", ":1: there is an option before the first section", "[token:NAME]"},
    {"[keyring]\nname = a\n\nname = a\n", ":4: name is given twice", "remove one"},
    {"[keyring]\nname = a\n[mariadb]\n[keyring]\nname = b\n", ":5: name is given twice", "remove"},
    {"[keyring] name = a\n", ":1: there is text after the section's name", "a line of its own"},
    {"[keyring\nname = a\n", ":1: neither a [section] nor an option = value", "comments"},
    {"[keyring]\nkeystore /var/x\n", ":2: neither a [section] nor an option", "comments"},
    {"[keyring]\nnonsense\nwrong = 1\n", ":2: neither a [section] nor an option", "comments"},
    {"[keyring]\nwrong = 1\nnonsense\n", ":2: unknown option \"wrong\"", "name, keystore"},
    {"[keyring]\nkeystore =\n", ":2: keystore has no value", "remove the option"},
    {"[keyring]\nkeystore = ; later\n", ":2: keystore has no value", "remove the option"},
    {"[keyring]\nkeystore = var/x\n", ":2: keystore is not a full path", "starts with '/'"},
    {"[token:a]\nmodule = \"/x\"\n", ":2: module is not a full path", "without quotes"},
    {"[keyring]\nkeystore = /a\x01\n", ":2: keystore has a control character", "remove"},
    {"[keyring]\nname = a/b\n", ":2: name is not usable as a name", "1 to 64"},
    {"[keyring]\nlock-timeout = 9\n", ":2: lock-timeout is not a time from 10 ms to 600 s",
     "ms or s"},
    {"[keyring]\nlock-timeout = 601s\n", ":2: lock-timeout is not a time", "lock-timeout = 5s"},
    {"[keyring]\nlock-timeout = 5 s\n", ":2: lock-timeout is not a time", "ms or s"},
    {"[keyring]\nlock-timeout = -5\n", ":2: lock-timeout is not a time", "ms or s"},
    {"[keyring]\nlock-timeout = 18446744073709551626\n", ":2: lock-timeout is not", "ms or s"},
    {"[keyring]\nlock-timeout = 999999999s\n", ":2: lock-timeout is not", "ms or s"},
    {"[keyring]\npoll-interval = 1m\n", ":2: poll-interval is not a time", "500ms"},
    {"[keyring]\ndata-directories = /srv:data\n",
     ":2: data-directories has a path that is not full", "with ':' in between"},
    {"[keyring]\naudit-log = audit.log\n", ":2: audit-log is not a full path", "the word syslog"},
    {"[keyring]\naudit-policy = yes\n", ":2: audit-policy has a value that is not",
     "warn, require"},
    {"[keyring]\nlock-memory = yes\n", ":2: lock-memory has a value that is not", "warn, require"},
    {"[mariadb]\ncipher = aes-gcm\n", ":2: cipher has a value", "cipher: aes-cbc, aes-ctr"},
    {"[mariadb]\nrotation-step = 0\n", ":2: rotation-step is not a number from 1 to 65535", "= 2"},
    {"[mariadb]\nrotation-step = 2s\n", ":2: rotation-step is not a number", "plain number"},
    {"[mariadb]\nauto-create = 1\n", ":2: auto-create has a value", "no, yes"},
    {"[pkcs11]\nmechanism = rsa\n", ":2: mechanism has a value", "auto, aes-gcm, aes-kwp"},
    {"[token:a]\nuri = token=a\n", ":2: uri is not a PKCS#11 URI", "token list"},
    {"[token:a]\nuri = pkcs11:token=a\n  object=b\n", ":3: unknown option \"object\"", "uri"},
    {"[token:a]\npin-source = file:pin\n", ":2: pin-source: the PIN source file: needs a full path",
     "never the PIN"},
};

static void each_mistake_is_named_with_its_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        struct kr_error err = KR_ERROR_INIT;
        struct kr_config *config = NULL;
        const char *path = scratch_text("bad.conf", mistakes[i].text, 0600);
        if (kr_config_load(path, &config, &err) != KR_CONFIG)
            fail_msg("accepted: %s", mistakes[i].text);
        assert_null(config);
        assert_memory_equal(err.text, path, strlen(path));
        assert_memory_equal(err.text + strlen(path), ":", 1);
        assert_error(&err, KR_CONFIG, mistakes[i].says, mistakes[i].hint);
    }
}

static void a_pin_in_the_wrong_place_is_refused_and_not_repeated(void **state)
{
    (void)state;
    const char *const forms[] = {"uri = pkcs11:token=a?pin-value=",
                                 "uri = pkcs11:token=a?PIN-VALUE=",
                                 "pin-source = ",
                                 "pin-source = pin:",
                                 "pin = ",
                                 "uri = ",
                                 "module = "};
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        char pin[SCRATCH_PIN_BYTES], text[160];
        scratch_pin(pin);
        snprintf(text, sizeof(text), "[token:a]\n%s%s\n", forms[i], pin);
        struct kr_error err = KR_ERROR_INIT;
        struct kr_config *config = NULL;
        assert_int_equal(kr_config_load(scratch_text("pin.conf", text, 0600), &config, &err),
                         KR_CONFIG);
        assert_non_null(strstr(text, pin));
        assert_null(strstr(err.text, pin));
        assert_null(strstr(err.hint, pin));
        if (i < 2)
            assert_error(&err, KR_CONFIG, "holds a PIN (pin-value)", "pin-source = file:");
    }
}

/* inih reads lines into 200 bytes; a longer one must neither be cut nor split. */
static void a_long_line_is_read_whole_or_refused(void **state)
{
    (void)state;
    int read = 0, refused = 0;
    for (size_t len = 150; len < 450; len++) {
        char path[512], text[600];
        memset(path, 'x', len);
        path[0] = '/';
        path[len] = '\0';
        snprintf(text, sizeof(text), "[keyring]\nkeystore = %s\nname = after%s", path,
                 len % 2 ? "\n" : "");
        struct kr_error err = KR_ERROR_INIT;
        KR_CONFIG_OWNED struct kr_config *config = NULL;
        if (kr_config_load(scratch_text("long.conf", text, 0600), &config, &err) == KR_OK) {
            assert_string_equal(config->keyring.keystore, path);
            assert_string_equal(config->keyring.name, "after");
            read++;
        } else {
            assert_error(&err, KR_CONFIG, ":2: the line is longer than 198 characters", "shorten");
            refused++;
        }
    }
    assert_int_equal(read, 198 - 11 - 150 + 1);
    assert_int_equal(refused, 300 - read);
}

static void long_comments_and_nul_bytes(void **state)
{
    (void)state;
    char text[4096];
    memset(text, '#', sizeof(text));
    memcpy(text + sizeof(text) - 20, "\n[keyring]\nname = a\n", 20);
    struct kr_error err = KR_ERROR_INIT;
    KR_CONFIG_OWNED struct kr_config *config = NULL;
    const char *path = scratch_write("long.conf", text, sizeof(text) - 1, 0600);
    assert_int_equal(kr_config_load(path, &config, &err), KR_OK);
    assert_string_equal(config->keyring.name, "a");
    struct kr_config *none = NULL;
    path = scratch_write("nul.conf", "[keyring]\nname = a\0b\n", 21, 0600);
    assert_int_equal(kr_config_load(path, &none, &err), KR_CONFIG);
    assert_error(&err, KR_CONFIG, ":2: the line has a NUL byte", "plain text");
}

static void file_must_be_safe_to_trust(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_config *config = NULL;
    const mode_t open_modes[] = {0620, 0602, 0666};
    for (size_t i = 0; i < 3; i++) {
        const char *path = scratch_text("open.conf", "", open_modes[i]);
        assert_int_equal(kr_config_load(path, &config, &err), KR_CONFIG);
        assert_error(&err, KR_CONFIG, "can be changed by others (mode 0", "chmod go-w /tmp/");
    }
    assert_int_equal(kr_config_load("/tmp", &config, &err), KR_CONFIG);
    assert_error(&err, KR_CONFIG, "/tmp is not a regular file", "p11keyring.conf");
    assert_int_equal(mkfifo(scratch_path("fifo"), 0600), 0);
    assert_int_equal(kr_config_load(scratch_path("fifo"), &config, &err), KR_CONFIG);
    assert_error(&err, KR_CONFIG, "is not a regular file", "");
    static char large[64 * 1024 + 1];
    memset(large, '\n', sizeof(large));
    const char *path = scratch_write("large.conf", large, sizeof(large), 0600);
    assert_int_equal(kr_config_load(path, &config, &err), KR_CONFIG);
    assert_error(&err, KR_CONFIG, "larger than 65536 bytes", "");
    assert_null(config);
}

static void a_named_file_must_exist_and_the_argument_wins(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_config *config = NULL;
    assert_int_equal(kr_config_load(scratch_path("absent"), &config, &err), KR_CONFIG);
    assert_error(&err, KR_CONFIG, "No such file", KR_CONFIG_ENV);
    setenv(KR_CONFIG_ENV, scratch_path("absent"), 1);
    assert_int_equal(kr_config_load(NULL, &config, &err), KR_CONFIG);
    assert_error(&err, KR_CONFIG, "/absent: No such file", KR_CONFIG_ENV);
    const char *path = scratch_text("named.conf", "[keyring]\nname = named\n", 0600);
    assert_int_equal(kr_config_load(path, &config, &err), KR_OK);
    kr_config_free(config);
    setenv(KR_CONFIG_ENV, path, 1);
    assert_int_equal(kr_config_load(NULL, &config, &err), KR_OK);
    assert_string_equal(config->keyring.name, "named");
    kr_config_free(config);
    unsetenv(KR_CONFIG_ENV);
}

static void an_override_is_checked_and_wins(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    KR_CONFIG_OWNED struct kr_config *config = load_good("[keyring]\nkeystore = /a\n");
    assert_int_equal(kr_config_override(config, "keyring", "keystore", "/b", &err), KR_OK);
    assert_int_equal(kr_config_override(config, "keyring", "keystore", "/c", &err), KR_OK);
    assert_string_equal(config->keyring.keystore, "/c");
    assert_int_equal(kr_config_override(config, "keyring", "keystore", "d", &err), KR_CONFIG);
    assert_error(&err, KR_CONFIG, "keystore is not a full path", "'/'");
    assert_string_equal(config->keyring.keystore, "/c");
    assert_int_equal(kr_config_override(config, "token", "pin", "1", &err), KR_CONFIG);
    assert_error(&err, KR_CONFIG, "unknown option \"pin\"", "pin-source");
    assert_int_equal(kr_config_override(config, "tokens", "pin", "1", &err), KR_CONFIG);
    assert_error(&err, KR_CONFIG, "unknown section [tokens]", "[keyring]");
    assert_null(config->tokens[0].name);
    assert_int_equal(kr_config_override(config, "token", "module", "/m.so", &err), KR_OK);
    assert_string_equal(config->tokens[0].name, "default");
}

static void what_is_missing_is_named(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    KR_CONFIG_OWNED struct kr_config *config = load_good("");
    assert_int_equal(kr_config_require(config, &err), KR_CONFIG);
    assert_error(&err, KR_CONFIG, "no PKCS#11 module is configured", "`module = ");
    assert_int_equal(kr_config_override(config, "token", "module", "/m.so", &err), KR_OK);
    assert_int_equal(kr_config_require(config, &err), KR_CONFIG);
    assert_error(&err, KR_CONFIG, "no token URI is configured", "good.conf");
    assert_int_equal(kr_config_override(config, "token", "uri", "pkcs11:token=a", &err), KR_OK);
    assert_int_equal(kr_config_require(config, &err), KR_CONFIG);
    assert_error(&err, KR_CONFIG, "no keystore is configured", "[keyring]");
    assert_int_equal(kr_config_override(config, "keyring", "keystore", "/k", &err), KR_OK);
    assert_int_equal(kr_config_require(config, &err), KR_OK);
}

/* The shipped example as it is, and with every commented option switched on. */
static void the_example_is_true(void **state)
{
    (void)state;
    static char text[16384], all[16384];
    FILE *example = fopen(P11K_SOURCE_DIR "/docs/p11keyring.conf.example", "re");
    assert_non_null(example);
    size_t len = fread(text, 1, sizeof(text) - 1, example), kept = 0, switched_on = 0;
    fclose(example);
    KR_CONFIG_OWNED struct kr_config *as_it_is = load_good(text);
    struct kr_error err = KR_ERROR_INIT;
    assert_int_equal(kr_config_require(as_it_is, &err), KR_OK);
    for (size_t i = 0; i < len; i++) {
        bool option = text[i] == '#' && (i == 0 || text[i - 1] == '\n') && text[i + 1] >= 'a';
        switched_on += option;
        if (!option)
            all[kept++] = text[i];
    }
    KR_CONFIG_OWNED struct kr_config *with_all = load_good(all);
    assert_int_equal(switched_on, 29);
    KR_CONFIG_OWNED struct kr_config *defaults = load_good("");
    assert_string_equal(with_all->keyring.name, defaults->keyring.name);
    assert_int_equal(with_all->keyring.lock_timeout_ms, defaults->keyring.lock_timeout_ms);
    assert_int_equal(with_all->keyring.poll_ms, defaults->keyring.poll_ms);
    assert_int_equal(with_all->keyring.lock_memory, defaults->keyring.lock_memory);
    assert_int_equal(with_all->keyring.audit_required, defaults->keyring.audit_required);
    assert_string_equal(with_all->mariadb.cipher, defaults->mariadb.cipher);
    assert_int_equal(with_all->mariadb.rotation_step, defaults->mariadb.rotation_step);
    assert_int_equal(with_all->mariadb.auto_create, defaults->mariadb.auto_create);
    assert_string_equal(with_all->mysql.master_keys, defaults->mysql.master_keys);
    assert_string_equal(with_all->mysql.server_versions, defaults->mysql.server_versions);
    assert_string_equal(with_all->mysql.unverified_server, defaults->mysql.unverified_server);
    assert_int_equal(with_all->pkcs11.timeout_ms, defaults->pkcs11.timeout_ms);
    assert_string_equal(with_all->pkcs11.mechanism, defaults->pkcs11.mechanism);
}

static void server_versions_are_matched(void **state)
{
    (void)state;
    static const char *const lists[] = {"9.7", "9.7.0-9.7.99", "8.4.3-8.4.7, 9.7", "9.6-9.8", "9"};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        assert_true(kr_versions_valid(lists[i]));
        assert_true(kr_versions_include(lists[i], "9.7.4-0+deb13u1"));
        assert_false(kr_versions_include(lists[i], "8.4.8"));
        assert_false(kr_versions_include(lists[i], "10.9.7"));
    }
    assert_true(kr_versions_include("8.4.3-8.4.7", "8.4.7"));
    assert_false(kr_versions_include("8.4.3-8.4.7", "8.4.2"));
    assert_false(kr_versions_include("9.7.3", "9.7.30"));
    static const char *const unreadable[] = {"", "9.7", "a.b.c", "9.7.", "9.7.4444"};
    for (size_t i = 0; i < sizeof(unreadable) / sizeof(unreadable[0]); i++)
        assert_false(kr_versions_include("0-999", unreadable[i]));
    static const char *const bad[] = {"",      ",",       "9.x",   "9.7-",    "-9.7", "9.7.4.1",
                                      "9..7",  "9.8-9.7", "9.7;8", "1000.1",  "9.",   "all",
                                      "9.7-a", "9 . 7",   "9.7 x", "8.4, 9.y"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (kr_versions_valid(bad[i]))
            fail_msg("'%s' was taken", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_option_is_read),
        cmocka_unit_test(tokens_keep_their_order_and_options),
        cmocka_unit_test(defaults_are_as_documented),
        cmocka_unit_test(each_mistake_is_named_with_its_line),
        cmocka_unit_test(a_pin_in_the_wrong_place_is_refused_and_not_repeated),
        cmocka_unit_test(a_long_line_is_read_whole_or_refused),
        cmocka_unit_test(long_comments_and_nul_bytes),
        cmocka_unit_test(file_must_be_safe_to_trust),
        cmocka_unit_test(a_named_file_must_exist_and_the_argument_wins),
        cmocka_unit_test(an_override_is_checked_and_wins),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(the_example_is_true),
        cmocka_unit_test(server_versions_are_matched),
    };
    return cmocka_run_group_tests(tests, scratch_up, scratch_down);
}
