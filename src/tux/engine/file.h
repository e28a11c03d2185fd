/* SPDX-License-Identifier: MIT */
/* An open file of which bytes are sent: the body of a plan, or what an application has named. What leaves was copied, and
 * the file was looked at afterwards, so a body that is complete is of one version (docs/decisions/009, 024); and what is not in
 * the page cache is read by the helper thread first. Counted by the engine's thread; the helper only reads. */
#ifndef TUX_FILE_H
#define TUX_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "files.h"

struct tux_file {
    uint32_t refs;
    uint32_t uses;     /* how often it was sent from the disk's cache */
    int fd;            /* owned */
    bool loading;      /* the helper thread reads all of it */
    struct tux_identity identity; /* when it was taken */
    uint64_t resident_until_ms;   /* it was in the page cache; after this, probe again */
    uint8_t *map;      /* from the first large piece on; NULL: not (or cannot be) mapped */
    uint8_t *bytes;    /* all of it, in memory; NULL: it is not */
    bool frozen;       /* a copy in memory that nobody can change: its pages may be handed over as they are */
    _Atomic uint64_t *account; /* where `bytes`, or the copy, are counted; NULL: nowhere */
};

/* With one reference. The descriptor is the file's from here on, also after NULL: no memory, or fstat failed. */
struct tux_file *tux_file_new(int fd);
struct tux_file *tux_file_ref(struct tux_file *file);
void tux_file_unref(struct tux_file *file);
/* What is open there, as it is now; NULL: it cannot be had. */
struct tux_file *tux_file_again(const struct tux_file *file);
/* Is what the descriptor shows still what was taken? */
bool tux_file_is_same(const struct tux_file *file);
/* A frozen copy of bytes of it, waiting for the disk: its descriptor. -1: there is no memory for it, or the file is not any more
 * what was taken. */
int tux_file_freeze(const struct tux_file *file, uint64_t offset, uint64_t length);
/* The file is such a copy, and counted there until it is given back. */
void tux_file_frozen(struct tux_file *file, _Atomic uint64_t *account);
/* `bytes` (of malloc), which are the whole file, are its own from here on. */
void tux_file_keep(struct tux_file *file, uint8_t *bytes, _Atomic uint64_t *account);

enum tux_file_state {
    TUX_FILE_READY,
    TUX_FILE_COLD,    /* not in the page cache: have the helper thread read it first */
    TUX_FILE_CHANGED, /* not what it was: what was begun cannot be completed */
};

/* The next bytes to send, from `offset` on, of which `left` are to be sent: at most TUX_SLICE_BYTES. They are valid until `copy`
 * (TUX_COPY_BYTES) is used again, or the file is given back; only the kernel may read them, as they may be a mapping. *length is
 * how many, or how many to warm. `warmed`: send it, wherever its pages are. */
enum tux_file_state tux_file_piece(struct tux_file *file, uint64_t now_ms, bool warmed, uint64_t offset, uint64_t left,
                                   uint8_t *copy, const uint8_t **bytes, uint64_t *length);
/* Read bytes[0..length) of it from `offset` on, waiting for the disk. False: it has not so many. */
bool tux_file_read(const struct tux_file *file, uint64_t offset, uint64_t length, uint8_t *bytes);

#endif
