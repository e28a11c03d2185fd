/* SPDX-License-Identifier: MIT */
/* Records of an application's process: whatever it writes, what is accepted holds what the header promises. And the
 * process's half: records of requests. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "appwire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t scratch[TUX_APP_SCRATCH_BYTES];
    struct tux_app_answer_view view;
    struct tux_app_request_view request;
    struct tux_app_found_view found;
    uint8_t *payload = malloc(size + 1); /* of the exact size, so that a look beyond it is found */
    must(payload != NULL);
    if (size > 0)
        memcpy(payload, data, size);
    if (tux_appwire_answer(payload, (uint32_t)size, scratch, &view)) {
        must(view.record.kind >= TUX_APP_ANSWER && view.record.kind <= TUX_APP_FORGET);
        must(view.fields_len <= size && view.fields_len <= TUX_MAX_APP_FIELDS_BYTES);
        must(view.record.kind != TUX_APP_ANSWER || (view.record.status >= 200 && view.record.status <= 999));
        must(view.length >= -1);
        bool named = view.record.kind == TUX_APP_OBJECT || view.record.kind == TUX_APP_LOOKUP;
        must(named == (view.path != NULL));
        if (named) {
            must(view.path >= scratch && view.path + view.path_len <= scratch + sizeof scratch);
            must(view.path[0] == '/' && memchr(view.path, 0, view.path_len) == NULL);
        }
        if (view.fields_len > 0) {
            must(view.fields == scratch && scratch[view.fields_len - 1] == '\n');
            for (uint32_t i = 0; i < view.fields_len; i++) {
                must(scratch[i] != 0);
                must((scratch[i] == '\r') == (i + 1 < view.fields_len && scratch[i + 1] == '\n'));
                /* No line that ends the head, and none that continues another one. */
                must(scratch[i] != '\n' || i + 1 == view.fields_len ||
                     (scratch[i + 1] != '\r' && scratch[i + 1] != ' ' && scratch[i + 1] != '\t'));
            }
        }
        if (view.body != NULL && view.record.kind != TUX_APP_CONSUMED && view.record.n > 0)
            must(view.body >= payload && view.body + view.record.n <= payload + size);
    }
    if (tux_appwire_request(payload, (uint32_t)size, &request)) {
        must(request.body + request.request.record.n <= payload + size);
        for (uint32_t i = 0; i < request.request.n_fields; i++)
            must(request.fields[i].name + (uint32_t)request.fields[i].name_len <= request.request.head_len);
    }
    if (tux_appwire_found(payload, (uint32_t)size, &found))
        must(found.etag + found.found.etag_len == payload + size);
    free(payload);
    return 0;
}
