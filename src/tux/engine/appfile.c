/* SPDX-License-Identifier: MIT */
/* Files that processes send. Their descriptors come by the side socket; the engine keeps those that come again, so that they
 * can be named, and what is hot and of moderate size in memory, as it does with files of its own. */
#include <sys/stat.h>

#include "appfd.h"
#include "apps.h"

void tux_appfile_forget(struct tux_applink *link, uint32_t handle)
{
    struct tux_apphandle *kept = &link->handles[handle];
    if (kept->file != NULL)
        tux_file_unref(kept->file);
    *kept = (struct tux_apphandle){.file = NULL};
}

/* Has it rested long enough? A file may change again within the same tick of its clock, and its bytes in memory would be old. */
static bool is_settled(const struct tux_engine *engine, const struct tux_file *file)
{
    int64_t changed_ns = file->identity.mtime_ns > file->identity.ctime_ns ? file->identity.mtime_ns : file->identity.ctime_ns;
    return engine->wall_ms - changed_ns / 1000000 >= TUX_SETTLED_MS;
}

/* One more use of a file that is kept: when it is hot, the helper thread reads it. */
static void use(struct tux_engine *engine, struct tux_file *file)
{
    uint64_t size = file->identity.size;
    if (file->bytes != NULL || file->loading || size == 0 || size > TUX_LOAD_BYTES || file->uses++ < TUX_LOAD_AFTER_HITS)
        return;
    uint64_t loaded = atomic_load_explicit(&engine->stats.app_loaded, memory_order_relaxed);
    if (loaded + size <= TUX_APP_LOADED_BYTES && is_settled(engine, file))
        file->loading = tux_ask_load_file(engine, file);
}

/* The kept file, a reference for the caller; NULL: there is none. It is looked at each time: what was read of it may be old. */
static struct tux_file *take_kept(struct tux_engine *engine, struct tux_apphandle *kept)
{
    if (kept->file == NULL)
        return NULL;
    kept->used_ms = engine->now_ms;
    if (!tux_file_is_same(kept->file)) { /* it was, a moment ago, when the process named it: begin anew */
        struct tux_file *now = tux_file_again(kept->file);
        tux_file_unref(kept->file);
        kept->file = now;
        return now == NULL ? NULL : tux_file_ref(now);
    }
    use(engine, kept->file);
    return tux_file_ref(kept->file);
}

static void sweep_later(struct tux_engine *engine)
{
    if (!engine->apps->sweeps) {
        engine->apps->sweeps = true;
        tux_timer_set(&engine->wheel, &engine->apps->sweep, engine->now_ms + engine->apps->sweep_ms);
    }
}

bool tux_appfile_take(struct tux_engine *engine, struct tux_applink *link, const struct tux_app_answer_view *view,
                      struct tux_file **file)
{
    *file = NULL;
    if ((view->record.flags & TUX_APP_DESCRIPTOR) == 0) {
        *file = take_kept(engine, &link->handles[view->handle]);
        return true;
    }
    int fd;
    if (view->number != link->files + 1 || !tux_appfd_take(link->side_fd, &fd))
        return false;
    link->files++;
    *file = fd < 0 ? NULL : tux_file_new(fd);
    if (view->handle != TUX_APP_NO_HANDLE) {
        tux_appfile_forget(link, view->handle);
        if (*file != NULL && S_ISREG((*file)->identity.mode)) {
            link->handles[view->handle] = (struct tux_apphandle){.file = tux_file_ref(*file), .used_ms = engine->now_ms};
            sweep_later(engine);
        }
    }
    return true;
}

void tux_appfile_sweep(struct tux_engine *engine)
{
    struct tux_apps *apps = engine->apps;
    bool more = false;
    for (uint32_t i = 0; i < apps->n; i++) {
        for (struct tux_applink *link = apps->apps[i]->links; link != NULL; link = link->next) {
            for (uint32_t handle = 0; handle < TUX_APP_HANDLES && !link->dead; handle++) {
                struct tux_apphandle *kept = &link->handles[handle];
                if (kept->file == NULL)
                    continue;
                more = true;
                bool idle = engine->now_ms - kept->used_ms >= apps->unused_ms;
                if (kept->told || (!idle && tux_file_is_same(kept->file)))
                    continue;
                /* Changed or removed, it will not be named any more, and its space on the disk should be free. */
                kept->told = true;
                tux_applink_say(engine, link, NULL, TUX_APP_UNUSED, 0, handle);
            }
        }
    }
    apps->sweeps = false;
    if (more)
        sweep_later(engine);
}

void tux_appfile_end(struct tux_applink *link)
{
    for (uint32_t handle = 0; handle < TUX_APP_HANDLES; handle++)
        tux_appfile_forget(link, handle);
}
