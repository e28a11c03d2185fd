/* SPDX-License-Identifier: MIT */
/* Recipes in the engine: learnt from replies, used on a miss, on the helper thread where that could block. */
#include "core.h"

#include <stdlib.h>
#include <string.h>

#include "origin.h"
#include "path.h"

/* Where the file of a request would be found. */
struct place {
    uint32_t route;
    uint8_t path[TUX_MAX_HEAD_BYTES]; /* decoded */
    size_t path_len;
    const char *file; /* in path: below the root, without a leading slash */
    size_t file_len;
};

/* False: the request is none that a recipe could be for. */
static bool find_place(const struct tux_engine *engine, const struct tux_head *head, const uint8_t *bytes,
                       struct place *place)
{
    const struct tux_chain *chain = NULL;
    if (!head->is_signed || engine->config.routes == NULL ||
        (head->method != TUX_METHOD_GET && head->method != TUX_METHOD_HEAD) ||
        tux_path_decode(bytes + head->path.off, head->path.len, place->path, &place->path_len, NULL) != 0)
        return false;
    place->route = tux_routes_match(engine->config.routes, bytes + head->host.off, head->host.len, place->path,
                                    place->path_len, &chain);
    if (place->route == TUX_NO_ROUTE || (chain != NULL && chain->steps[0].origin != TUX_ORIGIN_PLANNER))
        return false;
    /* A folder; or a segment that begins with a dot: whether it is hidden is for the planner to say. */
    const char *path = (const char *)place->path;
    size_t mount = chain == NULL ? 0 : chain->mount_len;
    if (place->path_len < mount + 2 || path[mount] != '/' || path[place->path_len - 1] == '/' ||
        memmem(path, place->path_len, "/.", 2) != NULL)
        return false;
    place->file = path + mount + 1;
    place->file_len = place->path_len - mount - 1;
    return true;
}

/* The recipe for a file; NULL: there is none. */
static struct tux_recipe *find_recipe(const struct tux_engine *engine, const struct place *place)
{
    char key[TUX_RECIPE_KEY_BYTES];
    for (enum tux_recipe_scope scope = TUX_RECIPE_ALL; scope < TUX_RECIPE_SCOPES; scope++) {
        size_t len = tux_recipe_key(scope, place->file, place->file_len, key);
        struct tux_recipe *found = len == 0 ? NULL : tux_recipes_find(engine->recipes, place->route, key, len);
        if (found != NULL)
            return found;
    }
    return NULL;
}

void tux_recipes_learn(struct tux_engine *engine, struct tux_conn *conn, const struct tux_reply_view *view)
{
    const struct tux_reply_record *record = &view->record;
    struct place place;
    if (record->recipe.head_len == 0 || record->status != 200 || record->recipe.root >= engine->config.n_roots ||
        (record->flags & ~TUX_PLAN_NO_BODY) != (record->flags & (TUX_PLAN_REMEMBER | TUX_PLAN_PUBLISH)) ||
        record->recipe.scope >= TUX_RECIPE_SCOPES || !tux_exchange_scan(engine, conn) ||
        !find_place(engine, &engine->head, conn->exchange->head, &place) ||
        (size_t)(place.file - (const char *)place.path) != record->recipe.mount_len + 1)
        return;
    uint32_t flags = record->flags & (TUX_PLAN_REMEMBER | TUX_PLAN_PUBLISH);
    char key[TUX_RECIPE_KEY_BYTES];
    size_t len = tux_recipe_key(record->recipe.scope, place.file, place.file_len, key);
    if (len > 0 && tux_recipes_add(engine->recipes, place.route, key, len, flags, &record->recipe, view->head))
        tux_count(&engine->stats.recipes, 1);
}

/* Have the helper thread read the folder of the file. */
static void read_folder(struct tux_engine *engine, const struct tux_recipe_use *use, uint64_t hash, size_t folder_len)
{
    struct tux_job *job = calloc(1, sizeof *job + folder_len);
    if (job == NULL)
        return; /* perhaps later */
    job->kind = TUX_JOB_FOLDER;
    job->root = use->recipe->say.root;
    job->hash = hash;
    memcpy(job->path, use->path, folder_len);
    job->use = (struct tux_recipe_use){.path = job->path, .path_len = folder_len, .wall_ms = use->wall_ms};
    tux_helper_submit(engine->helper, job);
}

