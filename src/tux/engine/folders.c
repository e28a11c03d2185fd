/* SPDX-License-Identifier: MIT */
#include "folders.h"

#include <dirent.h>
#include <linux/magic.h>
#include <string.h>
#include <strings.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "absent.h"
#include "recipe.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif
#ifndef ZFS_SUPER_MAGIC
#define ZFS_SUPER_MAGIC 0x2fc12fc1
#endif
#ifndef BCACHEFS_SUPER_MAGIC
#define BCACHEFS_SUPER_MAGIC 0xca451a4e
#endif

#define SUFFIX_BYTES 4u /* of the longest suffix of a side file */

struct tux_folder_slot *tux_folders_slot(struct tux_folders *folders, const uint64_t key[2], uint32_t root, const char *path,
                                         size_t path_len, size_t *folder_len)
{
    const char *slash = memrchr(path, '/', path_len);
    *folder_len = slash == NULL ? 0 : (size_t)(slash - path);
    uint64_t hash = tux_absent_hash(key, root, path, *folder_len);
    struct tux_folder_slot *slot = &folders->slots[hash % TUX_FOLDER_SLOTS];
    if (slot->hash != hash)
        *slot = (struct tux_folder_slot){.hash = hash};
    return slot;
}

bool tux_folder_is_plain(struct tux_folder_slot *slot, struct tux_roots *roots, uint32_t root, const char *folder,
                         size_t folder_len, uint64_t now_ms)
{
    struct tux_identity stamp;
    if (!slot->plain || now_ms < slot->until_ms)
        return slot->plain;
    if (!tux_files_look_folder(roots, root, folder, folder_len, now_ms, &stamp))
        return false; /* it blocks, or is no folder any more: each file is looked at */
    if (tux_identity_equal(&stamp, &slot->stamp)) {
        slot->until_ms = now_ms + TUX_FOLDER_FRESH_MS;
        return true;
    }
    slot->plain = false;
    slot->files = 0;
    return false;
}

bool tux_folder_is_due(struct tux_folder_slot *slot, uint64_t now_ms)
{
    if (slot->plain || now_ms < slot->until_ms || ++slot->files < TUX_FOLDER_AFTER_FILES)
        return false;
    slot->files = 0;
    slot->until_ms = now_ms + TUX_FOLDER_AGAIN_MS;
    return true;
}

void tux_folder_note(struct tux_folders *folders, uint64_t hash, bool plain, const struct tux_identity *stamp,
                     uint64_t begun_ms)
{
    struct tux_folder_slot *slot = &folders->slots[hash % TUX_FOLDER_SLOTS];
    if (slot->hash != hash || !plain) /* the slot is another one's by now; or is_due has said when it is read again */
        return;
    slot->plain = true;
    slot->stamp = *stamp;
    slot->until_ms = begun_ms + TUX_FOLDER_FRESH_MS;
}

/* -- reading ---------------------------------------------------------------------------------------------------- */

/* File systems on which the time of a folder surely changes with its names. */
static bool tells_changes(int fd)
{
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0)
        return false;
    switch ((uint64_t)fs.f_type) {
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case TMPFS_MAGIC:
    case OVERLAYFS_SUPER_MAGIC:
    case ZFS_SUPER_MAGIC:
    case BCACHEFS_SUPER_MAGIC:
        return true;
    default:
        return false;
    }
}

/* Could a lookup of NAME and the suffix of a side file find this? A folder may fold case, beyond ASCII, too. */
static bool is_like_a_side_file(const char *name, size_t len)
{
    static const char suffixes[][SUFFIX_BYTES + 1] = {".br", ".zst", ".gz"};
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        size_t suffix_len = strlen(suffixes[i]);
        if (len >= suffix_len && strcasecmp(name + len - suffix_len, suffixes[i]) == 0)
            return true;
    }
    for (size_t i = len > 2 * SUFFIX_BYTES ? len - 2 * SUFFIX_BYTES : 0; i < len; i++)
        if ((uint8_t)name[i] >= 0x80)
            return true;
    return false;
}

static bool only_plain_names(DIR *folder)
{
    for (unsigned i = 0; i < TUX_FOLDER_MAX_NAMES; i++) {
        const struct dirent *entry = readdir(folder);
        if (entry == NULL)
            return true;
        if (entry->d_type != DT_REG && entry->d_type != DT_DIR)
            return false;
        if (is_like_a_side_file(entry->d_name, strlen(entry->d_name)))
            return false;
    }
    return false;
}

bool tux_folder_read(struct tux_roots *roots, uint32_t root, const char *folder, size_t folder_len, uint64_t now_ms,
                     int64_t wall_ms, struct tux_identity *stamp)
{
    struct tux_found found;
    struct tux_identity after;
    int fd = tux_files_open_folder(roots, root, folder, folder_len, now_ms, &found);
    if (fd < 0)
        return false;
    int64_t settled_ns = (wall_ms - (int64_t)TUX_SETTLE_MS) * 1000000;
    if (!tells_changes(fd) || !tux_files_stamp(fd, stamp) || stamp->mtime_ns > settled_ns || stamp->ctime_ns > settled_ns) {
        close(fd);
        return false;
    }
    DIR *names = fdopendir(fd);
    if (names == NULL) {
        close(fd);
        return false;
    }
    bool plain = only_plain_names(names) && tux_files_stamp(fd, &after) && tux_identity_equal(stamp, &after);
    closedir(names);
    return plain;
}
