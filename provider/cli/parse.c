/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Command line: options before, between and after noun and verb. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* Values of `getopt_long` for option i; outside of the letters. */
#define OPTION_VALUE(i) (256 + (int)(i))

bool cli_flag(const struct cli *cli, enum cli_option option)
{
    return cli->values[option] != NULL;
}

static void getopt_tables(struct option *ret_long, char *ret_short)
{
    *ret_short++ = ':'; /* a missing value is told from an unknown option */
    for (size_t i = 0; i < OPT_COUNT; i++) {
        const struct cli_option_spec *spec = &cli_options[i];
        ret_long[i] = (struct option){spec->name, spec->value ? required_argument : no_argument,
                                      NULL, OPTION_VALUE(i)};
        if (!spec->letter)
            continue;
        *ret_short++ = spec->letter;
        if (spec->value)
            *ret_short++ = ':';
    }
    ret_long[OPT_COUNT] = (struct option){0};
    *ret_short = '\0';
}

static size_t option_index(int value)
{
    if (value >= OPTION_VALUE(0))
        return (size_t)(value - OPTION_VALUE(0));
    for (size_t i = 0; i < OPT_COUNT; i++)
        if (cli_options[i].letter == value)
            return i;
    return OPT_COUNT;
}

/* The value behind '=' is left out: it might be what somebody took for the place of a PIN. */
static enum kr_status fail_option(struct kr_error *err, const char *word, int what)
{
    int name_len = (int)strcspn(word, "=");

    if (what == ':')
        kr_fail(err, KR_USAGE, "option %.*s needs a value", name_len, word);
    else if (word[name_len] == '=' && optopt >= OPTION_VALUE(0))
        kr_fail(err, KR_USAGE, "option %.*s takes no value", name_len, word);
    else if (strncmp(word, "--", 2) == 0)
        kr_fail(err, KR_USAGE, "unknown option %.*s", name_len, word);
    else
        kr_fail(err, KR_USAGE, "unknown option -%c", optopt);
    kr_hint(err, "p11keyring --help lists commands and options");
    return KR_USAGE;
}

/* Those that may be given again and again; NULL: once. */
static struct cli_many *many_of(struct cli *cli, size_t option)
{
    switch (option) {
    case OPT_SERVER:
        return &cli->servers;
    case OPT_PASSWORD_SOURCE:
        return &cli->passwords;
    case OPT_SECOND_PASSWORD_SOURCE:
        return &cli->second_passwords;
    default:
        return NULL;
    }
}

static enum kr_status take_option(struct cli *cli, size_t option, struct kr_error *err)
{
    struct cli_many *many = many_of(cli, option);

    if (many) {
        if (many->count == CLI_MANY_MAX)
            return kr_fail(err, KR_USAGE, "--%s is given more than %d times",
                           cli_options[option].name, (int)CLI_MANY_MAX);
        many->at[many->count++] = optarg;
    } else if (cli->values[option] && cli_options[option].value) {
        return kr_fail(err, KR_USAGE, "option --%s is given twice", cli_options[option].name);
    }
    cli->values[option] = cli_options[option].value ? optarg : "";
    return KR_OK;
}

static enum kr_status parse_options(struct cli *cli, int argc, char **argv, struct kr_error *err)
{
    struct option longs[OPT_COUNT + 1];
    char shorts[2 * OPT_COUNT + 2];
    int value;

    getopt_tables(longs, shorts);
    opterr = 0;
    while ((value = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        if (value == '?' || value == ':')
            return fail_option(err, argv[optind - 1], value);
        KR_TRY(take_option(cli, option_index(value), err));
    }
    cli->args = argv + optind;
    cli->arg_count = argc - optind;
    return KR_OK;
}

static enum kr_status fail_verb(struct kr_error *err, const char *noun)
{
    char verbs[256] = "";

