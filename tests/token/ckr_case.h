/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* One fault at one call, and what came of it, for test_every_ckr.c. */
#ifndef P11K_TESTS_CKR_CASE_H
#define P11K_TESTS_CKR_CASE_H

#include <p11-kit/pkcs11.h>

#include "ckr_operation.h"

/* A function, and how often an operation calls it when nothing fails. */
struct called {
    char name[32];
    unsigned calls;
};

/* A rule of the mock for a function and its call. */
struct fault {
    char action[16], value[24];
    CK_RV ckr; /* CKR_OK where it is the answer that is wrong */
};

struct ckr_case {
    unsigned operation; /* its index in operations[] */
    const struct called *function;
    unsigned call;
    bool lasting;
    const struct fault *fault;
};

/* What the process that ran a case says. */
struct outcome {
    bool finished, verified, hit;
    size_t masters; /* on the token at the end */
    enum kr_status status, again;
    struct kr_error err, again_err;
    char wrong[400];
};

/* The class that pkcs11/ckr.c gives a value. */
enum kr_status ckr_class(CK_RV ckr);

/* What is wrong with it; NULL when nothing is. */
const char *ckr_judge(const struct ckr_case *c, const struct outcome *o);

#endif
