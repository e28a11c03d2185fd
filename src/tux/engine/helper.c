/* SPDX-License-Identifier: MIT */
#include "helper.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "folders.h"

#define TUX_WARM_BYTES 65536u /* one pread: the disk's own read-ahead does the rest */

struct tux_helper {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wanted;
    struct tux_job *todo, **todo_tail; /* under mutex */
    struct tux_job *done, **done_tail; /* under mutex */
    bool stop;                         /* under mutex */
    int event_fd;
    struct tux_roots *roots;           /* the helper thread's own */
    const struct tux_own *own;
    const uint64_t *key;
    uint8_t scratch[TUX_WARM_BYTES]; /* the body of a small file fits, too */
};

int tux_checks_repeat(const struct tux_plan *plan, struct tux_roots *roots, uint64_t now_ms, bool cached_only)
{
    for (uint32_t i = 0; i < plan->n_checks; i++) {
        const struct tux_check *check = &plan->checks[i];
        struct tux_found found;
        if (!tux_files_look(roots, check->root, check->path, check->path_len, now_ms, cached_only, &found))
            return -1;
        if (!tux_found_equal(&found, &check->expected))
            return 0;
    }
    return 1;
}

/* So many bytes of the file, if it is still what it was after they were read; NULL: they are not to be had. */
static uint8_t *load(const struct tux_file *file, uint64_t offset, uint64_t length)
{
    uint8_t *bytes = malloc(length);
    if (bytes != NULL && tux_file_read(file, offset, length, bytes) && tux_file_is_same(file))
        return bytes;
    free(bytes);
    return NULL;
}

