/* SPDX-License-Identifier: MIT */
#include "recipe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "validator.h"

#define PROBES 4u             /* slots that a key may lie in */
#define MAX_OWN_BYTES 192u    /* what a head gets: ETag, Last-Modified, Content-Length */
#define SIDES 3u
#define MAX_SUFFIX_BYTES 4u

/* Of files that stand for another one, in the order of src/tux/http/coding.py. */
static const struct {
    char text[MAX_SUFFIX_BYTES + 1];
    uint32_t len;
} side_suffixes[SIDES] = {{".br", 3}, {".zst", 4}, {".gz", 3}};

/* -- the table -------------------------------------------------------------------------------------------------- */

struct tux_recipes {
    struct tux_recipe *slots[TUX_RECIPE_SLOTS];
};

struct tux_recipes *tux_recipes_new(void)
{
    return calloc(1, sizeof(struct tux_recipes));
}

struct tux_recipe *tux_recipe_ref(struct tux_recipe *recipe)
{
    recipe->refs++;
    return recipe;
}

void tux_recipe_unref(struct tux_recipe *recipe)
{
    if (--recipe->refs == 0)
        free(recipe);
}

void tux_recipes_free(struct tux_recipes *recipes)
{
    for (uint32_t i = 0; recipes != NULL && i < TUX_RECIPE_SLOTS; i++)
        if (recipes->slots[i] != NULL)
            tux_recipe_unref(recipes->slots[i]);
    free(recipes);
}

/* No secret is needed: nobody but who owns the files chooses routes, folders and extensions that get a recipe. */
static uint32_t hash(uint32_t route, const char *key, size_t len)
{
    uint32_t sum = route * 2654435761u;
    for (size_t i = 0; i < len; i++)
        sum = (sum ^ (uint8_t)key[i]) * 16777619u;
    return sum ^ sum >> 15;
}

static bool is_for(const struct tux_recipe *recipe, uint32_t route, const char *key, size_t len)
{
    return recipe != NULL && recipe->route == route && recipe->key_len == len &&
           memcmp(recipe->key, key, len) == 0;
}

struct tux_recipe *tux_recipes_find(const struct tux_recipes *recipes, uint32_t route, const char *key, size_t len)
{
    uint32_t at = hash(route, key, len);
    for (uint32_t i = 0; i < PROBES; i++) {
        struct tux_recipe *recipe = recipes->slots[(at + i) % TUX_RECIPE_SLOTS];
        if (is_for(recipe, route, key, len))
            return recipe;
    }
    return NULL;
}

static bool is_same(const struct tux_recipe *recipe, uint32_t flags, const struct tux_wire_recipe *say, const uint8_t *head)
{
    return recipe->flags == flags && memcmp(&recipe->say, say, sizeof *say) == 0 &&
           memcmp(recipe->head, head, say->head_len) == 0;
}

bool tux_recipes_add(struct tux_recipes *recipes, uint32_t route, const char *key, size_t len, uint32_t flags,
                     const struct tux_wire_recipe *say, const uint8_t *head)
{
    if (len > TUX_RECIPE_KEY_BYTES || say->head_len > TUX_RECIPE_HEAD_BYTES)
        return false;
    uint32_t at = hash(route, key, len);
    struct tux_recipe **place = &recipes->slots[at % TUX_RECIPE_SLOTS]; /* when all are taken: the other one is learnt again */
    for (uint32_t i = PROBES; i-- > 0;) { /* backwards: the first free one is kept, and its own one wins */
        struct tux_recipe **slot = &recipes->slots[(at + i) % TUX_RECIPE_SLOTS];
        if (*slot == NULL)
            place = slot;
    }
    for (uint32_t i = 0; i < PROBES; i++) {
        struct tux_recipe **slot = &recipes->slots[(at + i) % TUX_RECIPE_SLOTS];
        if (is_for(*slot, route, key, len))
            place = slot;
    }
    if (is_for(*place, route, key, len) && is_same(*place, flags, say, head))
        return false;
    struct tux_recipe *recipe = calloc(1, sizeof *recipe + say->head_len);
    if (recipe == NULL)
        return false;
    recipe->refs = 1;
    recipe->route = route;
    recipe->key_len = (uint32_t)len;
    memcpy(recipe->key, key, len);
    recipe->flags = flags;
    recipe->say = *say;
    memcpy(recipe->head, head, say->head_len);
    if (*place != NULL)
        tux_recipe_unref(*place);
    *place = recipe;
    return true;
}

