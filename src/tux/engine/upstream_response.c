/* SPDX-License-Identifier: MIT */
/* The response of a server, on its way to the client. */
#include "upstreams.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

void tux_upconn_cut(struct tux_engine *engine, struct tux_upconn *up, enum tux_upstream_failure failure)
{
    struct tux_upcall *call = up->call;
    tux_upserver_failed(engine, up->group, up->server, failure);
    tux_upconn_close(engine, up);
    tux_relay_fail(engine, call->conn, 502);
}

/* What the server sent is no answer to this request. It is not asked again: it may have acted upon it. */
static bool refuse(struct tux_engine *engine, struct tux_upconn *up)
{
    tux_upconn_cut(engine, up, TUX_UPFAIL_nonsense);
    return false;
}

/* -- its end ----------------------------------------------------------------------------------------------------- */

/* May the connection have another request? Only if this one is over on both sides, and nothing follows. */
static bool is_reusable(struct tux_upconn *up, bool surplus)
{
    if (!up->keep || surplus || up->rdhup || up->broken || up->out != NULL || !up->call->body_done ||
        up->group->config.keepalive == 0)
        return false;
    if (!up->readable)
        return true;
    uint8_t byte; /* the last read was as long as it could be */
    up->readable = false;
    return recv(up->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

/* All of the response has come. The connection is free before the exchange ends: the client's next request may need it. */
static bool complete(struct tux_engine *engine, struct tux_upconn *up, bool surplus)
{
    struct tux_conn *conn = up->call->conn;
    uint8_t *trailers = NULL;
    size_t trailers_len = 0;
    bool reusable = is_reusable(up, surplus);
    if (up->held != NULL) {
        if ((trailers = malloc(up->held_len)) != NULL)
            trailers_len = tux_forward_trailers(up->held, up->held_len, trailers);
        tux_upconn_unhold(engine, up);
    }
    tux_upconn_detach(engine, up);
    if (reusable)
        tux_uppool_put(engine, up);
    else
        tux_upconn_close(engine, up);
    tux_relay_end(engine, conn, trailers, trailers_len);
    free(trailers);
    return false;
}

void tux_upconn_ended(struct tux_engine *engine, struct tux_upconn *up, bool orderly)
{
    bool nothing = up->state == TUX_UP_HEAD && up->held_len == 0 && up->informed == 0;
    if (nothing) {
        tux_upconn_fail(engine, up, up->reused, TUX_UPFAIL_closed);
    } else if (up->state == TUX_UP_HEAD) {
        tux_upconn_cut(engine, up, TUX_UPFAIL_cut);
    } else if (orderly && (up->state == TUX_UP_TUNNEL || up->framing == TUX_FRAMING_CLOSE)) {
        complete(engine, up, false);
    } else {
        tux_upconn_cut(engine, up, TUX_UPFAIL_cut);
    }
}

/* -- its body ---------------------------------------------------------------------------------------------------- */

/* One call of the relay for all data in the buffer, however many chunks it came in. */
static bool feed_chunked(struct tux_engine *engine, struct tux_upconn *up, uint8_t *buf, size_t len)
{
    struct tux_upcall *call = up->call;
    enum tux_outcome outcome = TUX_MORE;
    uint8_t *data = NULL;
    size_t data_len = 0, pos = 0;
    while (pos < len && outcome == TUX_MORE) {
        size_t consumed;
        struct tux_span run;
        uint32_t trailer = tux_chunked_trailer_bytes(&up->decoder);
        outcome = tux_chunked_decode(&up->decoder, buf + pos, len - pos, &consumed, &run);
        if (outcome == TUX_MALFORMED)
            break;
        if (run.len > 0) {
            if (data == NULL)
                data = buf + pos + run.off;
            else
                memmove(data + data_len, buf + pos + run.off, run.len);
            data_len += run.len;
        }
        trailer = tux_chunked_trailer_bytes(&up->decoder) - trailer;
        if (trailer > 0 && !tux_upconn_hold(engine, up, buf + pos + consumed - trailer, trailer, true))
            return refuse(engine, up);
        pos += consumed;
    }
    if (data_len > 0)
        tux_relay_data(engine, call->conn, data, data_len);
    if (up->call != call)
        return false;
    if (outcome == TUX_MALFORMED)
        return refuse(engine, up);
    return outcome == TUX_MORE || complete(engine, up, pos < len);
}

static bool feed_body(struct tux_engine *engine, struct tux_upconn *up, uint8_t *buf, size_t len)
{
    struct tux_upcall *call = up->call;
    if (up->state == TUX_UP_BODY && up->framing == TUX_FRAMING_CHUNKED)
        return len == 0 || feed_chunked(engine, up, buf, len);
    size_t n = len;
    if (up->state == TUX_UP_BODY && up->framing != TUX_FRAMING_CLOSE)
        n = len < up->left ? len : (size_t)up->left;
    if (n > 0)
        tux_relay_data(engine, call->conn, buf, n);
    if (up->call != call)
        return false;
    if (up->state != TUX_UP_BODY || up->framing == TUX_FRAMING_CLOSE)
        return true;
    up->left -= n;
    return up->left > 0 || complete(engine, up, n < len);
}

/* -- its head ---------------------------------------------------------------------------------------------------- */

/* The fields that are passed on lie in place of all of them. */
static uint8_t *fields_of(uint8_t *buf, const struct tux_response *response, uint32_t *len)
{
    uint8_t *fields = buf + (response->n_fields > 0 ? response->fields[0].name.off : 0);
    *len = (uint32_t)tux_forward_response(buf, response, fields);
    return fields;
}

/* A head with 1xx, which another one follows. */
static bool inform(struct tux_engine *engine, struct tux_upconn *up, uint8_t *buf)
{
    const struct tux_response *response = &engine->upstreams->response;
    struct tux_upcall *call = up->call;
    if (++up->informed > TUX_MAX_INFORMATIONAL)
        return refuse(engine, up);
    if (response->status == 101) {
        if (!tux_forward_upgrades(buf, response, &call->head))
            return refuse(engine, up);
        up->state = TUX_UP_TUNNEL;
        call->answered = true;
        tux_upserver_worked(up->server);
        uint32_t len;
        const uint8_t *fields = fields_of(buf, response, &len);
        tux_relay_upgrade(engine, call->conn, fields, len);
    } else if (response->status == 100) { /* the relay's own: said when the body is asked for */
        call->waits_continue = false;
        tux_upconn_offer_room(engine, up);
    } else {
        call->answered = true;
        uint32_t len;
        uint16_t status = response->status;
        const uint8_t *fields = fields_of(buf, response, &len);
        tux_relay_inform(engine, call->conn, status, fields, len);
    }
    return up->call == call;
}

/* A head that names a file. Its connection is not needed any more, unless the file does not count. */
static void answer_with_file(struct tux_engine *engine, struct tux_upconn *up, const struct tux_relay_head *head, bool surplus)
{
    struct tux_conn *conn = up->call->conn;
    const struct tux_accel_rules *rules = &up->group->accel;
    bool over = up->framing == TUX_FRAMING_NONE || (up->framing == TUX_FRAMING_LENGTH && up->left == 0);
    if (over && tux_accel_applies(rules, head->fields, head->fields_len)) {
        bool reusable = is_reusable(up, surplus);
        tux_upconn_detach(engine, up);
        if (reusable)
            tux_uppool_put(engine, up);
        else
            tux_upconn_close(engine, up);
    }
    tux_accel_answer(engine, conn, rules, head);
}

/* The final head. */
static bool answer(struct tux_engine *engine, struct tux_upconn *up, uint8_t *buf, bool surplus)
{
    const struct tux_response *response = &engine->upstreams->response;
    struct tux_upcall *call = up->call;
    struct tux_relay_head head = {
        .status = response->status,
        .reason = buf + response->reason.off,
        .reason_len = response->reason.len,
        .length = -1,
        .has_date = (response->seen & 1u << TUX_RESPONSE_DATE) != 0,
        .has_server = (response->seen & 1u << TUX_RESPONSE_SERVER) != 0,
        .trailers = response->framing == TUX_FRAMING_CHUNKED,
    };
    up->state = TUX_UP_BODY;
    up->framing = response->framing;
    up->left = response->framing == TUX_FRAMING_LENGTH ? response->content_length : 0;
    up->keep = response->keep_alive;
    call->answered = true;
    tux_upserver_worked(up->server);
    if (response->framing == TUX_FRAMING_LENGTH || (response->framing == TUX_FRAMING_NONE && response->has_length))
        head.length = (int64_t)response->content_length;
    uint32_t named = response->seen & (1u << TUX_RESPONSE_X_ACCEL_REDIRECT | 1u << TUX_RESPONSE_X_SENDFILE);
    head.fields = fields_of(buf, response, &head.fields_len);
    if (named == 0)
        tux_relay_answer(engine, call->conn, &head);
    else
        answer_with_file(engine, up, &head, surplus);
    return up->call == call;
}

bool tux_upconn_feed(struct tux_engine *engine, struct tux_upconn *up, uint8_t *buf, size_t len, size_t seen)
{
    const struct tux_response *response = &engine->upstreams->response;
    while (up->state == TUX_UP_HEAD) { /* at most TUX_MAX_INFORMATIONAL + 1 rounds */
        if (len == 0)
            return true;
        enum tux_outcome outcome = tux_response_scan(buf, len, seen, up->call->is_head, &engine->upstreams->response);
        if (outcome == TUX_MALFORMED)
            return refuse(engine, up);
        if (outcome == TUX_MORE) {
            if (!tux_upconn_hold(engine, up, buf, len, false))
                return refuse(engine, up);
            up->held_seen = up->held_len;
            return true;
        }
        size_t head_len = response->length;
        if (!(response->status < 200 ? inform(engine, up, buf) : answer(engine, up, buf, len > head_len)))
            return false;
        buf += head_len;
        len -= head_len;
        seen = 0;
    }
    return feed_body(engine, up, buf, len);
}