    for (const struct cli_command *c = cli_commands; c->noun; c++) {
        if (strcmp(c->noun, noun) != 0)
            continue;
        size_t used = strlen(verbs);
        snprintf(verbs + used, sizeof verbs - used, "%s%s", used ? ", " : "", c->verb);
    }
    if (!*verbs) {
        kr_fail(err, KR_USAGE, "unknown command");
        kr_hint(err, "p11keyring --help lists the commands");
        return KR_USAGE;
    }
    kr_fail(err, KR_USAGE, "%s needs one of these verbs: %s", noun, verbs);
    kr_hint(err, "p11keyring %s --help explains them", noun);
    return KR_USAGE;
}

/* Takes noun and verb off the front of cli->args. */
static enum kr_status find_command(struct cli *cli, struct kr_error *err)
{
    const char *noun = cli->arg_count > 0 ? cli->args[0] : NULL;
    const char *verb = cli->arg_count > 1 ? cli->args[1] : NULL;

    if (!noun) {
        kr_fail(err, KR_USAGE, "no command is given");
        kr_hint(err, "p11keyring --help lists the commands");
        return KR_USAGE;
    }
    for (const struct cli_command *c = cli_commands; c->noun; c++) {
        if (strcmp(c->noun, noun) != 0 || (c->verb && (!verb || strcmp(c->verb, verb) != 0)))
            continue;
        cli->command = c;
        cli->args += c->verb ? 2 : 1;
        cli->arg_count -= c->verb ? 2 : 1;
        return KR_OK;
    }
    return fail_verb(err, noun);
}

static enum kr_status check_usage(const struct cli *cli, struct kr_error *err)
{
    const struct cli_command *c = cli->command;
    const char *verb = c->verb ? c->verb : "";
    const char *gap = c->verb ? " " : "";

    for (size_t i = 0; i < OPT_COUNT; i++) {
        if (!cli->values[i] || ((cli_global_options | c->options) & CLI_BIT(i)))
            continue;
        kr_fail(err, KR_USAGE, "option --%s is not for %s%s%s", cli_options[i].name, c->noun, gap,
                verb);
        kr_hint(err, "p11keyring %s%s%s --help lists its options", c->noun, gap, verb);
        return KR_USAGE;
    }
    if (cli->arg_count >= c->min_args && cli->arg_count <= c->max_args)
        return KR_OK;
    if (c->max_args == 0)
        kr_fail(err, KR_USAGE, "%s%s%s takes no argument", c->noun, gap, verb);
    else
        kr_fail(err, KR_USAGE, "%s%s%s takes: %s", c->noun, gap, verb, c->arguments);
    kr_hint(err, "p11keyring %s%s%s --help explains it", c->noun, gap, verb);
    return KR_USAGE;
}

enum kr_status cli_parse(struct cli *cli, int argc, char **argv, struct kr_error *err)
{
    KR_TRY(parse_options(cli, argc, argv, err));
    if (cli_flag(cli, OPT_HELP))
        return KR_OK;
    KR_TRY(find_command(cli, err));
    return check_usage(cli, err);
}

enum kr_status cli_parse_id(const char *text, uint32_t *ret, struct kr_error *err)
{
    size_t digits = strspn(text, "0123456789");
    unsigned long long id = digits && digits <= 10 ? strtoull(text, NULL, 10) : 0;

    if (text[digits] != '\0' || id < 1 || id > UINT32_MAX)
        return kr_fail(err, KR_USAGE, "a key id is a number from 1 to %u", UINT32_MAX);
    *ret = (uint32_t)id;
    return KR_OK;
}

enum kr_status cli_number(const struct cli *cli, enum cli_option option, unsigned preset,
                          unsigned max, unsigned *ret, struct kr_error *err)
{
    const char *text = cli->values[option];
    size_t digits = text ? strspn(text, "0123456789") : 0;
    unsigned long number = digits && digits <= 9 ? strtoul(text, NULL, 10) : 0;

    if (text && (text[digits] != '\0' || number < 1 || number > max))
        return kr_fail(err, KR_USAGE, "--%s is a number from 1 to %u", cli_options[option].name,
                       max);
    *ret = text ? (unsigned)number : preset;
    return KR_OK;
}

enum kr_status cli_cipher(const struct cli *cli, enum kr_cipher *ret, struct kr_error *err)
{
    const char *name = cli->values[OPT_CIPHER];

    if (kr_cipher_parse(name ? name : cli->config->mariadb.cipher, ret))
        return KR_OK;
    return kr_fail(err, KR_USAGE, "--cipher is one of " KR_CIPHER_NAMES);
}