const char *tux_recipe_extension(const char *path, size_t path_len, size_t *len)
{
    const char *end = path + path_len;
    for (const char *at = end; at > path && at[-1] != '/'; at--)
        if (at[-1] == '.') {
            *len = (size_t)(end - at);
            return at;
        }
    *len = 0;
    return end;
}

/* Are the bytes up to the next dot such a hash: 8 to 64 hexadecimal digits, a letter and a digit among them? */
static bool is_hash(const char *at, const char *end)
{
    const char *p = at;
    bool letter = false, digit = false;
    for (; p < end && ((*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'f')); p++) {
        letter = letter || *p > '9';
        digit = digit || *p <= '9';
    }
    return letter && digit && p - at >= 8 && p - at <= 64 && end - p >= 2 && *p == '.';
}

bool tux_recipe_is_hashed(const char *path, size_t path_len)
{
    const char *end = path + path_len;
    for (const char *at = end; at > path && at[-1] != '/'; at--)
        if ((at[-1] == '-' || at[-1] == '.' || at[-1] == '_') && is_hash(at, end))
            return true;
    return false;
}

size_t tux_recipe_key(enum tux_recipe_scope scope, const char *path, size_t path_len, char key[TUX_RECIPE_KEY_BYTES])
{
    size_t extension_len, folder_len = 0;
    const char *extension = tux_recipe_extension(path, path_len, &extension_len);
    if (scope == TUX_RECIPE_BELOW) {
        const char *slash = memchr(path, '/', path_len);
        folder_len = slash == NULL ? 0 : (size_t)(slash - path);
        if (folder_len == 0)
            return 0;
    } else if (scope == TUX_RECIPE_BESIDE) {
        for (folder_len = path_len; folder_len > 0 && path[folder_len - 1] != '/'; folder_len--)
            ;
    }
    if (extension_len > TUX_RECIPE_EXTENSION_BYTES || folder_len + extension_len + 2 > TUX_RECIPE_KEY_BYTES)
        return 0;
    /* An extension has no slash: where the folder ends is not in doubt. */
    key[0] = (char)('0' + 2 * scope + tux_recipe_is_hashed(path, path_len));
    memcpy(key + 1, path, folder_len);
    key[1 + folder_len] = '/';
    memcpy(key + 2 + folder_len, extension, extension_len);
    return 2 + folder_len + extension_len;
}

/* -- making ----------------------------------------------------------------------------------------------------- */

static bool is_plain(const struct tux_recipe_use *use)
{
    return use->now_ms < use->plain_until_ms;
}

/* Are there surely no side files? Their checks are noted. */
static enum tux_recipe_result look_for_sides(const struct tux_recipe_use *use, const struct tux_recipe_tools *tools,
                                             char paths[SIDES][TUX_RECIPE_PATH_BYTES + MAX_SUFFIX_BYTES],
                                             struct tux_check *checks)
{
    for (uint32_t i = 0; i < SIDES; i++) {
        size_t len = use->path_len + side_suffixes[i].len;
        struct tux_found found = {.kind = TUX_FOUND_ABSENT};
        memcpy(paths[i], use->path, use->path_len);
        memcpy(paths[i] + use->path_len, side_suffixes[i].text, side_suffixes[i].len);
        if (!is_plain(use) && !tux_files_look(tools->roots, use->recipe->say.root, paths[i], len, use->now_ms, use->cached_only, &found))
            return TUX_RECIPE_BLOCKS;
        if (found.kind != TUX_FOUND_ABSENT)
            return TUX_RECIPE_UNFIT;
        checks[i] = (struct tux_check){
            .root = use->recipe->say.root, .path_len = (uint32_t)len, .path = paths[i], .expected = found};
    }
    return TUX_RECIPE_MADE;
}

