/* SPDX-License-Identifier: MIT */
/* The process's side of files that the engine keeps open: which they are. A file that is sent once goes by its descriptor and
 * is forgotten; one that is sent again is kept, and from then on named by a number, its handle. The same file is one that has
 * not changed either: equal by everything that tells two versions apart. */
#ifndef TUX_APPKNOWN_H
#define TUX_APPKNOWN_H

#include <stdbool.h>
#include <stdint.h>

#include "appwire.h"
#include "files.h"

struct tux_app_known_file {
    struct tux_identity identity;
    uint64_t used; /* 0: the place is free */
    bool kept;     /* the engine has it open, by the number of this place */
};

struct tux_app_known {
    struct tux_app_known_file files[TUX_APP_HANDLES];
    uint64_t uses;
};

enum tux_app_naming {
    TUX_APP_BY_DESCRIPTOR, /* send it, for this once */
    TUX_APP_TO_KEEP,       /* send it, to be kept as `handle` */
    TUX_APP_BY_HANDLE,     /* the engine has it */
};

/* How to name this open file to the engine. *forget: a handle that the engine is to forget before, or TUX_APP_NO_HANDLE. */
enum tux_app_naming tux_app_known_name(struct tux_app_known *known, int fd, uint32_t *handle, uint32_t *forget);
/* The handle of the file at this path, if the engine has it open, which is then named by it; else TUX_APP_NO_HANDLE. */
uint32_t tux_app_known_at(struct tux_app_known *known, const char *path, uint64_t *size);
/* The engine does not have it any more, or never got it. */
void tux_app_known_forget(struct tux_app_known *known, uint32_t handle);

#endif
