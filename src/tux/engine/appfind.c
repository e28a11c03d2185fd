/* SPDX-License-Identifier: MIT */
/* Files of the site that an application wants to know about: they are found as for a client, and the process gets a
 * descriptor that it can do no harm with. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "accel.h"
#include "appfd.h"
#include "apps.h"

/* The body of a plan in a file of its own, which nobody can change any more; -1: it cannot be had. */
static int in_memory(const struct tux_plan *plan)
{
    int fd = memfd_create("tux-object", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    bool whole = plan->body_len == 0 || pwrite(fd, plan->body, plan->body_len, 0) == (ssize_t)plan->body_len;
    whole = whole && fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0;
    /* Opened for reading, or kernels before 6.7 would not let it be mapped: it could have been for writing. */
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int readable = whole ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    close(fd);
    return readable;
}

/* Give the process a descriptor of the plan's body. False: it cannot be had, or the process does not take those it got. */
static bool give_descriptor(struct tux_applink *link, const struct tux_plan *plan)
{
    if (plan->file != NULL)
        return tux_appfd_send(link->side_fd, plan->file->fd) == 0;
    int fd = in_memory(plan);
    bool given = fd >= 0 && tux_appfd_send(link->side_fd, fd) == 0;
    if (fd >= 0)
        close(fd);
    return given;
}

static void tell(struct tux_engine *engine, struct tux_conn *conn, struct tux_plan *plan)
{
    struct tux_apprequest *request = conn->exchange->relay->peer;
    struct tux_applink *link = request->link;
    struct tux_accel_facts facts = {.type_len = 0};
    struct tux_app_found found = {.record = {.kind = TUX_APP_FOUND,
                                             .status = plan == NULL ? 503 : plan->status,
                                             .tag = request->tag,
                                             .serial = request->serial}};
    if (plan != NULL && plan->file == NULL)
        tux_ask_remember(engine, &request->looks, plan);
    if (plan != NULL && plan->status == 200)
        tux_accel_describe(plan, &facts);
    uint32_t size = (uint32_t)sizeof found + facts.type_len + facts.etag_len;
    uint8_t *at = tux_ring_reserve(&link->requests, size);
    if (at == NULL) { /* a process that reads nothing */
        tux_relay_fail(engine, conn, 503);
        return;
    }
    if (plan != NULL && plan->status == 200) {
        found.size = plan->body_len;
        found.modified_ns = facts.modified_ns;
        found.type_len = facts.type_len;
        found.etag_len = facts.etag_len;
        if (give_descriptor(link, plan))
            found.number = ++link->given;
        else
            found.record.status = 503;
    }
    memcpy(at, &found, sizeof found);
    if (found.type_len > 0)
        memcpy(at + sizeof found, facts.type, found.type_len);
    if (found.etag_len > 0)
        memcpy(at + sizeof found + found.type_len, facts.etag, found.etag_len);
    tux_ring_commit(&link->requests, size);
    tux_applink_touch(link);
}

bool tux_apprequest_lookup(struct tux_engine *engine, struct tux_apprequest *request, const uint8_t *path, uint32_t len)
{
    struct tux_conn *conn = request->conn;
    const struct tux_relay *relay = conn->exchange->relay;
    if (relay->answered || relay->planned != NULL)
        return false;
    if (!tux_accel_lookup(engine, conn, path, len, tell, &request->looks))
        tell(engine, conn, NULL);
    return true;
}