/* What changed later may change again without a trace. */
static int64_t settled_ns(const struct tux_recipe_use *use)
{
    return (use->wall_ms - (int64_t)TUX_SETTLE_MS) * 1000000;
}

static bool may_be_sent(const struct tux_recipe_use *use, const struct tux_recipe_tools *tools,
                        const struct tux_identity *identity)
{
    const struct tux_wire_recipe *say = &use->recipe->say;
    if (tux_own_has(tools->own, identity->dev, identity->ino))
        return false;
    if ((identity->mode & say->mode_allowed) == 0 || (identity->mode & say->mode_forbidden) != 0)
        return false;
    /* Not settled: the answer depends on the clock. A time before 1970 has no place in a state tag of ours. */
    return identity->mtime_ns >= 0 && identity->mtime_ns <= settled_ns(use);
}

/* The whole file, between two looks that show the same. `got` bytes of it are there already, as they were at the first. */
static enum tux_recipe_result read_body(const struct tux_recipe_use *use, const struct tux_recipe_tools *tools, int fd,
                                        const struct tux_identity *identity, size_t got)
{
    struct tux_identity after;
    size_t size = (size_t)identity->size;
    if (got > 0 && got == size)
        return TUX_RECIPE_MADE;
    while (got < size) { /* ends: it grows, or leaves */
        struct iovec rest = {.iov_base = tools->scratch + got, .iov_len = size - got};
        ssize_t n = preadv2(fd, &rest, 1, (off_t)got, use->cached_only ? RWF_NOWAIT : 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && use->cached_only) /* not in the page cache, or the file system cannot tell */
            return TUX_RECIPE_BLOCKS;
        if (n <= 0)
            return TUX_RECIPE_UNFIT;
        got += (size_t)n;
    }
    bool same = tux_files_identity(fd, &after) && tux_identity_equal(&after, identity);
    return same ? TUX_RECIPE_MADE : TUX_RECIPE_UNFIT;
}

static char *put(char *out, const char *text, size_t len)
{
    memcpy(out, text, len);
    return out + len;
}

#define PUT(out, literal) put(out, literal, sizeof(literal) - 1)

static size_t write_head(const struct tux_recipe *recipe, const struct tux_identity *identity, const uint8_t *body,
                         char *out)
{
    char *end = put(out, (const char *)recipe->head, recipe->say.head_len);
    end = PUT(end, "ETag: \"");
    if (body != NULL) {
        tux_content_tag(body, (size_t)identity->size, end);
        end += TUX_CONTENT_TAG_BYTES;
    } else {
        end += tux_state_tag(identity->size, identity->mtime_ns, end);
    }
    end = PUT(end, "\"\r\nLast-Modified: ");
    tux_http_date(identity->mtime_ns / 1000000000, end);
    end += TUX_HTTP_DATE_BYTES;
    end = PUT(end, "\r\nContent-Length: ");
    char digits[20];
    size_t n = 0;
    uint64_t size = identity->size;
    do
        digits[n++] = (char)('0' + size % 10);
    while ((size /= 10) != 0);
    while (n > 0)
        *end++ = digits[--n];
    end = PUT(end, "\r\n");
    return (size_t)(end - out);
}