static void look_at_folder(struct tux_engine *engine, struct tux_recipe_use *use)
{
    size_t folder_len;
    uint32_t root = use->recipe->say.root;
    struct tux_folder_slot *slot =
        tux_folders_slot(&engine->folders, engine->config.sign.key, root, use->path, use->path_len, &folder_len);
    if (tux_folder_is_plain(slot, engine->roots, root, use->path, folder_len, engine->now_ms)) {
        use->plain_until_ms = slot->until_ms;
        use->plain_dev = slot->stamp.dev;
    } else if (tux_folder_is_due(slot, engine->now_ms)) {
        read_folder(engine, use, slot->hash, folder_len);
    }
}

/* What to make of the request, if there is a recipe for it: use->path points into the place. */
static bool find_use(struct tux_engine *engine, const struct tux_head *head, const uint8_t *bytes, struct place *place,
                     struct tux_recipe_use *use)
{
    if (atomic_load_explicit(&engine->stats.recipes, memory_order_relaxed) == 0 ||
        !find_place(engine, head, bytes, place))
        return false;
    const struct tux_recipe *recipe = find_recipe(engine, place);
    if (recipe == NULL || (head->seen & recipe->say.absent) != 0)
        return false;
    *use = (struct tux_recipe_use){.recipe = recipe,
                                   .path = place->file,
                                   .path_len = place->file_len,
                                   .is_head = head->method == TUX_METHOD_HEAD,
                                   .cached_only = true,
                                   .now_ms = engine->now_ms,
                                   .wall_ms = engine->wall_ms};
    look_at_folder(engine, use);
    return true;
}

enum tux_recipe_result tux_recipes_use(struct tux_engine *engine, const struct tux_head *head, const uint8_t *bytes,
                                       struct tux_plan **plan)
{
    struct place place;
    struct tux_recipe_use use;
    const struct tux_recipe_tools tools = {.roots = engine->roots,
                                           .own = &engine->own,
                                           .key = engine->config.sign.key,
                                           .scratch = engine->copy,
                                           .scratch_bytes = sizeof engine->copy};
    if (!find_use(engine, head, bytes, &place, &use))
        return TUX_RECIPE_UNFIT;
    return tux_recipe_make(&use, &tools, plan);
}

bool tux_recipes_hand_over(struct tux_engine *engine, struct tux_conn *conn)
{
    struct place place;
    struct tux_recipe_use use;
    if (!tux_exchange_scan(engine, conn) ||
        !find_use(engine, &engine->head, conn->exchange->head, &place, &use))
        return false;
    struct tux_job *job = calloc(1, sizeof *job + use.path_len);
    if (job == NULL)
        return false;
    job->kind = TUX_JOB_MAKE;
    job->conn_id = tux_conn_id(conn);
    job->recipe = find_recipe(engine, &place);
    tux_recipe_ref(job->recipe);
    job->use = use;
    job->use.cached_only = false;
    memcpy(job->path, use.path, use.path_len);
    job->use.path = job->path;
    conn->state = TUX_CONN_WAIT;
    conn->exchange->asked_ms = engine->now_ms;
    tux_timer_set(&engine->wheel, &conn->timer, engine->now_ms + engine->config.limits.stall_timeout_ms);
    tux_helper_submit(engine->helper, job);
    return true;
}

void tux_recipes_made(struct tux_engine *engine, struct tux_job *job)
{
    struct tux_conn *conn = tux_conn_by_id(engine, job->conn_id);
    if (conn == NULL || conn->state != TUX_CONN_WAIT || conn->exchange == NULL)
        return; /* it has left, or its time was over */
    enum tux_step step;
    if (job->made != NULL) {
        conn->exchange->tier = 'r';
        tux_count(&engine->stats.made, 1);
        tux_ask_remember(engine, &conn->exchange->facts, job->made);
        step = tux_answer_exchange(engine, conn, job->made);
    } else {
        step = tux_ask_send(engine, conn);
    }
    if (step == TUX_STEP_CLOSE)
        tux_conn_close(engine, conn);
    else
        tux_conn_run(engine, conn);
}
