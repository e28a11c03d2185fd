/* SPDX-License-Identifier: MIT */
#include "appknown.h"

enum tux_app_naming tux_app_known_name(struct tux_app_known *known, int fd, uint32_t *handle, uint32_t *forget)
{
    struct tux_identity identity;
    uint32_t oldest = 0;
    *handle = *forget = TUX_APP_NO_HANDLE;
    if (!tux_files_identity(fd, &identity))
        return TUX_APP_BY_DESCRIPTOR; /* the engine will say what is wrong with it */
    known->uses++;
    for (uint32_t i = 0; i < TUX_APP_HANDLES; i++) {
        if (known->files[i].used != 0 && tux_identity_equal(&known->files[i].identity, &identity)) {
            bool kept = known->files[i].kept;
            known->files[i].used = known->uses;
            known->files[i].kept = true;
            *handle = i;
            return kept ? TUX_APP_BY_HANDLE : TUX_APP_TO_KEEP;
        }
        if (known->files[i].used < known->files[oldest].used)
            oldest = i;
    }
    if (known->files[oldest].kept)
        *forget = oldest;
    known->files[oldest].identity = identity;
    known->files[oldest].used = known->uses;
    known->files[oldest].kept = false;
    return TUX_APP_BY_DESCRIPTOR;
}

uint32_t tux_app_known_at(struct tux_app_known *known, const char *path, uint64_t *size)
{
    struct tux_identity identity;
    if (!tux_files_identity_at(path, &identity))
        return TUX_APP_NO_HANDLE;
    for (uint32_t i = 0; i < TUX_APP_HANDLES; i++) {
        if (known->files[i].kept && tux_identity_equal(&known->files[i].identity, &identity)) {
            known->files[i].used = ++known->uses;
            *size = identity.size;
            return i;
        }
    }
    return TUX_APP_NO_HANDLE;
}

void tux_app_known_forget(struct tux_app_known *known, uint32_t handle)
{
    known->files[handle].used = 0;
    known->files[handle].kept = false;
}
