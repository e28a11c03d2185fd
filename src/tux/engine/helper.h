/* SPDX-License-Identifier: MIT */
/* A helper thread for what could block on a disk: repeating checks, making plans by recipes and reading folders for them, bringing a slice of a large file into the page cache,
 * and loading a file into memory. The engine submits jobs and finds them done through an eventfd; it alone touches reference counts. */
#ifndef TUX_HELPER_H
#define TUX_HELPER_H

#include <stdbool.h>
#include <stdint.h>

#include "files.h"
#include "plan.h"
#include "recipe.h"

enum tux_job_kind { TUX_JOB_CHECK, TUX_JOB_WARM, TUX_JOB_LOAD, TUX_JOB_MAKE, TUX_JOB_FOLDER };

struct tux_job {
    struct tux_job *next;
    enum tux_job_kind kind;
    struct tux_plan *plan; /* CHECK, LOAD: a reference of the job's own, given back by the engine; NULL: no plan */
    struct tux_file *file; /* WARM, LOAD without a plan: the same */
    uint64_t conn_id;      /* WARM, MAKE: who waits */
    uint64_t offset, length; /* WARM */
    uint64_t begun_ms;     /* CHECK, FOLDER: before the first look */
    uint64_t begun_boot_ns; /* ... by CLOCK_BOOTTIME */
    bool same;             /* CHECK: every check held */
    struct tux_signature signature; /* LOAD: where the plan was found */
    struct tux_plan *loaded; /* LOAD: the same answer with its body in memory, or NULL */
    uint8_t *bytes;          /* LOAD without a plan: the whole file, or NULL */
    struct tux_recipe *recipe; /* MAKE: a reference of the job's own */
    struct tux_recipe_use use; /* MAKE: what is asked for; its path is the one below. FOLDER: where to look */
    struct tux_plan *made;     /* MAKE: with one reference; NULL: it is for the planner */
    uint32_t root;             /* FOLDER: where it is */
    uint64_t hash;             /* FOLDER: of its slot */
    struct tux_identity stamp; /* FOLDER: it is plain (`same`), and this is what it was when it was read */
    char path[];               /* MAKE, FOLDER */
};

struct tux_helper;

/* Give back what the job holds, and free it. */
void tux_job_free(struct tux_job *job);

/* NULL: no memory or no thread. `own` and `key` are for recipes, and outlive the helper. */
struct tux_helper *tux_helper_new(const char *const *roots, uint32_t n_roots, const struct tux_own *own,
                                  const uint64_t key[2]);
void tux_helper_free(struct tux_helper *helper); /* joins; jobs not taken back are freed with their references */
int tux_helper_fd(const struct tux_helper *helper); /* readable when jobs are done */
void tux_helper_submit(struct tux_helper *helper, struct tux_job *job);
struct tux_job *tux_helper_done(struct tux_helper *helper); /* takes the whole list, oldest first; empties the eventfd */

/* Repeat the checks of a plan: 1 all hold, 0 something changed, -1 (cached_only) cannot be said without blocking. */
int tux_checks_repeat(const struct tux_plan *plan, struct tux_roots *roots, uint64_t now_ms, bool cached_only);

#endif
