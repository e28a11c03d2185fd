/* SPDX-License-Identifier: MIT */
/* Recipes: what Python has decided once for all files of a route (or of a folder in it) with one extension, so that the engine makes the plan for a
 * file that it has not seen by itself: it fills in size, time and tag, and the checks. Whatever is not as the recipe wants it
 * is the planner's, as if there were none. Which files have one is decided in src/tux/planner/recipe.py. */
#ifndef TUX_RECIPE_H
#define TUX_RECIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "files.h"
#include "own.h"
#include "plan.h"
#include "wire.h"

#define TUX_RECIPE_SLOTS 1024u         /* power of two; a site has some dozens of file types in some dozens of routes */
#define TUX_RECIPE_HEAD_BYTES 4096u    /* of status line and fields that files share; a longer one is the planner's each time */
#define TUX_RECIPE_EXTENSION_BYTES 15u /* the longest known one has 11 (webmanifest) */
#define TUX_RECIPE_KEY_BYTES 127u      /* of what a recipe is found by: folders with longer names are the planner's */
#define TUX_RECIPE_PATH_BYTES 2048u    /* below the root; well below what the planner still looks up, whatever it adds */
#define TUX_FIRST_READ_BYTES 16384u    /* of a file whose size is not known yet: nearly all small ones; in vain, 1 us */
#define TUX_SETTLE_MS 2000u            /* what changed later may change again within one tick of its file system's clock */

struct tux_recipe {
    uint32_t refs; /* counted by the engine's thread */
    uint32_t route;
    uint32_t key_len;
    char key[TUX_RECIPE_KEY_BYTES + 1];
    uint32_t flags; /* of the plans */
    struct tux_wire_recipe say;
    uint8_t head[]; /* say.head_len bytes */
};

struct tux_recipes; /* a table of them, owned by one thread */

struct tux_recipes *tux_recipes_new(void);
void tux_recipes_free(struct tux_recipes *recipes);
/* Borrowed; NULL: there is none for this. */
struct tux_recipe *tux_recipes_find(const struct tux_recipes *recipes, uint32_t route, const char *key, size_t len);
/* Take over what the planner says; a lack of memory, and what has no place, is as if it had said nothing. True: something new. */
bool tux_recipes_add(struct tux_recipes *recipes, uint32_t route, const char *key, size_t len, uint32_t flags,
                     const struct tux_wire_recipe *say, const uint8_t *head);
struct tux_recipe *tux_recipe_ref(struct tux_recipe *recipe);
void tux_recipe_unref(struct tux_recipe *recipe);

/* The extension of the last segment of a path, as it is written: a pointer into the path, *len 0 without one. */
const char *tux_recipe_extension(const char *path, size_t path_len, size_t *len);

/* Whether the name of the file at a path has a hash in it, so that it changes with the content: as HASHED in
 * src/tux/planner/presets.py. */
bool tux_recipe_is_hashed(const char *path, size_t path_len);

/* What a recipe for this file is found by: the path is that of a file, below the root. Returns its length; 0: there can be none. */
size_t tux_recipe_key(enum tux_recipe_scope scope, const char *path, size_t path_len, char key[TUX_RECIPE_KEY_BYTES]);

/* A file that is asked for. */
struct tux_recipe_use {
    const struct tux_recipe *recipe;
    const char *path; /* below the root, without a leading slash */
    size_t path_len;
    bool is_head;     /* the method is HEAD */
    bool cached_only; /* do not block */
    uint64_t plain_until_ms; /* its folder is plain (folders.h) until then ... */
    uint64_t plain_dev;      /* ... and on this device */
    uint64_t now_ms;
    int64_t wall_ms;  /* CLOCK_REALTIME at some time since the request came */
};

/* What making needs, of the thread that does it. */
struct tux_recipe_tools {
    struct tux_roots *roots;
    const struct tux_own *own;
    const uint64_t *key; /* of plans' contents */
    uint8_t *scratch;    /* for a body; larger ones are the planner's */
    size_t scratch_bytes;
};

enum tux_recipe_result {
    TUX_RECIPE_MADE,   /* *plan has one reference */
    TUX_RECIPE_UNFIT,  /* the planner's */
    TUX_RECIPE_BLOCKS, /* cannot be said without blocking (cached_only) */
};

enum tux_recipe_result tux_recipe_make(const struct tux_recipe_use *use, const struct tux_recipe_tools *tools,
                                       struct tux_plan **plan);

#endif