/* The plan with its body in memory, or in a frozen copy. */
static struct tux_plan *load_plan(const struct tux_plan *plan)
{
    struct tux_plan *loaded = NULL;
    bool freezes = plan->body_len >= TUX_FREEZE_BYTES;
    uint8_t *body = freezes ? NULL : load(plan->file, plan->body_offset, plan->body_len);
    int fd = freezes ? tux_file_freeze(plan->file, plan->body_offset, plan->body_len) : -1;
    if (body != NULL || fd >= 0) {
        struct tux_plan_parts parts = {.status = plan->status,
                                       .flags = plan->flags,
                                       .head = plan->head,
                                       .head_len = plan->head_len,
                                       .body = body,
                                       .body_len = plan->body_len,
                                       .fd = fd,
                                       .expires_ms = plan->expires_ms,
                                       .checks = plan->checks,
                                       .n_checks = plan->n_checks};
        loaded = tux_plan_new(&parts, plan->key);
        if (loaded != NULL)
            tux_plan_seal(loaded); /* here, not on the engine's thread */
    }
    free(body);
    return loaded;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static void work(struct tux_helper *helper, struct tux_job *job)
{
    if (job->kind == TUX_JOB_FOLDER) {
        job->begun_ms = now_ms();
        job->same = tux_folder_read(helper->roots, job->root, job->path, job->use.path_len, job->begun_ms,
                                    job->use.wall_ms, &job->stamp);
        return;
    }
    if (job->kind == TUX_JOB_MAKE) {
        job->use.now_ms = now_ms();
        const struct tux_recipe_tools tools = {.roots = helper->roots,
                                               .own = helper->own,
                                               .key = helper->key,
                                               .scratch = helper->scratch,
                                               .scratch_bytes = sizeof helper->scratch};
        tux_recipe_make(&job->use, &tools, &job->made); /* what it is not is NULL */
        return;
    }
    if (job->kind == TUX_JOB_LOAD) {
        if (job->plan != NULL)
            job->loaded = load_plan(job->plan);
        else
            job->bytes = load(job->file, 0, job->file->identity.size);
        return;
    }
    if (job->kind == TUX_JOB_CHECK) {
        struct timespec now;
        clock_gettime(CLOCK_BOOTTIME, &now);
        job->begun_boot_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        job->begun_ms = now_ms();
        job->same = tux_checks_repeat(job->plan, helper->roots, job->begun_ms, false) == 1;
        return;
    }
    for (uint64_t at = 0; at < job->length; at += TUX_WARM_BYTES) {
        uint64_t left = job->length - at;
        if (pread(job->file->fd, helper->scratch, left < TUX_WARM_BYTES ? left : TUX_WARM_BYTES,
                  (off_t)(job->offset + at)) <= 0)
            break; /* shorter now, or broken: the sender will find out */
    }
}

static void *run(void *arg)
{
    struct tux_helper *helper = arg;
    pthread_mutex_lock(&helper->mutex);
    while (!helper->stop) {
        struct tux_job *job = helper->todo;
        if (job == NULL) {
            pthread_cond_wait(&helper->wanted, &helper->mutex);
            continue;
        }
        helper->todo = job->next;
        if (helper->todo == NULL)
            helper->todo_tail = &helper->todo;
        pthread_mutex_unlock(&helper->mutex);
        work(helper, job);
        pthread_mutex_lock(&helper->mutex);
        job->next = NULL;
        *helper->done_tail = job;
        helper->done_tail = &job->next;
        uint64_t one = 1;
        if (write(helper->event_fd, &one, sizeof one) < 0) {
            /* Only when the counter is at its end: then it is readable all the same. */
        }
    }
    pthread_mutex_unlock(&helper->mutex);
    return NULL;
}

struct tux_helper *tux_helper_new(const char *const *roots, uint32_t n_roots, const struct tux_own *own,
                                  const uint64_t key[2])
{
    struct tux_helper *helper = calloc(1, sizeof *helper);
    if (helper == NULL)
        return NULL;
    helper->todo_tail = &helper->todo;
    helper->done_tail = &helper->done;
    helper->own = own;
    helper->key = key;
    helper->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    helper->roots = tux_roots_new();
    bool ready = helper->event_fd >= 0 && helper->roots != NULL;
    for (uint32_t i = 0; ready && i < n_roots; i++)
        ready = tux_roots_add(helper->roots, roots[i]) == (int)i;
    pthread_mutex_init(&helper->mutex, NULL);
    pthread_cond_init(&helper->wanted, NULL);
    if (ready) {
        /* Signals belong to the thread that Python knows. */
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        ready = pthread_create(&helper->thread, NULL, run, helper) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (!ready) {
        if (helper->event_fd >= 0)
            close(helper->event_fd);
        tux_roots_free(helper->roots);
        pthread_mutex_destroy(&helper->mutex);
        pthread_cond_destroy(&helper->wanted);
        free(helper);
        return NULL;
    }
    return helper;
}

void tux_job_free(struct tux_job *job)
{
    if (job->plan != NULL)
        tux_plan_unref(job->plan);
    if (job->file != NULL)
        tux_file_unref(job->file);
    if (job->loaded != NULL)
        tux_plan_unref(job->loaded);
    if (job->made != NULL)
        tux_plan_unref(job->made);
    if (job->recipe != NULL)
        tux_recipe_unref(job->recipe);
    free(job->bytes);
    free(job);
}

void tux_helper_free(struct tux_helper *helper)
{
    if (helper == NULL)
        return;
    pthread_mutex_lock(&helper->mutex);
    helper->stop = true;
    pthread_cond_signal(&helper->wanted);
    pthread_mutex_unlock(&helper->mutex);
    pthread_join(helper->thread, NULL);
    for (struct tux_job *list = helper->todo; list != NULL || helper->done != NULL;) {
        if (list == NULL) {
            list = helper->done;
            helper->done = NULL;
        }
        struct tux_job *next = list->next;
        tux_job_free(list);
        list = next;
    }
    close(helper->event_fd);
    tux_roots_free(helper->roots);
    pthread_mutex_destroy(&helper->mutex);
    pthread_cond_destroy(&helper->wanted);
    free(helper);
}

int tux_helper_fd(const struct tux_helper *helper)
{
    return helper->event_fd;
}

void tux_helper_submit(struct tux_helper *helper, struct tux_job *job)
{
    job->next = NULL;
    pthread_mutex_lock(&helper->mutex);
    *helper->todo_tail = job;
    helper->todo_tail = &job->next;
    pthread_cond_signal(&helper->wanted);
    pthread_mutex_unlock(&helper->mutex);
}

struct tux_job *tux_helper_done(struct tux_helper *helper)
{
    uint64_t count;
    if (read(helper->event_fd, &count, sizeof count) < 0)
        return NULL;
    pthread_mutex_lock(&helper->mutex);
    struct tux_job *list = helper->done;
    helper->done = NULL;
    helper->done_tail = &helper->done;
    pthread_mutex_unlock(&helper->mutex);
    return list;
}
