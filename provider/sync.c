/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A server's own share in keeping envelopes up to date. */
#include "provider/sync.h"

#include "base/clock.h"
#include "base/log.h"
#include "provider/rewrap.h"

enum { QUIET_POLLS = 10, STEP_ENVELOPES = 64 };

static unsigned tokens_up(const struct kr_tokens *tokens)
{
    unsigned up = 0;
    for (size_t i = 0; i < tokens->count; i++)
        up |= (unsigned)kr_token_is_up(tokens->at[i]) << i;
    return up;
}

/* Something may be out of date when the keystore has changed or a token has come up. */
static void look(struct kr_sync *sync, struct kr_keyring *keyring)
{
    uint64_t refreshes = keyring->refreshes;
    unsigned tokens = tokens_up(&keyring->tokens);
    if (refreshes != sync->refreshes || (tokens & ~sync->tokens))
        sync->not_before = kr_now_ms() + (uint64_t)QUIET_POLLS * keyring->poll_ms;
    sync->refreshes = refreshes;
    sync->tokens = tokens;
}

static void say(struct kr_sync *sync, const struct kr_keyring *keyring,
                const struct kr_rewrap_result *result)
{
    sync->rewrapped += result->rewrapped;
    if (result->rewrapped > 0 && !sync->begun) {
        kr_log(KR_LOG_NOTE, "wrapping %llu envelopes for the current master keys",
               (unsigned long long)result->rewrapped + result->left);
        sync->begun = true;
    }
    if (sync->begun && result->left == 0) {
        kr_log(KR_LOG_NOTE, "every envelope that can be is wrapped for the current master keys");
        const struct kr_audit_event event = {.name = "rewrap", .envelopes = sync->rewrapped};
        kr_audit_end(keyring->audit, &event, NULL);
        sync->begun = false;
        sync->rewrapped = 0;
    }
}

/* A server that may only read leaves this to others. */
static enum kr_status give_up(struct kr_sync *sync, struct kr_error *err)
{
    kr_log(KR_LOG_NOTE, "envelopes are not wrapped anew from here: %s", err->text);
    *err = (struct kr_error)KR_ERROR_INIT;
    sync->off = true;
    return KR_OK;
}

static enum kr_status step(struct kr_sync *sync, struct kr_keyring *keyring, struct kr_error *err)
{
    const struct kr_rewrap_options options = {.threads = 1, .batch = STEP_ENVELOPES, .once = true};
    struct kr_rewrap_result result;
    enum kr_status status = kr_rewrap(keyring, &options, &result, err);
    if (status == KR_CONFIG)
        return give_up(sync, err);
    KR_TRY(status);
    sync->tokens &= tokens_up(&keyring->tokens); /* one that failed just now is to come up again */
    say(sync, keyring, &result);
    if (result.left == 0 || result.rewrapped == 0)
        sync->not_before = 0;
    /* Our own commit is no reason to wait. */
    KR_TRY(kr_keyring_refresh(keyring, err));
    sync->refreshes = keyring->refreshes;
    return KR_OK;
}

enum kr_status kr_sync_step(struct kr_sync *sync, struct kr_keyring *keyring, bool *ret_tried,
                            struct kr_error *err)
{
    look(sync, keyring);
    bool due = !sync->off && sync->not_before > 0 && kr_now_ms() >= sync->not_before;
    if (due && step(sync, keyring, err) != KR_OK) {
        sync->not_before = kr_now_ms() + (uint64_t)QUIET_POLLS * keyring->poll_ms;
        *ret_tried = true;
        return err->status;
    }
    *ret_tried = due;
    return KR_OK;
}
