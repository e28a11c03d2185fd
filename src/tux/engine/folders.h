/* SPDX-License-Identifier: MIT */
/* Folders of which it is known that there is nothing odd in them: only regular files and folders, no links, devices or FIFOs,
 * and no side files (.br .zst .gz). In them a file is opened without a look at it first, and its side files are not looked for:
 * one look at the folder stands for four at each file. A folder's time of change tells when a name appears in it. */
#ifndef TUX_FOLDERS_H
#define TUX_FOLDERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "files.h"

#define TUX_FOLDER_SLOTS 1024u      /* power of two; 64 KiB. More folders in use: some are looked at file by file */
#define TUX_FOLDER_FRESH_MS 700u    /* then the folder is looked at again: with TUX_ROOT_REOPEN_MS under the promised second */
#define TUX_FOLDER_AFTER_FILES 8u   /* files asked for until its names are read: that costs about as much as four files' looks */
#define TUX_FOLDER_AGAIN_MS 10000u  /* until one that was odd, or has just changed, is read again */
#define TUX_FOLDER_MAX_NAMES 32768u /* about 5 ms of the helper thread; one with more is not read to its end, and odd */

struct tux_folder_slot {
    uint64_t hash;     /* of root and path; 0: empty */
    uint64_t until_ms; /* plain: until it has to be looked at again. Else: until it may be read */
    uint32_t files;    /* asked for since the slot was taken */
    bool plain;
    struct tux_identity stamp; /* plain: of the folder as it was read, with its times */
};

struct tux_folders {
    struct tux_folder_slot slots[TUX_FOLDER_SLOTS];
};

/* The slot of the folder of a file, which is taken for it if it is another one's. *folder_len: of the folder's path, without a
 * slash; 0 is the root. */
struct tux_folder_slot *tux_folders_slot(struct tux_folders *folders, const uint64_t key[2], uint32_t root, const char *path,
                                         size_t path_len, size_t *folder_len);
/* Is it plain? Does not block: if that cannot be said, it is not. */
bool tux_folder_is_plain(struct tux_folder_slot *slot, struct tux_roots *roots, uint32_t root, const char *folder,
                         size_t folder_len, uint64_t now_ms);
/* A file in it was asked for, and it is not known to be plain: is it time to read it? Says so once. */
bool tux_folder_is_due(struct tux_folder_slot *slot, uint64_t now_ms);
/* It was read, from begun_ms on. */
void tux_folder_note(struct tux_folders *folders, uint64_t hash, bool plain, const struct tux_identity *stamp,
                     uint64_t begun_ms);

/* Read the names of a folder, which may block. True: it is plain, and *stamp is what it was before and after. */
bool tux_folder_read(struct tux_roots *roots, uint32_t root, const char *folder, size_t folder_len, uint64_t now_ms,
                     int64_t wall_ms, struct tux_identity *stamp);

#endif
