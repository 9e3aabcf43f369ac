/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Help, version and shell completion, all from the table of commands. */
#include <string.h>

#include "cli.h"

static void print_command_name(FILE *out, const struct cli_command *c)
{
    fprintf(out, "%s%s%s", c->noun, c->verb ? " " : "", c->verb ? c->verb : "");
}

static void print_option(FILE *out, const struct cli_option_spec *spec)
{
    char name[64];

    snprintf(name, sizeof name, "--%s%s%s", spec->name, spec->value ? "=" : "",
             spec->value ? spec->value : "");
    fprintf(out, "  %c%c%s %-24s ", spec->letter ? '-' : ' ', spec->letter ? spec->letter : ' ',
            spec->letter ? "," : " ", name);
    for (const char *p = spec->help; *p; p++) {
        fputc(*p, out);
        if (*p == '\n')
            fprintf(out, "%31s", "");
    }
    fputc('\n', out);
}

static void print_options(FILE *out, const char *title, uint64_t options)
{
    if (!options)
        return;
    fprintf(out, "\n%s:\n", title);
    for (size_t i = 0; i < OPT_COUNT; i++)
        if (options & CLI_BIT(i))
            print_option(out, &cli_options[i]);
}

static void print_summary(FILE *out, const struct cli_command *c)
{
    char name[64];

    snprintf(name, sizeof name, "%s%s%s%s%s", c->noun, c->verb ? " " : "", c->verb ? c->verb : "",
             c->arguments ? " " : "", c->arguments ? c->arguments : "");
    fprintf(out, "  %-22s %s\n", name, c->summary);
}

static void print_command_help(FILE *out, const struct cli_command *c)
{
    fputs("Usage: p11keyring ", out);
    print_command_name(out, c);
    fprintf(out, "%s%s [OPTION]...\n\n%s.\n", c->arguments ? " " : "",
            c->arguments ? c->arguments : "", c->summary);
    print_options(out, "Options", c->options);
    print_options(out, "Global options", cli_global_options);
}

bool cli_help(FILE *out, const char *noun, const char *verb)
{
    const struct cli_command *only = NULL;
    int matches = 0;

    for (const struct cli_command *c = cli_commands; c->noun; c++) {
        if ((noun && strcmp(c->noun, noun) != 0) ||
            (verb && (!c->verb || strcmp(c->verb, verb) != 0)))
            continue;
        only = c;
        matches++;
    }
    if (matches == 0)
        return false;
    if (matches == 1) {
        print_command_help(out, only);
        return true;
    }
    fprintf(out, "Usage: p11keyring %s [OPTION]...\n\nCommands:\n", noun ? noun : "COMMAND");
    for (const struct cli_command *c = cli_commands; c->noun; c++)
        if (!noun || strcmp(c->noun, noun) == 0)
            print_summary(out, c);
    print_options(out, "Global options", cli_global_options);
    fprintf(out, "\np11keyring help COMMAND explains a command; see also p11keyring(1).\n");
    return true;
}

enum kr_status cli_run_help(struct cli *cli, struct kr_error *err)
{
    const char *noun = cli->arg_count > 0 ? cli->args[0] : NULL;
    const char *verb = cli->arg_count > 1 ? cli->args[1] : NULL;

    if (cli_help(stdout, noun, verb))
        return KR_OK;
    kr_fail(err, KR_USAGE, "there is no such command");
    kr_hint(err, "p11keyring --help lists the commands");
    return KR_USAGE;
}

enum kr_status cli_run_version(struct cli *cli, struct kr_error *err)
{
    CLI_JSON result = json_pack("{s:s}", "version", P11K_VERSION);

    if (!result)
        return kr_fail_memory(err);
    if (!cli_print_json(cli, result))
        puts("p11keyring " P11K_VERSION);
    return KR_OK;
}

static void print_completion_case(const struct cli_command *c)
{
    printf("        '%s", c->noun);
    if (c->verb)
        printf(" %s", c->verb);
    fputs("'*) words=\"", stdout);
    for (size_t i = 0; i < OPT_COUNT; i++)
        if ((cli_global_options | c->options) & CLI_BIT(i))
            printf("--%s ", cli_options[i].name);
    puts("\" ;;");
}

/* "noun) words="verb verb" ;;" for each noun that has verbs. */
static void print_completion_verbs(void)
{
    const char *noun = "";

    for (const struct cli_command *c = cli_commands; c->noun; c++) {
        if (!c->verb)
            continue;
        if (strcmp(noun, c->noun) == 0)
            continue;
        noun = c->noun;
        printf("        '%s') words=\"", noun);
        for (const struct cli_command *v = c; v->noun; v++)
            if (strcmp(v->noun, noun) == 0)
                printf("%s ", v->verb);
        puts("\" ;;");
    }
}

enum kr_status cli_run_completion(struct cli *cli, struct kr_error *err)
{
    const char *last = "";

    (void)cli;
    (void)err;
    puts("# bash completion for p11keyring\n_p11keyring()\n{\n"
         "    local cur=${COMP_WORDS[COMP_CWORD]} words=\n"
         "    case \"${COMP_WORDS[*]:1:COMP_CWORD-1}\" in");
    fputs("        '') words=\"", stdout);
    for (const struct cli_command *c = cli_commands; c->noun; c++) {
        if (strcmp(last, c->noun) != 0)
            printf("%s ", c->noun);
        last = c->noun;
    }
    puts("\" ;;");
    print_completion_verbs();
    for (const struct cli_command *c = cli_commands; c->noun; c++)
        print_completion_case(c);
    puts("    esac\n    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
         "    [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$cur\"))\n}\n"
         "complete -F _p11keyring p11keyring");
    return KR_OK;
}
