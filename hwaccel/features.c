/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The processor's features. */
#include "hwaccel/features.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char text[128];

static void add(const char *name, bool present)
{
    size_t len = strlen(text);
    if (present)
        snprintf(text + len, sizeof(text) - len, "%s%s", len > 0 ? " " : "", name);
}

#if defined(__x86_64__)
static bool has_vaes(void)
{
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 0, &a, &b, &c, &d) &&
           (c & (1u << 9));
}

static void detect(void)
{
    __builtin_cpu_init();
    add("aes", __builtin_cpu_supports("aes"));
    add("pclmul", __builtin_cpu_supports("pclmul"));
    add("sse4.2", __builtin_cpu_supports("sse4.2"));
    add("avx2", __builtin_cpu_supports("avx2"));
    add("avx512", __builtin_cpu_supports("avx512f"));
    add("vaes", has_vaes());
    add("vpclmulqdq", __builtin_cpu_supports("vpclmulqdq"));
}
#elif defined(__aarch64__)
static void detect(void)
{
    unsigned long hwcap = getauxval(AT_HWCAP);
    add("aes", hwcap & HWCAP_AES);
    add("pmull", hwcap & HWCAP_PMULL);
    add("crc32", hwcap & HWCAP_CRC32);
}
#else
static void detect(void)
{
}
#endif

static void detect_once(void)
{
    detect();
    add("none", text[0] == '\0');
}

const char *kr_features_text(void)
{
    pthread_once(&once, detect_once);
    return text;
}

bool kr_features_have(const char *name)
{
    size_t len = strlen(name);
    for (const char *at = kr_features_text(); at; at = strchr(at, ' ')) {
        at += *at == ' ';
        if (strncmp(at, name, len) == 0 && (at[len] == ' ' || at[len] == '\0'))
            return true;
    }
    return false;
}