/* `fd` is taken over; `got` bytes of the file are in the scratch. */
static enum tux_recipe_result make_of(const struct tux_recipe_use *use, const struct tux_recipe_tools *tools, int fd,
                                      const struct tux_found *found, size_t got, struct tux_plan **plan)
{
    const struct tux_recipe *recipe = use->recipe;
    char paths[SIDES][TUX_RECIPE_PATH_BYTES + MAX_SUFFIX_BYTES];
    char head[TUX_RECIPE_HEAD_BYTES + MAX_OWN_BYTES];
    struct tux_check checks[1 + SIDES];
    bool small = found->identity.size <= recipe->say.small_bytes;
    enum tux_recipe_result result = TUX_RECIPE_MADE;

    checks[0] = (struct tux_check){
        .root = recipe->say.root, .path_len = (uint32_t)use->path_len, .path = use->path, .expected = *found};
    if (!may_be_sent(use, tools, &found->identity) || (small && found->identity.size > tools->scratch_bytes))
        result = TUX_RECIPE_UNFIT;
    else if (recipe->say.sides)
        result = look_for_sides(use, tools, paths, checks + 1);
    if (result == TUX_RECIPE_MADE && small)
        result = read_body(use, tools, fd, &found->identity, got);
    if (result != TUX_RECIPE_MADE) {
        close(fd);
        return result;
    }
    bool by_file = !small && !use->is_head;
    if (!by_file)
        close(fd);
    struct tux_plan_parts parts = {
        .status = 200,
        .flags = (uint16_t)(recipe->flags | (use->is_head ? TUX_PLAN_NO_BODY : 0)),
        .head = head,
        .head_len = (uint32_t)write_head(recipe, &found->identity, small ? tools->scratch : NULL, head),
        .body = by_file || use->is_head ? NULL : tools->scratch,
        .body_len = use->is_head ? 0 : found->identity.size,
        .fd = by_file ? fd : -1,
        .expires_ms = UINT64_MAX,
        .checks = checks,
        .n_checks = recipe->say.sides ? 1 + SIDES : 1,
    };
    *plan = tux_plan_new(&parts, tools->key);
    if (*plan != NULL && by_file && !tux_identity_equal(&(*plan)->file->identity, &found->identity)) {
        tux_plan_unref(*plan); /* changed since */
        *plan = NULL;
    }
    return *plan != NULL ? TUX_RECIPE_MADE : TUX_RECIPE_UNFIT;
}

/* In a plain folder a file is opened without a look at it, read, and looked at once. What had last changed well before then is
 * what was read: *got bytes of it, else 0. By its ctime, which nobody can set; and on the folder's device, whose clock is ours
 * (tux_folder_read knows which file systems have one of their own). */
static int open_plain(const struct tux_recipe_use *use, const struct tux_recipe_tools *tools, struct tux_found *found,
                      size_t *got)
{
    int fd = tux_files_open_unseen(tools->roots, use->recipe->say.root, use->path, use->path_len, use->now_ms, use->cached_only);
    if (fd < 0)
        return fd;
    struct iovec first = {.iov_base = tools->scratch, .iov_len = TUX_FIRST_READ_BYTES};
    if (first.iov_len > tools->scratch_bytes)
        first.iov_len = tools->scratch_bytes;
    ssize_t n = preadv2(fd, &first, 1, 0, use->cached_only ? RWF_NOWAIT : 0);
    tux_files_found(fd, found);
    if (found->kind != TUX_FOUND_FILE) {
        close(fd);
        return -1;
    }
    bool as_read = n > 0 && (uint64_t)n <= found->identity.size && found->identity.dev == use->plain_dev &&
                   found->identity.ctime_ns <= settled_ns(use);
    *got = as_read ? (size_t)n : 0;
    return fd;
}

enum tux_recipe_result tux_recipe_make(const struct tux_recipe_use *use, const struct tux_recipe_tools *tools,
                                       struct tux_plan **plan)
{
    struct tux_found found;
    size_t got = 0;
    *plan = NULL;
    if (use->path_len == 0 || use->path_len > TUX_RECIPE_PATH_BYTES)
        return TUX_RECIPE_UNFIT;
    int fd = is_plain(use) ? open_plain(use, tools, &found, &got)
                           : tux_files_open_cached(tools->roots, use->recipe->say.root, use->path, use->path_len, use->now_ms,
                                                   use->cached_only, &found);
    if (fd == TUX_FILES_MUST_BLOCK)
        return TUX_RECIPE_BLOCKS;
    return fd < 0 ? TUX_RECIPE_UNFIT : make_of(use, tools, fd, &found, got, plan);
}
