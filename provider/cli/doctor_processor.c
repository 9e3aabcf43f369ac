/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* doctor: what the processor and OpenSSL do for page ciphers. */
#include "doctor.h"

#include "hwaccel/features.h"
#include "hwaccel/lockstep.h"

/* Without lockstep the file tools are slower and right all the same. */
void doctor_page_ciphers(struct doctor *doctor, struct finding *finding)
{
    enum kr_lockstep_state state = kr_lockstep_state();

    (void)doctor;
    if (state == KR_LOCKSTEP_ON || state == KR_LOCKSTEP_FIPS) {
        doctor_ok(finding, "the processor has %s; many pages in lockstep: %s", kr_features_text(),
                  kr_lockstep_text(state));
        return;
    }
    doctor_warn(finding, "many pages in lockstep: %s", kr_lockstep_text(state));
    doctor_fix(finding, "openssl speed -evp aes-256-ecb shows whether this OpenSSL works at all; "
                        "pages are encrypted one after the other meanwhile");
}
